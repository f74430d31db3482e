"""MRO's prior: the Modal Relation Graph (Eq. 1), and its ranks against those observed (Eq. 2).

Shapes: k modalities, P = k(k-1) paths, M masks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import permutations
from typing import Literal

import torch
from torch import Tensor, nn

from polymix.records import Recipe
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer
from polymix.train.supernet import SupernetTrainer

Power = Literal["0", "1", "2", "inf"]

BOUND = 3.0
"""Scores are scaled to stay within, so that no path is given up or certain: σ(3) is 0.95."""

SHARPNESS = 4.0
"""Of soft ranks: one standard deviation apart, 0.98 of a rank."""


class ModalRelationGraph(nn.Module):
    """Measurements of the paths to their scores s_e, Eq. 1's exponents.

    A path's measurements become c = α·CosSim + β·Var_g + γ·Var_a, each standardised across
    paths. One graph attention layer (Veličković et al. 2018) passes messages between learned
    vectors of the modalities, its attention coefficients shifted by c; an edge is then scored from
    both its ends, with the nonlinearity inside (Brody et al. 2022): in the form of 2018, all
    modalities would rank the others alike.

    Args:
        modalities: k.
        channels: of a modality's vector.
        graph: without it, scores are free numbers, one a path (Table 5, w/o MRG prior).
    """

    def __init__(self, modalities: int, *, channels: int = 8, graph: bool = True) -> None:
        super().__init__()
        self.k, self.graph = modalities, graph
        pairs = torch.tensor(list(permutations(range(modalities), 2))).T
        self.register_buffer("ends", pairs, persistent=False)
        if not graph:
            self.free = nn.Parameter(torch.zeros(pairs.shape[1]))
            return
        self.weights = nn.Parameter(torch.full((3,), 1 / 3))  # α, β, γ
        self.nodes = nn.Parameter(torch.randn(modalities, channels) * 0.1)
        self.map = nn.Linear(channels, channels, bias=False)
        self.own = nn.Linear(channels, channels, bias=False)
        self.attention = nn.Linear(2 * channels, 1, bias=False)
        self.edge = nn.Linear(2 * channels, channels)
        self.score = nn.Linear(channels, 1, bias=False)
        self.leaky = nn.LeakyReLU(0.2)

    def forward(self, measures: Tensor) -> Tensor:
        """Measurements `(3, P)` to scores s_e `(P,)`."""
        scores = self._raw(measures)
        return scores * (BOUND / scores.detach().abs().max().clamp(min=BOUND))

    def _raw(self, measures: Tensor) -> Tensor:
        if not self.graph:  # Table 5, without the MRG prior
            return self.free
        composite = self.weights @ standardised(measures)  # (P,): α·CosSim + β·Var_g + γ·Var_a
        asks, answers = self.ends[0], self.ends[1]  # type: ignore[index]
        h = self.map(self.nodes)
        coefficient = self.leaky(self.attention(torch.cat([h[asks], h[answers]], 1)))[:, 0]
        share = self.shares(coefficient + composite).reshape(self.k, self.k - 1, 1)
        # The paths are ordered by who asks: each row of `share` is one modality's.
        heard = (share * h[answers].reshape(self.k, self.k - 1, -1)).sum(1)
        # A vector of each modality, `(k, channels)`, after one layer of attention.
        h = nn.functional.elu(self.own(self.nodes) + heard)
        ends = self.leaky(self.edge(torch.cat([h[asks], h[answers]], 1)))
        scores: Tensor = composite + self.score(ends)[:, 0]
        return scores

    def shares(self, scores: Tensor) -> Tensor:
        """Eq. 1's p: the softmax of scores `(P,)` over all that one modality may ask."""
        return torch.softmax(scores.reshape(self.k, self.k - 1), 1).flatten()


