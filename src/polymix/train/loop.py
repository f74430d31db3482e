"""The training loop: one for every method, for one model or a stack of them.

What decides a trial is derived, not carried along: the order of rows from (seed, epoch), hidden
modalities likewise, dropout from (seed, epoch, name). So an epoch needs only the tensors of the
one before it, and a killed trial goes on from its last epoch to the same end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymix import seeds
from polymix.data.batch import Source
from polymix.records import Fidelity, Recipe
from polymix.scoring.metrics import Metric
from polymix.train.learner import Learner
from polymix.train.modality_dropout import draw_hidden, hide
from polymix.train.objective import Objective
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer, step
from polymix.train.shift import Steps, draw_shifts, shifted
from polymix.train.validate import validate


@dataclass
class Best:
    """One model's best epoch so far."""

    value: float = -math.inf
    loss: float = math.inf
    epoch: int = -1
    predictions: np.ndarray | None = None
    unimodal: dict[str, float] = field(default_factory=dict)
    state: dict[str, Tensor] | None = None
    curve: list[float] = field(default_factory=list)
    finite: bool = True


@dataclass(frozen=True)
class Job:
    """What a loop is to do.

    Attributes:
        source: supplies batches.
        train: training rows `(N,)`.
        val: validation rows; none where there is nothing to choose (`Recipe.refit`).
        targets: of the validation rows; of all rows, where there are folds.
        held: rows that are predicted at the best epoch in place of the validation rows, and have
            no part in which one that is: those of a fold; none where there are none.
        objective: the loss.
        metric: what scores an epoch.
        recipe: how to train.
        fidelity: how long, from which seed.
        name: names this job's dropout stream.
        folds: each model's own rows, where a stack is trained over several folds: `train` is then
            all their rows, and every model sees the same batches, in which its own rows count.
        modalities: those that the model reads; modality dropout is among them.
        shifts: how far spectrograms may move: see `train.shift`.
        keep: whether the best epoch's weights are wanted.
        deadline: on `time.monotonic`'s clock; none for no limit.
        save: called with tensors and meta after each epoch, once it is worth it.
        on_epoch: called with the epoch from 0 and the best score of it.
    """

    source: Source
    train: np.ndarray
    val: np.ndarray
    targets: np.ndarray
    objective: Objective
    metric: Metric
    recipe: Recipe
    fidelity: Fidelity
    name: str
    held: np.ndarray | None = None
    folds: Sequence[FoldRows] = ()
    modalities: Sequence[str] = ()
    shifts: Mapping[str, Steps] = field(default_factory=dict)
    keep: bool = False
    deadline: float | None = None
    save: Callable[[Mapping[str, Tensor], dict[str, Any]], None] | None = None
    on_epoch: Callable[[int, float], None] | None = None


@dataclass(frozen=True)
class FoldRows:
    """The rows of one model of a stack that is trained over several folds at once.

    Attributes:
        train: that count in its loss.
        val: that tell which epoch is its best.
        held: that it is scored on, and sees in no other way.
    """

    train: np.ndarray
    val: np.ndarray
    held: np.ndarray


class OutOfTime(Exception):  # noqa: N818
    """The deadline passed within an epoch."""


