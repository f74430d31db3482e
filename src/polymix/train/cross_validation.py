"""Cross-validation: every development row is predicted by a model that was not trained on it.

Nothing that uses labels sees a row that it is scored on: which epoch is best is told by some of the
training folds' rows, `inner_split`, and a model that is fitted is given no validation rows at all.
No weights are kept: what ships is fitted to more rows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from polymix.data.batch import Source
from polymix.data.dataset import Dataset
from polymix.data.split import TRAIN, VAL, stratified_codes
from polymix.genotype import Genotype
from polymix.nn.build import frozen_blocks, one_core
from polymix.nn.model import Model
from polymix.records import Cost, Proposal, Score, Status, Trial
from polymix.scoring.calibration import mean_loss
from polymix.scoring.metrics import Metric
from polymix.train.absent_tokens import State
from polymix.train.costs import Costs
from polymix.train.groups import Group, Memory
from polymix.train.learner import Learner
from polymix.train.loop import FoldRows, Job, Trainer
from polymix.train.meter import Meter

INNER_SHARE = 0.12
"""Of a fold's training rows, those that tell which epoch is best."""


class Bench(Protocol):
    """What prepares and counts the trials of a group: the evaluator.

    Attributes:
        dataset: the rows.
        metric: what a trial is scored by.
        costs: of proposals on them.
        stack_limit: models that are trained in one computation over folds, at most.
        memory: where unfinished groups are kept.
        checkpoint_after: seconds after which they are kept at each fold's end.
    """

    dataset: Dataset
    metric: Metric
    costs: Costs
    stack_limit: int
    memory: Memory
    checkpoint_after: float

    def stacks(self, proposal: Proposal) -> bool:
        """Whether its model can be trained beside others of its shape."""

    def prepared(self, group: Group) -> tuple[list[Model], Source]:
        """The models of a group before training, and the source of what they read."""

    def learner(self, models: Sequence[Model], first: Proposal) -> Learner:
        """What trains a group's models."""

    def job(
        self,
        proposal: Proposal,
        source: Source,
        model: Model,
        rows: np.ndarray,
        val: np.ndarray,
        targets: np.ndarray,
        deadline: float | None,
    ) -> Job:
        """What the loop is to do."""

    def spent(self, proposal: Proposal, steps: int, meter: Meter, size: int) -> Cost:
        """What one of a group's trials cost."""