class Prior:
    """What the graph foretells of masks, from the paths as they were measured last.

    Args:
        graph: measurements to scores.
        lr: of the graph.
        steps: of the graph, an update.

    Attributes:
        measures: CosSim, Var_g and Var_a of the paths, `(3, P)`; zeros before the first update.
    """

    def __init__(self, graph: ModalRelationGraph, lr: float, steps: int) -> None:
        self.graph, self.steps = graph, steps
        self.measures = torch.zeros(3, graph.k * (graph.k - 1))
        self.optimizer = make_optimizer(list(graph.parameters()), Recipe(lr=lr))

    @torch.no_grad()
    def scores(self) -> Tensor:
        """s_e of the paths, `(P,)`, as constants."""
        found: Tensor = self.graph(self.measures)
        return found

    def measure(self, similarity: Tensor, gradients: Tensor, attention: Tensor) -> None:
        """Take measurements of the paths, `(P,)` each; gradients that are nan stay as they were."""
        known = torch.where(gradients.isnan(), self.measures[1], gradients)
        self.measures = torch.stack([similarity, known, attention])

    def learn(
        self, masks: Tensor, performance: Tensor, power: Power, trainer: SupernetTrainer | None
    ) -> float:
        """Train the graph by the ranks observed (Eq. 2), and tell the rank term after it.

        Args:
            masks: `(M, P)` floats.
            performance: of the masks, `(M,)`, higher is better.
            power: p.
            trainer: steps; without one the graph stays as it is, and the term is told alone.
        """
        if trainer is not None and power != "0" and len(masks) > 1:
            for _ in range(self.steps):
                term = rank_term(masks @ self.graph(self.measures), performance, power)
                trainer.step(term, self.optimizer)
        # A mask's prior score is Σ_e m_e · s_e.
        return float(rank_term(masks @ self.scores(), performance, power))

    def state(self) -> dict[str, Tensor]:
        """The graph, its optimizer, and what was measured."""
        found = {f"graph/{name}": t.detach() for name, t in self.graph.state_dict().items()}
        return {
            **found, **optimizer_tensors(self.optimizer, "optimizer/graph"),
            "measures": self.measures,
        }  # fmt: skip

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        prefix = "graph/"
        self.graph.load_state_dict(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
        restore_optimizer(self.optimizer, tensors, "optimizer/graph")
        self.measures = tensors["measures"]


def standardised(measures: Tensor) -> Tensor:
    """Rows `(3, P)` with mean 0 and deviation 1; zeros where all are alike."""
    centred = measures - measures.mean(1, keepdim=True)
    deviation = centred.square().mean(1, keepdim=True).sqrt()
    return torch.where(deviation > 1e-12, centred / deviation.clamp(min=1e-12), 0.0)


def soft_ranks(scores: Tensor) -> Tensor:
    """Ranks `(M,)` of scores, 1 for the highest, as pairwise sigmoids: they have a gradient."""
    above = torch.sigmoid(scores[None, :] - scores[:, None])  # (M, M): how far j is above i
    return 1 + above.sum(1) - 0.5  # less its own comparison


def hard_ranks(scores: Tensor) -> Tensor:
    """Ranks `(M,)` of scores, 1 for the highest; ties share their average."""
    above = (scores[None, :] > scores[:, None]).sum(1)
    alike = (scores[None, :] == scores[:, None]).sum(1)
    return 1 + above + (alike - 1) / 2


def rank_term(prior: Tensor, performance: Tensor, power: Power) -> Tensor:
    """Eq. 2: how far the prior's order is from the one observed.

    Args:
        prior: scores of masks `(M,)`, with a gradient.
        performance: of the same masks, higher is better; constants.
        power: p; infinity takes the largest difference, 0 counts the differing ranks, and has
            no gradient.
    """
    if power == "0":
        return (hard_ranks(prior) != hard_ranks(performance)).to(prior.dtype).mean()
    # Ranks have no scale: without one, the prior is not driven apart for ever.
    spread = (prior - prior.mean()) / (prior.std(correction=0) + 1e-6)
    away = (soft_ranks(SHARPNESS * spread) - hard_ranks(performance)).abs()
    if power == "inf":
        return away.max()
    return (away ** int(power)).mean()


def hinge_term(losses: Tensor, prior: Tensor) -> Tensor:
    """Table 1's R, over pairs: a mask that the prior puts first should not lose more.

    Args:
        losses: of masks on the same rows, `(M,)`, with a gradient.
        prior: scores of the masks `(M,)`.
    """
    first, second = torch.triu_indices(len(losses), len(losses), 1, device=losses.device)
    if not len(first):
        return losses.new_zeros(())
    # The prior gives the direction alone: it has no gradient here, the losses have.
    order = torch.sign(prior[first] - prior[second]).detach()
    return torch.relu((losses[first] - losses[second]) * order).mean()


def spearman(one: Tensor, other: Tensor) -> float:
    """Spearman's ρ of two lists of scores; 0 where one of them has a single value."""
    a, b = hard_ranks(one).double(), hard_ranks(other).double()
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else 0.0
