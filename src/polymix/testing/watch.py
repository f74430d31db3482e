"""A callback that counts what happens in a run, and kills it where it is told to.

A run is killed by an exception that nothing in polymix catches, raised by a callback right after
a commit, or within a trial.
"""

from __future__ import annotations

import math
from typing import Any

from polymix.records import Proposal, Role, Trial
from polymix.search.callbacks import Callback


class Killed(BaseException):
    """Stands for a killed process: nothing in polymix catches it."""


class Watch(Callback):
    """Counts what happens, and kills the run at a commit, or at an epoch's end.

    Args:
        commits: die after so many trials, or epochs of a one-shot search, were written down.
        epochs: die at the end of so many epochs of trials.
    """

    def __init__(self, commits: float = math.inf, epochs: float = math.inf) -> None:
        self._limits = (commits, epochs)
        self.commits, self.epochs = 0, 0
        self.fresh: list[Trial] = []
        self.known: list[Trial] = []
        self.roles: dict[str, Role] = {}
        self.notes: list[str] = []
        self.decisions: list[str] = []
        self._training = False

    def on_trial_start(self, proposal: Proposal, role: Role) -> None:  # noqa: ARG002
        """A trial is about to be trained."""
        self._training = True

    def on_epoch(self, epoch: int, epochs: int, value: float) -> None:  # noqa: ARG002
        """An epoch of a trial, or of a one-shot search."""
        if self._training:
            self.epochs += 1
            if self.epochs >= self._limits[1]:
                raise Killed
        else:
            self._commit()

    def on_trial_end(self, trial: Trial, role: Role, fresh: bool) -> None:
        """A trial is in the ledger."""
        self.roles[trial.key] = role
        (self.fresh if fresh else self.known).append(trial)
        if fresh:
            self._training = False
            self._commit()

    def on_note(self, text: str) -> None:
        """Something worth knowing."""
        self.notes.append(text)

    def on_decision(self, name: str, value: Any) -> None:  # noqa: ARG002
        """Something was decided."""
        self.decisions.append(name)

    def _commit(self) -> None:
        self.commits += 1
        if self.commits >= self._limits[0]:
            raise Killed
