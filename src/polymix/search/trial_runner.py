"""The bench: cohorts in, trials out, through the ledger. What is known is never trained again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from polymix.records import Cost, Proposal, Role, Score, Status, Trial
from polymix.search.callbacks import Callback
from polymix.search.clock import Clock
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Done, Evaluator
from polymix.train.groups import Group

logger = logging.getLogger(__name__)


class Runner(AbstractContextManager["Runner"], Protocol):
    """Runs groups: here, or in other processes.

    Attributes:
        jobs: how many at the same time.
    """

    jobs: int

    def run(
        self,
        groups: Sequence[Group],
        deadline: float | None,
        on_epoch: Callable[[int, float], None],
        on_start: Callable[[Group], None],
    ) -> Iterator[tuple[Group, list[Done]]]:
        """Each group's results, as soon as it is done."""


class LocalRunner(AbstractContextManager["LocalRunner"]):
    """Runs groups here, one after the other.

    Args:
        evaluator: does the work.
    """

    jobs = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def run(
        self,
        groups: Sequence[Group],
        deadline: float | None,
        on_epoch: Callable[[int, float], None],
        on_start: Callable[[Group], None],
    ) -> Iterator[tuple[Group, list[Done]]]:
        """See `Runner`."""
        for group in groups:
            on_start(group)
            yield group, self.evaluator.run(group, deadline, on_epoch)


class TrialRunner:
    """Evaluates cohorts through the ledger.

    Args:
        evaluator: knows keys and groups.
        runner: trains.
        ledger: remembers.
        clock: is told after every trial and epoch.
        callbacks: are told of everything.
        predict: seconds that a proposal is expected to take.
        learn: is told of each trial and of the seconds that it was expected to take.

    Attributes:
        fresh: trials that were not in the ledger, so far.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        runner: Runner,
        ledger: Ledger,
        clock: Clock,
        callbacks: Sequence[Callback],
        predict: Callable[[Proposal], float],
        learn: Callable[[Trial, float], None] = lambda _trial, _expected: None,
    ) -> None:
        self.evaluator, self.runner, self.ledger = evaluator, runner, ledger
        self.clock, self.callbacks = clock, callbacks
        self.predict, self.learn = predict, learn
        self.fresh = 0
        self._lost: set[str] = set()

    def evaluate(
        self, cohort: Sequence[Proposal], role: Role | Sequence[Role], deadline: float | None
    ) -> list[Trial]:
        """The trials of a cohort, in its order, made for one role, or for one role each.

        Each computation is committed with its weights in one transaction as soon as it is done.
        What would take longer than its share is recorded as `skipped: cost`; so is what is scored
        over folds, and would not end by the deadline: folds that are not all there say nothing.
        What the deadline leaves no time to begin is recorded as `stopped: time`. What was lost to
        the system in an earlier session is made again.
        """
        keys = [self.evaluator.key(p) for p in cohort]
        each = [role] * len(keys) if isinstance(role, Role) else role
        roles = dict(zip(keys, each, strict=True))
        known: dict[str, Trial] = {}
        missing: dict[str, Proposal] = {}
        expected: dict[str, float] = {}
        for key, proposal in zip(keys, cohort, strict=True):
            if key in known or key in missing:
                continue
            expected[key] = self.predict(proposal)
            trial = self.ledger.get(key, proposal, roles[key])
            # What the system took from an earlier session is tried again, once a session.
            if trial is not None and (trial.status is not Status.LOST or key in self._lost):
                known[key] = trial
                self.learn(trial, expected[key])
                self._tell_end(trial, roles[key], fresh=False)
            elif expected[key] > _room(proposal, deadline):
                known[key] = self._unrun(key, proposal, roles[key], Status.SKIPPED)
            else:
                missing[key] = proposal
        groups = self.evaluator.groups(list(missing.values()))
        late = deadline is not None and time.monotonic() > deadline
        results = iter(()) if late else self._run(groups, roles, deadline)
        for group, done in results:
            if len(group.keys) > 1:
                self.ledger.drop_checkpoint(group.name)
            for trial in self.ledger.put(done, roles[group.keys[0]]):
                known[trial.key] = trial
                self.learn(trial, expected[trial.key])
                if trial.status is Status.LOST:
                    self._lost.add(trial.key)
                self._tell_end(trial, roles[trial.key], fresh=True)
            self._tick()
        for key, proposal in missing.items():
            if key not in known:
                known[key] = self._unrun(key, proposal, roles[key], Status.STOPPED)
        return [known[key] for key in keys]

    def record(
        self, proposal: Proposal, role: Role, score: Score, cost: Cost, predictions: np.ndarray
    ) -> Trial:
        """A trial of which all is known already, as what is made of others' predictions is."""
        key = self.evaluator.key(proposal)
        known = self.ledger.get(key, proposal, role)
        if known is None:
            made = Trial(proposal, key, Status.DONE, score, cost, predictions=predictions)
            (known,) = self.ledger.put([(made, None)], role)
            self.fresh += 1
        self._tell_end(known, role, fresh=False)
        return known

    def _run(
        self, groups: Sequence[Group], roles: Mapping[str, Role], deadline: float | None
    ) -> Iterator[tuple[Group, list[Done]]]:
        current: list[Proposal] = []

        def begin(group: Group) -> None:
            current[:] = group.proposals[:1]
            for callback in self.callbacks:
                callback.on_trial_start(group.proposals[0], roles[group.keys[0]])

        def on_epoch(epoch: int, value: float) -> None:
            self._tick()
            for callback in self.callbacks:
                callback.on_epoch(epoch, current[0].fidelity.epochs, value)

        yield from self.runner.run(groups, deadline, on_epoch, begin)

    def _unrun(self, key: str, proposal: Proposal, role: Role, status: Status) -> Trial:
        trial = Trial(proposal, key, status, None, Cost(0, 0))
        (trial,) = self.ledger.put([(trial, None)], role)
        self._tell_end(trial, role, fresh=True)
        return trial

    def _tell_end(self, trial: Trial, role: Role, fresh: bool) -> None:
        self.fresh += fresh
        if fresh and trial.failed:
            logger.warning(
                "%s failed: %s: %s", trial.proposal.stage, trial.proposal.genotype, trial.error,
                extra={"traceback": f"\n{trial.traceback or ''}".rstrip()},
            )  # fmt: skip
        for callback in self.callbacks:
            callback.on_trial_end(trial, role, fresh)

    def _tick(self) -> None:
        self.clock.tick()
        for callback in self.callbacks:
            callback.on_clock(self.clock.used, self.clock.remaining)


def _room(proposal: Proposal, deadline: float | None) -> float:
    """Seconds that a proposal may be expected to take, if it is to be begun."""
    if deadline is None or not proposal.fidelity.folds or math.isinf(proposal.share):
        return proposal.share
    return min(proposal.share, deadline - time.monotonic())
