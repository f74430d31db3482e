"""BM-NAS's supernet: every choice at once, weighed by α, β and γ.

An edge is Identity or Zero, weighed by the softmax of its two logits (Eq. 1). Which k nodes enter
a Cell is weighed by the product of their Identity weights, over all tuples that Eq. 3 may choose,
to a sum of one; each input of the Cell is the mean of the nodes that a tuple has in that place. So
x and y are two tensors (Eq. 2 alone would give one), and what remains when one tuple has all the
weight is the derived network. A step's inputs have edges of their own each, as the same node may be
taken twice; its operations are weighed by the softmax of γ (Eq. 10).

The shares are a distribution over networks, too: `draw` takes a path, one option of every choice,
and a supernet whose `path` is set is that network, with the shared weights.

All weights are sharpened alike by a temperature, which moves no argmax.
Shapes: E tuples, V nodes before a Cell, k inputs, M steps, P operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polymix.data.schema import Schema
from polymix.errors import GenotypeError, UsageError
from polymix.genotype import Block
from polymix.methods.bm_nas.model import CellModel, check_operations
from polymix.methods.bm_nas.operations import FusionCell
from polymix.methods.bm_nas.space import BMNASGenotype, BMNASSpace, Cell, Step

INITIAL = 1e-3
"""Standard deviation of the logits at the start."""


class Supernet(CellModel):
    """All networks of a space.

    Args:
        space: of what.
        schema: what comes in and out.

    Attributes:
        temperature: divides all logits; at 1 the softmax is as it is.
        path: the Cells that are taken alone; none for the mixture.

    Raises:
        GenotypeError: it cannot be built on this schema; every problem is told.
    """

    def __init__(self, space: BMNASSpace, schema: Schema) -> None:
        check_operations(space.operations)
        names, k = list(space.operations), space.inputs
        cells = [
            FusionCell([names] * space.steps, space.channels, k, space.dropout)
            for _ in range(space.cells)
        ]
        super().__init__(
            tuple(space.backbones.items()),
            space.features,
            range(space.nodes),
            space.channels,
            space.length,
            space.dropout,
            cells,
            schema,
        )
        self.space, self.temperature = space, 1.0
        self.path: Sequence[Cell] | None = None
        # Two logits an edge, Identity and Zero: α `(V, 2)` a Cell, β `(k, k + m, 2)` a step, and γ
        # `(M, P)` a Cell.
        self.alpha = nn.ParameterList(
            torch.randn(space.nodes + n, 2) * INITIAL for n in range(space.cells)
        )
        self.beta = nn.ParameterList(
            torch.randn(k, k + m, 2) * INITIAL
            for _ in range(space.cells)
            for m in range(space.steps)
        )
        self.gamma = nn.ParameterList(
            torch.randn(space.steps, len(names)) * INITIAL for _ in range(space.cells)
        )
        self._tuples = [torch.tensor(options) for options in space.tuples]

    def architecture(self) -> list[Tensor]:
        """α, β and γ."""
        return [*self.alpha, *self.beta, *self.gamma]

    def weights(self) -> list[Tensor]:
        """ω: all trained parameters but α, β and γ."""
        own = {id(p) for p in self.architecture()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in own]

    # What the choices weigh.

    def tuple_shares(self, n: int) -> Tensor:
        """How much each tuple of nodes weighs in a Cell, `(E,)`: Π α of Eq. 3, normalised."""
        # log of Identity's weight against Zero's, `(V,)` (Eq. 1): after the softmax, as the product
        # of two negative raw logits would beat that of two positive ones.
        identity = torch.log_softmax(self.alpha[n], -1)[:, 0]
        # Eq. 3's product over a tuple is a sum of logs, `(E,)`.
        scores = identity[self._tuples[n].to(identity.device)].sum(1)
        return torch.softmax(scores / self.temperature, 0)

    def node_shares(self, n: int) -> Tensor:
        """How much each node weighs in each place of a Cell's inputs, `(k, V)`."""
        shares, tuples = self.tuple_shares(n), self._tuples[n].to(self.alpha[n].device)
        # A node's weight in a place is the sum of the shares of all tuples that have it there.
        zeros = shares.new_zeros(tuples.shape[1], len(self.alpha[n]))
        return zeros.scatter_add(1, tuples.T, shares.expand(tuples.shape[1], -1))

    def step_shares(self, n: int, m: int) -> Tensor:
        """How much each of a Cell's nodes weighs in each input of a step, `(k, k + m)` (β)."""
        identity = torch.log_softmax(self.beta[n * self.space.steps + m], -1)[..., 0]
        return torch.softmax(identity / self.temperature, -1)

    def operation_shares(self, n: int, m: int) -> Tensor:
        """How much each of a step's operations weighs, `(P,)` (γ, Eq. 10)."""
        return torch.softmax(self.gamma[n][m] / self.temperature, 0)

    def wire(self, n: int, nodes: Mapping[int, Tensor]) -> Tensor:
        """A Cell's output, from the mixtures of all nodes before it, or along the path."""
        if self.path is not None:
            cell = self.path[n]
            alone: Tensor = self.cells[n](
                [nodes[i] for i in cell.inputs],
                lambda m, inner: [inner[i] for i in cell.steps[m].inputs],
                lambda m: cell.steps[m].operation,
            )
            return alone
        out: Tensor = self.cells[n](
            mix(self.node_shares(n), list(nodes.values())),
            lambda m, inner: mix(self.step_shares(n, m), inner),
            lambda m: self.operation_shares(n, m),
        )
        return out

    # What comes of it.

    @torch.no_grad()
    def derive(self) -> BMNASGenotype:
        """The network of the greatest weights (Eq. 3, 11)."""
        cells = []
        for n in range(self.space.cells):
            steps = []
            for m in range(self.space.steps):
                inputs = self.step_shares(n, m).argmax(-1).tolist()
                operation = self.space.operations[int(self.gamma[n][m].argmax())]
                steps.append(Step(inputs=tuple(inputs), operation=operation))
            chosen = self.space.tuples[n][int(self.tuple_shares(n).argmax())]
            cells.append(Cell(inputs=chosen, steps=tuple(steps)))
        return self.space.genotype(cells)

    @torch.no_grad()
    def draw(self, rng: np.random.Generator) -> list[Cell]:
        """A path: one option of every choice, drawn by its shares."""
        cells = []
        for n in range(self.space.cells):
            steps = []
            for m in range(self.space.steps):
                inputs = tuple(_drawn(row, rng) for row in self.step_shares(n, m))
                operation = self.space.operations[_drawn(self.operation_shares(n, m), rng)]
                steps.append(Step(inputs=inputs, operation=operation))
            chosen = self.space.tuples[n][_drawn(self.tuple_shares(n), rng)]
            cells.append(Cell(inputs=chosen, steps=tuple(steps)))
        return cells

    def log_share(self, path: Sequence[Cell]) -> Tensor:
        """The logarithm of the probability with which `draw` gives a path, a scalar."""
        taken = []
        for n, cell in enumerate(path):
            # Choices are drawn independently: their log-probabilities add up.
            taken.append(self.tuple_shares(n)[self.space.tuples[n].index(cell.inputs)])
            for m, step in enumerate(cell.steps):
                rows = self.step_shares(n, m)
                taken += [row[i] for row, i in zip(rows, step.inputs, strict=True)]
                place = self.space.operations.index(step.operation)
                taken.append(self.operation_shares(n, m)[place])
        return torch.stack(taken).log().sum()

    @torch.no_grad()
    def entropies(self) -> dict[str, float]:
        """How undecided the choices of α, β and γ are, on the mean: 1 is uniform, 0 decided."""
        every = [(n, m) for n in range(self.space.cells) for m in range(self.space.steps)]
        return {
            "alpha": _entropy([self.tuple_shares(n) for n in range(self.space.cells)]),
            "beta": _entropy([row for n, m in every for row in self.step_shares(n, m)]),
            "gamma": _entropy([self.operation_shares(n, m) for n, m in every]),
        }