class CrossValidation:
    """Cross-validates a group.

    Args:
        bench: prepares its trials.
        group: of proposals at the same number of folds.
        deadline: on `time.monotonic`'s clock; none for no limit.
        on_epoch: called after each epoch, or fold, with its number and best score.
        meter: of what it takes.
    """

    def __init__(
        self,
        bench: Bench,
        group: Group,
        deadline: float | None,
        on_epoch: Callable[[int, float], None] | None,
        meter: Meter,
    ) -> None:
        self.bench, self.group, self.deadline = bench, group, deadline
        self.on_epoch, self.meter = on_epoch, meter
        self.first, self.size = group.proposals[0], len(group.proposals)
        self.folds = self.first.fidelity.folds
        split = bench.dataset.split
        outputs = bench.dataset.schema.target.outputs
        self.found = np.zeros((self.size, len(split.development), outputs), np.float64)
        self.values = np.zeros((self.size, self.folds))
        self.epochs = np.zeros((self.size, self.folds))
        self.steps = 0
        self._preparing = threading.Lock()

    def run(self) -> list[tuple[Trial, State | None]]:
        """The group's trials."""
        unfinished = self._stacked() if self.bench.stacks(self.first) else self._fold_by_fold()
        if unfinished is not None:
            return [(self._unscored(k, unfinished), None) for k in range(self.size)]
        return [(self._scored(k), None) for k in range(self.size)]

    # Fold by fold.

    def _fold_by_fold(self) -> Trainer | None:
        """Train every fold; the trainer of one that could not be predicted, if there is one."""
        split, targets = self.bench.dataset.split, self.bench.dataset.targets
        begin = self._restore()
        for fold, trainer in self._trained(begin):
            self.steps += trainer.steps
            if trainer.stopped or any(best.predictions is None for best in trainer.best):
                return trainer
            held = split.fold_rows(fold)[1]
            for k, best in enumerate(trainer.best):
                assert best.predictions is not None
                self.found[k, split.folds == fold] = best.predictions
                self.values[k, fold] = self.bench.metric(targets[held], best.predictions)
                self.epochs[k, fold] = best.epoch
            if self.meter.wall > self.bench.checkpoint_after:
                told = torch.from_numpy(np.stack([self.values, self.epochs]))
                so_far = {"found": torch.from_numpy(self.found), "told": told}
                meta = {"steps": self.steps, "fold": fold + 1, **self.meter.spent()}
                self.bench.memory.save_checkpoint(self.group.name, so_far, meta)
            if self.on_epoch:
                self.on_epoch(fold, float(self.values[:, fold].max()))
        self.bench.costs.passed |= frozen_blocks(self.first.genotype)
        return None

    def _restore(self) -> int:
        """What an earlier session kept; the fold to go on with."""
        kept = self.bench.memory.load_checkpoint(self.group.name)
        if kept is None:
            return 0
        tensors, meta = kept
        self.found[:] = tensors["found"].numpy()
        self.values[:], self.epochs[:] = tensors["told"].numpy()
        self.steps = meta["steps"]
        self.meter.resume(meta["cpu"], meta["wall"])
        return int(meta["fold"])

    def _trained(self, begin: int) -> Iterator[tuple[int, Trainer]]:
        """Each fold's trainer once it is done, in order.

        Fits that keep one core busy are made beside each other, one a core.
        """
        folds = range(begin, self.folds)
        workers = side_by_side(self.first.genotype, len(folds))
        if workers < 2:
            yield from ((fold, self._train(fold)) for fold in folds)
            return
        pool = ThreadPoolExecutor(workers)
        try:
            waiting = [pool.submit(self._train, fold) for fold in folds]
            for fold, future in zip(folds, waiting, strict=True):
                yield fold, future.result()
        finally:  # what was begun is let end; what was not is never begun
            pool.shutdown(wait=True, cancel_futures=True)

    def _train(self, fold: int) -> Trainer:
        """One fold's models, trained."""
        bench, first = self.bench, self.first
        train, held = bench.dataset.split.fold_rows(fold)
        with self._preparing:  # views are fitted and banked by the first to read them
            models, source = bench.prepared(self.group)
        inner = (train, train[:0])
        if not models[0].fitted:
            inner = inner_split(bench.dataset.targets, train, first.fidelity.seed)
        wanted = bench.dataset.targets[inner[1]]
        job = bench.job(first, source, models[0], *inner, wanted, self.deadline)
        trainer = Trainer(bench.learner(models, first), replace(job, held=held))
        trainer.run()
        return trainer

    # All folds in one computation.

    def _stacked(self) -> Trainer | None:
        """Train the folds of all models, and of all their seeds, in one computation.

        Every model sees the same batches of all development rows, and its own rows count: what a
        model learns is the same in any company.
        """
        bench, first = self.bench, self.first
        split, targets = bench.dataset.split, bench.dataset.targets
        own: list[FoldRows] = []
        for fold in range(self.folds):
            train, held = split.fold_rows(fold)
            own.append(FoldRows(*inner_split(targets, train, 0), held))
        pairs = [(k, fold) for k in range(self.size) for fold in range(self.folds)]
        for begin in range(0, len(pairs), bench.stack_limit):
            part = pairs[begin : begin + bench.stack_limit]
            asked = [self.group.proposals[k] for k, _ in part]
            models, source = bench.prepared(Group(tuple(asked), ("",) * len(asked)))
            none = split.development[:0]
            job = bench.job(
                first, source, models[0], split.development, none, targets, self.deadline
            )
            job = replace(
                job,
                folds=[own[fold] for _, fold in part],
                fidelity=replace(first.fidelity, seed=0),
                on_epoch=self.on_epoch,
            )
            trainer = Trainer(bench.learner(models, first), job)
            trainer.run()
            self.steps += trainer.steps
            if trainer.stopped or any(best.predictions is None for best in trainer.best):
                return trainer
            for (k, fold), best in zip(part, trainer.best, strict=True):
                assert best.predictions is not None
                self.found[k, split.folds == fold] = best.predictions
                self.values[k, fold] = bench.metric(targets[own[fold].held], best.predictions)
                self.epochs[k, fold] = best.epoch
        return None

    # Trials.

    def _scored(self, k: int) -> Trial:
        """The k-th trial, whose every development row was predicted out of fold."""
        dataset, found = self.bench.dataset, self.found[k]
        targets = np.asarray(dataset.targets[dataset.split.development])
        value = self.bench.metric(targets, found) if np.isfinite(found).all() else math.nan
        if not math.isfinite(value):
            return self._trial(
                k, Status.FAILED, "the outputs or the score were not finite in a fold"
            )
        loss = mean_loss(dataset.schema.target, targets, found)
        score = Score(value, loss, round(float(self.epochs[k].mean())))
        made = self._trial(k, Status.DONE, None)
        curve = tuple(self.values[k].tolist())
        return replace(made, score=score, curve=curve, predictions=found)

    def _unscored(self, k: int, trainer: Trainer) -> Trial:
        """The k-th trial, where a fold was not predicted: there was no time, or it failed.

        Args:
            k: which one.
            trainer: that fold's.
        """
        if len(trainer.best) == self.size and not trainer.best[k].finite:
            said = "the loss, the outputs or the score were not finite"
            return self._trial(k, Status.FAILED, said)
        return self._trial(k, Status.STOPPED, None)

    def _trial(self, k: int, status: Status, error: str | None) -> Trial:
        proposal, key = self.group.proposals[k], self.group.keys[k]
        cost = self.bench.spent(proposal, self.steps, self.meter, self.size)
        return Trial(proposal, key, status, None, cost, error=error)


def side_by_side(genotype: Genotype, folds: int) -> int:
    """How many folds are fitted beside each other."""
    return min(folds, torch.get_num_threads()) if one_core(genotype) else 1


def rounds_of(genotype: Genotype, folds: int) -> int:
    """How many times as long as one fit all folds take; one where there are none."""
    return math.ceil(folds / side_by_side(genotype, folds)) if folds else 1


def inner_split(targets: np.ndarray, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training rows, and those among them that tell which epoch is best; stratified."""
    codes = stratified_codes(targets[rows], INNER_SHARE, 0.0, seed)
    if not (codes == VAL).any() or not (codes == TRAIN).any():
        return rows, rows
    return rows[codes == TRAIN], rows[codes == VAL]
