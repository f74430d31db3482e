"""BM-NAS's two updates: of the weights on training rows, of α, β and γ on validation rows.

    MixtureUpdates    both see the mixture of Eq. 1, 2 and 10, as in the paper
    PathUpdates       both see networks one at a time, with the supernet's weights

A mixture's weights adapt to one another, and an operation that learns slowly loses to Sum before it
is of use: on AV-MNIST what it derives is hardly better than chance (docs/benchmarks.md). So
weights are trained along paths: a network a batch, drawn by the shares of its choices (single-path
one-shot, Guo et al. 2020; uniformly until choices move), or, every other batch, one of those that
validated best (GreedyNAS, You et al. 2020). On a batch of validation rows some networks are drawn,
and α, β and γ follow the log-probability of the best of these and of the kept ones, over the mean
of those drawn: a policy gradient (Williams 1992) that is after the best network, not the best mean
(Petersen et al. 2021), as an operation is worth something with the right inputs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from polymix.data.batch import Batch
from polymix.methods.bm_nas.space import BMNASGenotype, Cell
from polymix.methods.bm_nas.supernet import Supernet
from polymix.nn.stack import Fuse
from polymix.train.modality_dropout import draw_hidden, hide
from polymix.train.objective import Objective
from polymix.train.supernet import SupernetTrainer


class Told(NamedTuple):
    """What an update of the choices tells: its validation loss, and the network that won."""

    loss: Tensor
    won: tuple[BMNASGenotype, ...] = ()


class Updates(Protocol):
    """The two updates of Algorithm 1."""

    def weights(
        self, batch: Batch, draws: np.random.Generator, kept: Sequence[BMNASGenotype]
    ) -> Tensor:
        """Update ω on a batch of training rows.

        Args:
            batch: of training rows.
            draws: decides which network is trained.
            kept: the networks that validated best; none before choices move.

        Returns:
            The training loss, a scalar.
        """

    def choices(
        self,
        batch: Batch,
        other: Batch,
        draws: np.random.Generator,
        kept: Sequence[BMNASGenotype],
        still: bool,
    ) -> Told:
        """Update α, β and γ on a batch of validation rows, without dropout.

        Args:
            batch: of training rows, for the second order's step ahead.
            other: of validation rows.
            draws: decides which networks are compared.
            kept: the networks that validated best.
            still: whether α, β and γ stay as they are, and losses alone are told.
        """


@dataclass(frozen=True)
class SupernetSteps:
    """A supernet, and one optimizer's step for its weights and one for its choices.

    Attributes:
        net: the supernet.
        trainer: steps.
        optimizers: `weights` and `choices`.
    """

    net: Supernet
    trainer: SupernetTrainer
    optimizers: Mapping[str, torch.optim.Optimizer]

    def loss(self, batch: Batch, path: Sequence[Cell] | None) -> Tensor:
        """The task's loss of one path's network, or of the mixture where there is no path."""
        # The supernet is a path's network for this pass alone.
        self.net.path = path
        output = self.net.fuse(batch.inputs, batch.present)  # type: ignore[arg-type]
        self.net.path = None
        assert batch.target is not None
        return self.trainer.objective(output, batch.target, batch.present, (1.0, {}))

    def train(self, batch: Batch, path: Sequence[Cell] | None) -> Tensor:
        """One step of the weights down the loss that is returned."""
        self.net.train()
        loss = self.loss(batch, path)
        self.trainer.step(loss, self.optimizers["weights"])
        return loss.detach()


@dataclass(frozen=True)
class PathUpdates:
    """Trains one network a batch, and moves the choices towards the best of several.

    Attributes:
        steps: of the supernet.
        paths: networks drawn for a batch of validation rows.
    """

    steps: SupernetSteps
    paths: int

    def weights(
        self, batch: Batch, draws: np.random.Generator, kept: Sequence[BMNASGenotype]
    ) -> Tensor:
        """Update ω along one path: drawn by its shares or, every other time, a kept one."""
        path = self.steps.net.draw(draws)
        if kept and draws.random() < 0.5:
            path = list(kept[int(draws.integers(len(kept)))].cells)
        return self.steps.train(batch, path)

    def choices(
        self,
        batch: Batch,  # noqa: ARG002
        other: Batch,
        draws: np.random.Generator,
        kept: Sequence[BMNASGenotype],
        still: bool,
    ) -> Told:
        """Update α, β and γ towards the best of the drawn and the kept; tells the drawn's mean."""
        net = self.steps.net
        net.eval()
        drawn = [net.draw(draws) for _ in range(self.paths)]
        paths = [*drawn, *(list(genotype.cells) for genotype in kept)]
        with torch.no_grad():
            # `(paths + kept,)`: all on the same rows, so that their differences are the networks'.
            losses = torch.stack([self.steps.loss(other, path) for path in paths])
        best = paths[int(losses.argmin())]
        if not still:
            mean = torch.stack([net.log_share(path) for path in drawn]).mean()
            # Down mean - best: the best path's log-probability rises over that of the drawn.
            self.steps.trainer.step(mean - net.log_share(best), self.steps.optimizers["choices"])
        return Told(losses[: self.paths].mean(), (net.space.genotype(best),))


