"""A neural network on frozen views of every modality: numeric embeddings, fusion, TabM."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymix import seeds
from polymix.comparators.tabular.inner import class_loss, holdout, left
from polymix.comparators.tabular.learner import SURE, Learner
from polymix.comparators.tabular.network_fusion import NETWORK_FUSIONS
from polymix.comparators.tabular.network_module import TabM
from polymix.comparators.tabular.network_table import NetworkTable
from polymix.comparators.tabular.network_training import (
    Schedule,
    Trained,
    Watch,
    member_loss,
    train,
)
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Target, Task
from polymix.errors import GenotypeError, did_you_mean
from polymix.nn.encoder import Options, check_sizes

UNWATCHED, UNWATCHED_EPOCHS = 10, 10
"""With fewer rows none is held out, and so many epochs are trained."""

WATCHED_SHARE = 0.5
"""Of the time, what the training that says when to stop may take: that on all rows follows."""

SPARED = 1.3
"""How much longer the training on all rows may take than the one before it lets expect."""

PASSES = 40
"""How often a fit of the usual length passes through its rows."""

PRODUCT, STEP = 3.5e-10, 5e-3
"""Seconds of training for a row's multiplication, and for a step whatever its rows."""


class Network(Learner):
    """TabM on fused views; rows held out of the training rows say after how many epochs to stop.

    Args:
        layouts: of the views.
        target: what is predicted.
        fusion: how views are joined: `concat`, `mean`, `max`, `gated`, `low-rank` or `attention`.
        channels: of a view, before they are joined and after.
        width: of hidden layers.
        layers: hidden layers.
        members: networks of shared weights.
        dropout: after each hidden layer.
        lr: learning rate.
        decay: weight decay.
        batch: rows of a step, at most.
        epochs: at most.
        frequencies: of a number's periodic embedding; zero gives it none.
        sigma: standard deviation of the frequencies, when they are drawn.
        dims: that an embedding is projected to; zero keeps it.
    """

    name: ClassVar[str] = "network"
    VERSION: ClassVar[int] = 1
    one_core: ClassVar[bool] = True

    def __init__(
        self,
        layouts: Sequence[Layout],
        target: Target,
        *,
        fusion: str = "concat",
        channels: int = 128,
        width: int = 128,
        layers: int = 1,
        members: int = 4,
        dropout: float = 0.1,
        lr: float = 0.005,
        decay: float = 0.03,
        batch: int = 128,
        epochs: int = 60,
        frequencies: int = 16,
        sigma: float = 0.3,
        dims: int = 64,
    ) -> None:
        super().__init__(layouts, target)
        if fusion not in NETWORK_FUSIONS:
            hint = did_you_mean(fusion, NETWORK_FUSIONS)
            raise GenotypeError(f"network: no fusion '{fusion}': {hint}")
        check_sizes(
            self.name, dropout, channels=channels, width=width, layers=layers, members=members,
            batch=batch, epochs=epochs,
        )  # fmt: skip
        if not (0 < lr <= 1 and decay >= 0 and frequencies >= 0 and sigma > 0 and dims >= 0):
            raise GenotypeError(
                "network: 0 < lr <= 1, decay >= 0, frequencies >= 0, sigma > 0 and dims >= 0 must "
                f"hold, but got lr={lr}, decay={decay}, frequencies={frequencies}, sigma={sigma}, "
                f"dims={dims}"
            )
        self.schedule = Schedule(epochs, batch, lr, decay)
        self.table = NetworkTable(layouts, dims)
        self.fusion, self.sizes = fusion, (channels, width, layers, members)
        self.dropout, self.frequencies, self.sigma = dropout, frequencies, sigma
        self.net = self._made().requires_grad_(False)

    def _made(self) -> TabM:
        """The network, untrained."""
        channels, width, layers, members = self.sizes
        return TabM(
            self.table.parts,
            self.sums,
            fusion=self.fusion,
            channels=channels,
            width=width,
            layers=layers,
            members=members,
            dropout=self.dropout,
            frequencies=self.frequencies,
            sigma=self.sigma,
        )

    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`."""
        return self._joined(self.net(self.table(sample)))

    def _joined(self, sums: Tensor) -> Tensor:
        """Members' sums `(E, B, S)` to those of their mean value or probability, double."""
        sums = sums.double()
        if self.regression:
            return sums.mean(0)
        if self.task is Task.MULTICLASS:
            logs = torch.log_softmax(sums, 2).logsumexp(0) - math.log(len(sums))
            return logs.clamp(min=-SURE)
        on, off = (functional.logsigmoid(one).logsumexp(0) for one in (sums, -sums))
        return (on - off).clamp(-SURE, SURE)

    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Train until the held-out loss stays, then for as many epochs on all rows."""
        self.table.fit(sample, seeds.derive(seed, "network table") % 2**31)
        x = self.table(sample)
        held = np.zeros(len(y), bool)
        if len(y) >= UNWATCHED:
            held = holdout(y, self.task, seeds.stream(seed, "network"))
        if held.any():
            found = self._watched(x, y, held, seed, deadline)
        else:
            epochs = min(UNWATCHED_EPOCHS, self.schedule.epochs)
            found = self._trained(x, y, epochs, seed, deadline)
        self.net.load_state_dict(found.net.state_dict())
        self.net.settle(x)
        return found.whole

    def _watched(
        self, x: Tensor, y: np.ndarray, held: np.ndarray, seed: int, deadline: float | None
    ) -> Trained:
        """Trained without the held-out rows `(N,)`, then with them, where there is time."""
        seen, unseen = torch.from_numpy(~held), x[torch.from_numpy(held)]

        @torch.no_grad()
        def watch(net: torch.nn.Module) -> float:
            said = self._joined(net(unseen)).numpy()
            if self.regression:
                return float(((said[:, 0] - y[held]) ** 2).mean())
            return class_loss(said, y[held], self.task, self.class_weights)

        begun = time.monotonic()
        until = None if deadline is None else begun + WATCHED_SHARE * left(deadline)
        most = self.schedule.epochs
        first = self._trained(x[seen], y[~held], most, seed, until, watch)
        if not first.whole or not first.best:
            return first
        each = (time.monotonic() - begun) / first.epochs * len(y) / int(seen.sum())
        if left(deadline) < SPARED * each * first.best:
            return replace(first, whole=False)
        second = self._trained(x, y, first.best, seed, deadline)
        return second if second.whole else replace(first, whole=False)

    def _trained(
        self,
        x: Tensor,
        y: np.ndarray,
        epochs: int,
        seed: int,
        deadline: float | None,
        watch: Watch | None = None,
    ) -> Trained:
        """A new network, trained on rows."""
        with seeds.torch_stream("cpu", seed, "network weights"):
            net = self._made()
        net.members.dropout.seed = seeds.derive(seed, "network dropout")
        loss = member_loss(self.task, y, self.class_weights)
        schedule = replace(self.schedule, epochs=epochs)
        return train(net, x, loss, schedule, seed, deadline, watch)

    @classmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes: a row's multiplications, and steps, by passes."""
        with torch.device("meta"):
            made = cls(widths, target, **options)  # type: ignore[arg-type]
        passes = min(PASSES, 2 * made.schedule.epochs)
        each = rows * made.net.multiplications * PRODUCT + made.schedule.steps(rows) * STEP
        return 0.1 + passes * each
