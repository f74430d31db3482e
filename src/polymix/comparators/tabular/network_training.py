"""How a network on views is trained: its losses, AdamW, averaged weights, and when to stop.

Shapes: N rows, B rows of a step, E members, S sums.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix import seeds
from polymix.comparators.tabular.inner import left
from polymix.data.schema import Task

PATIENCE = 5
"""Epochs without a lower held-out loss after which training stops; a quarter of the best more."""

ETA = 8.0
"""How fast the averaged weights forget: they span about the last ninth of the steps."""

LEAST_BATCH, LEAST_STEPS = 32, 16
"""Few rows are cut into smaller batches, so that an epoch has so many steps."""

Watch = Callable[[nn.Module], float]
"""A network of averaged weights to a loss on rows that it was not trained on."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Members' sums `(E, B, S)`, and the places of their rows `(B,)`, to the members' mean loss."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: at most.
        batch: rows of a step, at most.
        lr: learning rate.
        decay: weight decay.
    """

    epochs: int
    batch: int
    lr: float
    decay: float

    def steps(self, rows: int) -> int:
        """Of an epoch."""
        batch = min(self.batch, max(LEAST_BATCH, rows // LEAST_STEPS))
        return max(1, round(rows / batch))


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        net: of averaged weights, those of the best epoch where one was watched for.
        best: that epoch, or the last one; zero where no watched loss was finite.
        epochs: that were begun.
        whole: whether there was time for all of it.
    """

    net: nn.Module
    best: int
    epochs: int
    whole: bool


def train(
    net: nn.Module,
    x: Tensor,
    loss: Loss,
    schedule: Schedule,
    seed: int,
    deadline: float | None,
    watch: Watch | None = None,
) -> Trained:
    """Train a network by AdamW (Loshchilov and Hutter 2019), and average its weights.

    Weights hover around where they go; their average, which forgets polynomially (Shamir and
    Zhang 2013, section 4), needs no learning rate that falls to an end known beforehand.

    Args:
        net: rows to what the loss reads.
        x: rows `(N, D)`.
        loss: of what the net says of some rows.
        schedule: how long and how fast.
        seed: of the rows' order.
        deadline: on `time.monotonic`'s clock; none for no limit. One step is taken at least.
        watch: asked after each epoch; without it all epochs are trained.
    """
    average = copy.deepcopy(net).eval().requires_grad_(False)
    weights, averaged = list(net.parameters()), list(average.parameters())
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": schedule.decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule.lr, fused=True)
    kept, lowest, best, steps, epoch, whole = _state(average), np.inf, 0, 0, 0, True
    net.train()
    with torch.enable_grad():
        for epoch in range(1, schedule.epochs + 1):
            order = torch.from_numpy(seeds.stream(seed, "network order", epoch).permutation(len(x)))
            for rows in order.tensor_split(schedule.steps(len(x))):
                optimizer.zero_grad()
                loss(net(x[rows]), rows).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                steps += 1
                _move(averaged, weights, (ETA + 1) / (steps + ETA))
                if left(deadline) <= 0:
                    whole = False
                    break
            if watch is not None and (told := watch(average)) < lowest:
                kept, lowest, best = _state(average), told, epoch
            stale = epoch - best if watch is not None else 0
            if not whole or stale >= PATIENCE + best // 4:
                break
    if watch is None:
        return Trained(average, epoch, epoch, whole)
    average.load_state_dict(kept)
    return Trained(average, best, epoch, whole)


def _state(net: nn.Module) -> dict[str, Tensor]:
    """A copy of what a network holds."""
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@torch.no_grad()
def _move(averaged: list[nn.Parameter], weights: list[nn.Parameter], share: float) -> None:
    """Averages to weights, by a share of the way."""
    for mean, now in zip(averaged, weights, strict=True):
        mean.lerp_(now, share)


def member_loss(task: Task, y: np.ndarray, weights: np.ndarray) -> Loss:
    """What members are trained by: each on its own, so that they differ (TabM, section 3.2).

    Args:
        task: what is predicted.
        y: values or classes `(N,)`, or labels `(N, S)`.
        weights: of classes or labels, `(K,)`.
    """
    shares = torch.from_numpy(weights).float()
    if task is Task.MULTICLASS:
        classes = torch.from_numpy(y.astype(np.int64))

        def entropy(sums: Tensor, rows: Tensor) -> Tensor:
            own = classes[rows].expand(len(sums), -1)
            return functional.cross_entropy(sums.flatten(0, 1), own.flatten(), shares)

        return entropy
    labels = torch.from_numpy(y.astype(np.float32)).reshape(len(y), -1)
    if task is Task.REGRESSION:
        return lambda sums, rows: ((sums - labels[rows]) ** 2).mean()
    on, off = (shares[1], shares[0]) if task is Task.BINARY else (shares, torch.ones(()))
    each = torch.where(labels > 0, on, off)

    def entropies(sums: Tensor, rows: Tensor) -> Tensor:
        own, weighed = labels[rows].expand_as(sums), each[rows].expand_as(sums)
        return functional.binary_cross_entropy_with_logits(sums, own, weighed)

    return entropies