@dataclass(frozen=True)
class MixtureUpdates:
    """Trains the mixture of all networks, and the choices down its validation loss.

    Attributes:
        steps: of the supernet.
        second_order: whether choices see one step of the weights ahead.
    """

    steps: SupernetSteps
    second_order: bool

    def weights(
        self,
        batch: Batch,
        draws: np.random.Generator,  # noqa: ARG002
        kept: Sequence[BMNASGenotype],  # noqa: ARG002
    ) -> Tensor:
        """Update ω down the mixture's training loss."""
        return self.steps.train(batch, None)

    def choices(
        self,
        batch: Batch,
        other: Batch,
        draws: np.random.Generator,  # noqa: ARG002
        kept: Sequence[BMNASGenotype],  # noqa: ARG002
        still: bool,
    ) -> Told:
        """Update α, β and γ down the mixture's validation loss, of now or of one step ahead."""
        net, choices = self.steps.net, self.steps.optimizers["choices"]
        net.eval()
        if still:
            with torch.no_grad():
                return Told(self.steps.loss(other, None))
        if not self.second_order:  # DARTS's first order: ω stands for its own optimum
            loss = self.steps.loss(other, None)
            self.steps.trainer.step(loss, choices)
            return Told(loss.detach())
        # A step of plain descent at ω's present rate, as in DARTS: Adam's is not differentiated.
        lr = self.steps.optimizers["weights"].param_groups[0]["lr"]
        loss = unrolled_gradients(net, self.steps.trainer.objective, batch, other, lr)
        choices.step()
        return Told(loss)


def unrolled_gradients(
    net: Supernet, objective: Objective, batch: Batch, other: Batch, lr: float
) -> Tensor:
    """Set the gradients of α, β, γ of L_val(ω - lr ∇L_train(ω)); exactly, not by differences.

    The second-order gradient of a bilevel search (DARTS, Liu et al. 2019, Eq. 6 and 7).

    Args:
        net: whose; its weights are left as they are.
        objective: the loss.
        batch: of training rows, for the step ahead.
        other: of validation rows.
        lr: of that step.

    Returns:
        The validation loss after that step.
    """
    module, choices = Fuse(net), net.architecture()
    own = {id(p) for p in net.weights()}
    named = {name: p for name, p in module.named_parameters() if id(p) in own}

    def loss_of(weights: Mapping[str, Tensor], rows: Batch) -> Tensor:
        assert rows.target is not None
        output = functional_call(module, dict(weights), (rows.inputs, rows.present))
        return objective(output, rows.target, rows.present, (1.0, {}))

    now = loss_of(named, batch)  # L_train(ω)
    # A weight that no row of the batch reads (an absent-token) has no gradient.
    steps = torch.autograd.grad(now, list(named.values()), create_graph=True, allow_unused=True)
    ahead = {  # ω' = ω - lr ∇L_train(ω), still a function of α, β and γ
        name: p if step is None else p - lr * step
        for (name, p), step in zip(named.items(), steps, strict=True)
    }
    loss = loss_of(ahead, other)  # L_val(ω')
    for choice, gradient in zip(choices, torch.autograd.grad(loss, choices), strict=True):
        choice.grad = gradient
    return loss.detach()


def hide_modalities(
    batch: Batch, objective: Objective, names: Sequence[str], share: float, rng: np.random.Generator
) -> Batch:
    """The batch with modalities hidden at random, never the last of a row's.

    Args:
        batch: of banked features.
        objective: knows the modalities' columns.
        names: of the modalities that the supernet reads.
        share: chance that one is hidden; at 0 the batch is returned as it is.
        rng: draws.
    """
    if not share:
        return batch
    assert batch.target is not None
    columns = objective.columns
    used = [columns[name] for name in names]
    return hide(batch, draw_hidden(len(batch.target), used, len(columns), share, rng))