def lay_out(
    blocks: Mapping[str, Block],
    counts: Mapping[str, int],
    features: Mapping[str, Sequence[int]],
    schema: Schema,
    **sizes: Any,
) -> BMNASSpace:
    """The space over backbones' features, once its supernet is sure to be built.

    Args:
        blocks: the backbones by modality.
        counts: how many features each of them has.
        features: those that Cells may take, by modality; all of a modality's where not given.
        schema: what comes in and out.
        sizes: the other attributes of `BMNASSpace`.

    Raises:
        UsageError: features or operations that there are not, or no such network; all problems.
    """
    chosen = {name: features.get(name, range(count)) for name, count in counts.items()}
    problems = [
        f"features: {name}: {blocks[name]} has features 0 to {counts[name] - 1}, "
        f"but got {list(indices)}"
        for name, indices in chosen.items()
        if not set(indices) <= set(range(counts[name]))
    ]
    try:
        space = BMNASSpace(blocks, [tuple(indices) for indices in chosen.values()], **sizes)
        if not problems:
            with torch.device("meta"):
                Supernet(space, schema)  # names what cannot be built
    except GenotypeError as error:
        problems += error.problems
    if problems:
        raise UsageError(problems)
    return space


def mix(shares: Tensor, nodes: Sequence[Tensor]) -> list[Tensor]:
    """Each row of shares `(k, V)` makes one tensor of V nodes `(B, L, C)`."""
    stacked = torch.stack(list(nodes))  # (V, B, L, C)
    mixed = (shares @ stacked.flatten(1)).reshape(len(shares), *stacked.shape[1:])
    return list(mixed.unbind(0))


def _drawn(shares: Tensor, rng: np.random.Generator) -> int:
    # By the cumulative shares, with the search's own generator: torch's random state is not moved.
    steps = shares.double().cumsum(0)
    return int((steps <= rng.random() * steps[-1]).sum().clamp(max=len(shares) - 1))


def _entropy(shares: Sequence[Tensor]) -> float:
    open_ones = [s for s in shares if len(s) > 1]
    each = [float(torch.special.entr(s).sum()) / math.log(len(s)) for s in open_ones]
    return sum(each) / len(each) if each else 0.0
