"""BM-NAS's two updates: of the weights on training rows, of α, β and γ on validation rows.

    OfMixtures    both see the mixture of Eq. 1, 2 and 10, as in the paper
    AlongPaths    both see networks one at a time, with the supernet's weights

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

from polymix.data.batch import Batch
from polymix.methods.bm_nas.bilevel import unrolled_gradients
from polymix.methods.bm_nas.space import BMNASGenotype, Cell
from polymix.methods.bm_nas.supernet import Supernet
from polymix.train.supernet import SupernetTrainer


class Told(NamedTuple):
    """Of an update of the choices: the loss on validation rows, and which network was the best."""

    loss: Tensor
    won: tuple[BMNASGenotype, ...] = ()


class Updates(Protocol):
    """Both updates."""

    def weights(
        self, batch: Batch, draws: np.random.Generator, kept: Sequence[BMNASGenotype]
    ) -> Tensor:
        """ω, on a batch of training rows; the loss.

        Args:
            batch: of training rows.
            draws: decides.
            kept: the networks that validated best; none before choices move.
        """

    def choices(
        self,
        batch: Batch,
        other: Batch,
        draws: np.random.Generator,
        kept: Sequence[BMNASGenotype],
        still: bool,
    ) -> Told:
        """α, β and γ, on a batch of validation rows, without dropout.

        Args:
            batch: of training rows, for the second order's step ahead.
            other: of validation rows.
            draws: decides.
            kept: see `weights`.
            still: whether they stay as they are.
        """


@dataclass(frozen=True)
class _Both:
    """What both need.

    Attributes:
        net: the supernet.
        trainer: steps.
        optimizers: `weights` and `choices`.
    """

    net: Supernet
    trainer: SupernetTrainer
    optimizers: Mapping[str, torch.optim.Optimizer]

    def loss(self, batch: Batch, path: Sequence[Cell] | None) -> Tensor:
        """Of a path, or of the mixture."""
        self.net.path = path
        output = self.net.fuse(batch.inputs, batch.present)  # type: ignore[arg-type]
        self.net.path = None
        assert batch.target is not None
        return self.trainer.objective(output, batch.target, batch.present, (1.0, {}))

    def train(self, batch: Batch, path: Sequence[Cell] | None) -> Tensor:
        """One step of the weights; the loss."""
        self.net.train()
        loss = self.loss(batch, path)
        self.trainer.step(loss, self.optimizers["weights"])
        return loss.detach()


@dataclass(frozen=True)
class AlongPaths(_Both):
    """See above.

    Attributes:
        paths: drawn for a batch of validation rows.
    """

    paths: int

    def weights(
        self, batch: Batch, draws: np.random.Generator, kept: Sequence[BMNASGenotype]
    ) -> Tensor:
        """See `Updates.weights`."""
        path = self.net.draw(draws)
        if kept and draws.random() < 0.5:
            path = list(kept[int(draws.integers(len(kept)))].cells)
        return self.train(batch, path)

    def choices(
        self,
        batch: Batch,  # noqa: ARG002
        other: Batch,
        draws: np.random.Generator,
        kept: Sequence[BMNASGenotype],
        still: bool,
    ) -> Told:
        """See `Updates.choices`; the loss is the mean of those drawn."""
        self.net.eval()
        drawn = [self.net.draw(draws) for _ in range(self.paths)]
        paths = [*drawn, *(list(genotype.cells) for genotype in kept)]
        with torch.no_grad():
            losses = torch.stack([self.loss(other, path) for path in paths])
        best = paths[int(losses.argmin())]
        if not still:
            mean = torch.stack([self.net.log_share(path) for path in drawn]).mean()
            self.trainer.step(mean - self.net.log_share(best), self.optimizers["choices"])
        return Told(losses[: self.paths].mean(), (self.net.space.genotype(best),))


@dataclass(frozen=True)
class OfMixtures(_Both):
    """See above.

    Attributes:
        second_order: whether choices see one step of the weights ahead.
    """

    second_order: bool

    def weights(
        self,
        batch: Batch,
        draws: np.random.Generator,  # noqa: ARG002
        kept: Sequence[BMNASGenotype],  # noqa: ARG002
    ) -> Tensor:
        """See `Updates.weights`."""
        return self.train(batch, None)

    def choices(
        self,
        batch: Batch,
        other: Batch,
        draws: np.random.Generator,  # noqa: ARG002
        kept: Sequence[BMNASGenotype],  # noqa: ARG002
        still: bool,
    ) -> Told:
        """See `Updates.choices`."""
        self.net.eval()
        if still:
            with torch.no_grad():
                return Told(self.loss(other, None))
        if not self.second_order:
            loss = self.loss(other, None)
            self.trainer.step(loss, self.optimizers["choices"])
            return Told(loss.detach())
        lr = self.optimizers["weights"].param_groups[0]["lr"]
        loss = unrolled_gradients(self.net, self.trainer.objective, batch, other, lr)
        self.optimizers["choices"].step()
        return Told(loss)
