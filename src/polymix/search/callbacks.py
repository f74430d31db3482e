"""What a run tells those who watch it. Override what you need; the rest does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polymix.records import EpochRecord, Proposal, Role, Trial


class Callback:
    """Watches a run; it can neither change nor stop it."""

    def on_table(self, report: Mapping[str, Any]) -> None:
        """A table was read; `report` is what `data_report.json` says."""

    def on_phase(self, name: str, expected: int | None) -> None:
        """A phase begins: `search`, `random search`, `finalists`.

        Args:
            name: of the phase.
            expected: how many trials it will have, where that is known.
        """

    def on_trial_start(self, proposal: Proposal, role: Role) -> None:
        """A trial is about to be trained."""

    def on_features(self, modality: str, done: int, rows: int) -> None:
        """The feature bank computed so many rows' features of a modality."""

    def on_epoch(self, epoch: int, epochs: int, value: float) -> None:
        """The trial finished an epoch, from 0, with this validation score."""

    def on_record(self, record: EpochRecord, epochs: int, fresh: bool) -> None:
        """A supernet finished an epoch; one that is not `fresh` was found in the ledger."""

    def on_trial_end(self, trial: Trial, role: Role, fresh: bool) -> None:
        """A trial ended; one that is not `fresh` was found in the ledger."""

    def on_note(self, text: str) -> None:
        """Something worth telling a person, once."""

    def on_clock(self, used: float, remaining: float | None) -> None:
        """Seconds used and left; none without a limit."""

    def on_decision(self, name: str, value: Any) -> None:
        """Something was decided from the clock, and written down."""
