"""How a network's last layers are tuned.

It starts from the linear model of what the layers say as they came, so that tuning moves away from
the best that frozen features give (linear probing, then fine-tuning: Kumar et al. 2022, section
3.3). It stays as it is: AdamW tunes the layers and the network beside it, its rate rising and
falling linearly. Some of the training rows say which epoch is best, the start among them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.comparators.tabular.inner import class_loss, left
from polymix.comparators.tabular.linear import Linear
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.tuned_network import TunedNetwork
from polymix.comparators.tabular.vectors import Scaled
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Task

SORTED = 16
"""Batches that are drawn at once, and cut by length."""

LARGE = 256
"""Rows of a batch without gradients."""

WARM_UP, CLIP, DECAY = 0.1, 1.0, 0.01
"""Share of the steps in which the rate rises; a gradient's longest; weight decay of the layers."""

TIMED = 5
"""Steps after which the time that is left says how many there will be."""

PROBING, SPARED = 0.3, 0.9
"""Of the time that is left, what the linear model may take, and then the steps."""


class Tuning:
    """One fit of a `TunedNetwork`.

    Args:
        learner: what is fitted.
        sample: all rows that it may see.
        y: their targets, `(N,)` or `(N, S)`.
        held: which of them say which epoch is best, `(N,)` bool; all do where none is.
        deadline: on `time.monotonic`'s clock.
    """

    def __init__(
        self,
        learner: TunedNetwork,
        sample: Sample,
        y: np.ndarray,
        held: np.ndarray,
        deadline: float | None,
    ) -> None:
        self.learner, self.sample, self.y, self.deadline = learner, sample, y, deadline
        self.rows = torch.from_numpy(np.flatnonzero(~held))
        self.held = torch.from_numpy(np.flatnonzero(held)) if held.any() else self.rows
        self.targets = torch.from_numpy(y)
        if learner.task is not Task.MULTICLASS:
            self.targets = self.targets.reshape(len(y), -1).float()
        self.texts = learner.texts_of(sample)
        self.ends = torch.stack([ends_of(states) for states, _ in self.texts], 1)
        self.fixed = torch.zeros(0)

    @torch.no_grad()
    def start(self, seed: int) -> None:
        """The layers as they came, and the linear model of what they say."""
        learner, rows = self.learner, self.rows
        learner.reset()
        texts = self._pooled()
        for scale, (pooled, there) in zip(learner.scales, texts, strict=True):
            assert isinstance(scale, Scaled)
            if there[rows].any():
                scale.fit(pooled[rows][there[rows]].double())
        learner.vectors.fit(self.sample.pick(learner.rest).take(rows))
        self.fixed = learner.fixed(self.sample)
        z = torch.cat([learner.scaled(texts), self.fixed], 1)[rows].double()
        until = None
        if self.deadline is not None:
            until = time.monotonic() + PROBING * left(self.deadline)
        probe = Linear([Layout("embedding", z.shape[1])], learner.target)
        probe.fit(Sample((z,), (z.new_ones(len(z)) > 0,)), self.y[rows.numpy()], seed, until)
        part = probe.vectors.parts[0]
        assert isinstance(part, Scaled)
        weight = probe.weight[:-1] * part.whole  # the last one is of a flag that no row has
        learner.linear.weight.copy_(weight.T)
        learner.linear.bias.copy_(probe.bias - part.shift @ weight)

    def run(self) -> bool:
        """Tune; returns whether there was time for all epochs."""
        learner = self.learner
        trained = {
            "layers": list(learner.layers.parameters()),
            "head": [p for m in learner.heads for p in m.parameters()],
        }
        optimizer = torch.optim.AdamW(
            {"params": trained[k], "weight_decay": DECAY if k == "layers" else 0.0} for k in trained
        )
        each = len(self._batches(self.rows, learner.batch))
        wanted = steps = learner.epochs * each
        best, kept = self._loss(), self._state()
        done, begun = 0, time.monotonic()
        while done < steps:
            for p in (*trained["layers"], *trained["head"]):
                p.requires_grad_(True)
            for rows in self._batches(self.rows, learner.batch, shuffled=True):
                if done == 1:  # the first step takes longer than any other
                    begun = time.monotonic()
                if done == TIMED and self.deadline is not None:
                    taken = (time.monotonic() - begun) / (TIMED - 1)
                    steps = min(steps, done + int(SPARED * left(self.deadline) / taken))
                if done >= steps or left(self.deadline) <= 0:
                    steps = done
                    break
                for group, k in zip(optimizer.param_groups, trained, strict=True):
                    group["lr"] = learner.rates[k] * share_of(done, steps)
                self._step(rows, optimizer, [p for ps in trained.values() for p in ps])
                done += 1
            learner.requires_grad_(False)
            found = self._loss()
            if found < best:
                best, kept = found, self._state()
        learner.load_state_dict(kept, strict=False)
        return steps == wanted

    @torch.enable_grad()
    def _step(
        self, rows: Tensor, optimizer: torch.optim.Optimizer, parameters: list[Tensor]
    ) -> None:
        optimizer.zero_grad(set_to_none=True)
        sums = self._sums(rows, training=True)
        loss: Any = self._row_losses(sums, self.targets[rows]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()

    def _row_losses(self, sums: Tensor, targets: Tensor) -> Tensor:
        """What `class_loss` says of each row `(B, ·)`, and squares of a regression."""
        learner = self.learner
        if learner.regression:
            return (sums - targets) ** 2
        weights = torch.from_numpy(learner.class_weights).float()
        if learner.task is Task.MULTICLASS:
            return functional.cross_entropy(sums, targets, weights, reduction="none")
        on, off = (weights[1], weights[0]) if learner.task is Task.BINARY else (weights, 1.0)
        return on * targets * functional.softplus(-sums) + off * (1 - targets) * (
            functional.softplus(sums)
        )

    @torch.no_grad()
    def _loss(self) -> float:
        """Of the rows that say which epoch is best."""
        learner = self.learner
        found = torch.zeros((len(self.sample), learner.sums))
        for rows in self._batches(self.held, LARGE):
            found[rows] = self._sums(rows)
        sums, y = found[self.held].double().numpy(), self.y[self.held.numpy()]
        if not np.isfinite(sums).all():
            return np.inf
        if learner.regression:
            return float(((sums[:, 0] - y) ** 2).mean())
        return class_loss(sums, y, learner.task, learner.class_weights)

    def _sums(self, rows: Tensor, training: bool = False) -> Tensor:
        learner = self.learner
        return learner.head(learner.scaled(self._layered(rows)), self.fixed[rows], training)

    def _layered(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """`pooled` of each text of some rows, without the padding behind the longest."""
        most = self.ends[rows].amax(0).clamp(min=1).tolist()
        for k, layers in enumerate(self.learner.upper):
            most[k] = most[k] if layers.ragged else self.texts[k][0].shape[1]
        return [
            self.learner.pooled(k, states[rows, : most[k]], present[rows])
            for k, (states, present) in enumerate(self.texts)
        ]

    def _pooled(self) -> list[tuple[Tensor, Tensor]]:
        """The same of all rows."""
        count = len(self.sample)
        parts = [(rows, self._layered(rows)) for rows in self._batches(torch.arange(count), LARGE)]
        back = torch.argsort(torch.cat([rows for rows, _ in parts]))
        return [
            (
                torch.cat([texts[k][0] for _, texts in parts])[back],
                torch.cat([texts[k][1] for _, texts in parts])[back],
            )
            for k in range(len(self.texts))
        ]

    def _batches(self, rows: Tensor, size: int, shuffled: bool = False) -> list[Tensor]:
        """Rows in batches of like length: what is behind the longest of a batch is not computed."""
        if shuffled:
            rows = rows[torch.randperm(len(rows))]
        ends, found = self.ends.sum(1), list[Tensor]()
        for some in _cut(rows, size * SORTED):
            found += _cut(some[ends[some].argsort(stable=True)], size)
        return [found[i] for i in torch.randperm(len(found))] if shuffled else found

    def _state(self) -> dict[str, Tensor]:
        """A copy of what is trained."""
        names = ("layers.", "middle.", "out.")
        state = self.learner.state_dict()
        return {n: t.clone() for n, t in state.items() if n.startswith(names)}


def ends_of(states: Tensor) -> Tensor:
    """Where the last token of each row is, `(N,)`, of states `(N, T, C)` whose padding is zeros."""
    places = torch.arange(1, states.shape[1] + 1)
    return torch.cat([((x != 0).any(2) * places).amax(1) for x in _cut(states, LARGE)])


def _cut(x: Tensor, size: int) -> list[Tensor]:
    return [x[begin : begin + size] for begin in range(0, len(x), size)]


def share_of(step: int, steps: int) -> float:
    """The learning rate at a step, of its peak: it rises, then falls, linearly."""
    rising = WARM_UP * steps
    return min((step + 1) / max(rising, 1.0), (steps - step) / max(steps - rising, 1.0))