class Trainer:
    """Trains a learner through a job's epochs.

    Args:
        learner: what to train.
        job: how.
    """

    def __init__(self, learner: Learner, job: Job) -> None:
        self.learner, self.job = learner, job
        # What is fitted has no parameters to step.
        parameters = learner.parameters() or [torch.zeros((), requires_grad=True)]
        self.optimizer = make_optimizer(parameters, job.recipe)
        self.best = [Best() for _ in range(learner.size)]
        self.steps = 0
        self.epoch = 0
        self.lr = job.recipe.lr
        self._least, self._stale = math.inf, 0
        self.stopped = False
        self._counted = self._counted_rows()

    def _counted_rows(self) -> Tensor | None:
        """Which of all rows count for each model of a stack over folds, `(K, N)` bool."""
        folds = self.job.folds
        if not folds:
            return None
        counted = torch.zeros((len(folds), int(self.job.train.max()) + 1), dtype=torch.bool)
        for k, own in enumerate(folds):
            counted[k, torch.from_numpy(own.train)] = True
        return counted

    @property
    def steps_per_epoch(self) -> int:
        """⌈rows / batch⌉."""
        return math.ceil(len(self.job.train) / self.job.recipe.batch_size)

    def run(self) -> None:
        """Train to the end, or to the deadline; `best`, `steps` and `stopped` say what came out."""
        while self.epoch < self.job.fidelity.epochs and not self._given_up():
            try:
                self._train_epoch()
            except OutOfTime:
                self.stopped = True
                if self.epoch == 0:
                    self._validate()
                return
            self._validate()
            self.epoch += 1
            if self.job.save:
                self.job.save(self.tensors(), self.meta())

    def _given_up(self) -> bool:
        patience = self.job.recipe.patience
        lost = not any(best.finite for best in self.best)
        return lost or (bool(patience) and self._stale >= patience)

    def _train_epoch(self) -> None:
        job, learner = self.job, self.learner
        if learner.fitted is not None:
            fit, seed = learner.fitted.eval().fit, job.fidelity.seed
            if not fit(job.source, job.train, job.val, seed, job.deadline):
                raise OutOfTime
            return
        learner.train(True)
        seed, total = job.fidelity.seed, torch.zeros(learner.size, device=job.source.device)
        with seeds.torch_stream(job.source.device, seed, "dropout", job.name, self.epoch):
            for rows, hidden, moves in self._batches():
                if job.deadline is not None and time.monotonic() > job.deadline:
                    raise OutOfTime
                batch = hide(job.source.batch(rows), hidden)
                batch = batch if moves is None else shifted(batch, job.shifts, moves)
                counted = None
                if self._counted is not None:
                    counted = self._counted[:, torch.from_numpy(rows)].to(job.source.device)
                losses = learner.losses(batch, job.objective, self.epoch + 1, counted)
                self._set_lr()
                step(losses.sum(), self.optimizer)
                total += losses.detach()
                self.steps += 1
        for best, finite in zip(self.best, torch.isfinite(total).tolist(), strict=True):
            best.finite = best.finite and finite

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]:
        """Rows, what of them is hidden, and how far their spectrograms move."""
        job = self.job
        order = seeds.stream(job.fidelity.seed, "order", self.epoch).permutation(job.train)
        size, hidden, moves = job.recipe.batch_size, None, None
        if job.recipe.modality_dropout:
            rng = seeds.stream(job.fidelity.seed, "hide", self.epoch)
            used = [job.objective.columns[name] for name in job.modalities or job.objective.columns]
            share = job.recipe.modality_dropout
            hidden = draw_hidden(len(order), used, len(job.objective.columns), share, rng)
        if job.shifts:
            rng = seeds.stream(job.fidelity.seed, "shift", self.epoch)
            moves = draw_shifts(len(order), job.shifts, rng)
        for start in range(0, len(order), size):
            part = slice(start, start + size)
            yield (
                order[part],
                None if hidden is None else hidden[part],
                None if moves is None else moves[part],
            )

    def _set_lr(self) -> None:
        recipe = self.job.recipe
        if recipe.schedule == "cosine":
            share = self.steps / (self.steps_per_epoch * self.job.fidelity.epochs)
            low = recipe.lr / 100
            self.lr = low + 0.5 * (recipe.lr - low) * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def _validate(self) -> None:
        job = self.job
        if job.folds:
            self._validate_folds()
            return
        if not len(job.val):
            self._take_last()
            return
        predictions, losses, unimodal = validate(self.learner, job.source, job.val, job.objective)
        held: np.ndarray | None = None
        for k, best in enumerate(self.best):
            value = math.nan
            if best.finite and np.isfinite(predictions[k]).all():
                value = job.metric(job.targets, predictions[k])
            best.finite = math.isfinite(value)
            best.curve.append(value)
            if value > best.value:
                best.value, best.loss, best.epoch = value, float(losses[k]), self.epoch
                best.predictions = predictions[k]
                if job.held is not None:
                    if held is None:
                        held, _, _ = validate(self.learner, job.source, job.held, job.objective)
                    best.predictions = held[k]
                best.unimodal = {n: job.metric(job.targets, p[k]) for n, p in unimodal.items()}
                best.state = self.learner.state(k) if job.keep else None
        self._watch(float(losses[0]))
        if job.on_epoch:
            job.on_epoch(self.epoch, max(best.value for best in self.best))

    def _validate_folds(self) -> None:
        """Each model on its own rows: some tell its best epoch, others it is scored on."""
        job = self.job
        rows = np.unique(np.concatenate([np.concatenate([f.val, f.held]) for f in job.folds]))
        predictions, _, _ = validate(self.learner, job.source, rows, job.objective)
        for k, (best, own) in enumerate(zip(self.best, job.folds, strict=True)):
            said = predictions[k]
            value = math.nan
            if best.finite and np.isfinite(said).all():
                told = said[np.searchsorted(rows, own.val)]
                value = job.metric(job.targets[own.val], told)
            best.finite = math.isfinite(value)
            best.curve.append(value)
            if value > best.value:
                best.value, best.epoch = value, self.epoch
                best.predictions = said[np.searchsorted(rows, own.held)]
        if job.on_epoch:
            job.on_epoch(self.epoch, max(best.value for best in self.best))

    def _take_last(self) -> None:
        """Without validation rows, whatever the last epoch leaves is kept, and predicts."""
        last = self.epoch + 1 == self.job.fidelity.epochs
        held, losses = None, None
        if self.job.held is not None and last:
            job = self.job
            held, losses, _ = validate(self.learner, job.source, self.job.held, job.objective)
        for k, best in enumerate(self.best):
            if held is not None and losses is not None:
                best.predictions, best.loss = held[k], float(losses[k])
            best.curve.append(math.nan)
            best.epoch = self.epoch
            best.state = self.learner.state(k) if self.job.keep and last else None
        if self.job.on_epoch:
            self.job.on_epoch(self.epoch, math.nan)

    def _watch(self, loss: float) -> None:
        """Plateau and patience, on the fused head's validation loss (its scale never moves)."""
        recipe = self.job.recipe
        if loss < self._least * (1 - 1e-4):
            self._least, self._stale = loss, 0
            return
        self._stale += 1
        every = recipe.plateau_patience + 1
        if recipe.schedule == "plateau" and self._stale % every == 0:
            self.lr *= recipe.plateau_factor

    def tensors(self) -> dict[str, Tensor]:
        """Everything an interrupted job needs to go on, but for `meta`."""
        found = {f"model/{n}": t.detach() for n, t in self.learner.tensors().items()}
        found.update(optimizer_tensors(self.optimizer, "optimizer"))
        for k, best in enumerate(self.best):
            if best.predictions is not None:
                found[f"best/{k}/predictions"] = torch.from_numpy(best.predictions)
            found.update({f"best/{k}/state/{n}": t for n, t in (best.state or {}).items()})
        return found

    def meta(self) -> dict[str, Any]:
        """Numbers that go with `tensors`, as JSON."""
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "lr": self.lr,
            "least": self._least,
            "stale": self._stale,
            "best": [
                {
                    "value": b.value,
                    "loss": b.loss,
                    "epoch": b.epoch,
                    "unimodal": b.unimodal,
                    "curve": b.curve,
                    "finite": b.finite,
                }
                for b in self.best
            ],
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
        """Go on from what `tensors` and `meta` saved."""
        for name, tensor in self.learner.tensors().items():
            tensor.copy_(tensors[f"model/{name}"])
        restore_optimizer(self.optimizer, tensors, "optimizer")
        self.epoch, self.steps, self.lr = meta["epoch"], meta["steps"], meta["lr"]
        self._least, self._stale = meta["least"], meta["stale"]
        for k, kept in enumerate(meta["best"]):
            predictions = tensors.get(f"best/{k}/predictions")
            prefix = f"best/{k}/state/"
            found = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
            self.best[k] = Best(
                predictions=None if predictions is None else predictions.numpy(),
                state=found or None,
                **kept,
            )
