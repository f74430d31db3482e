"""The clock of a run: what it has used, over all resumptions, and what is left."""

from __future__ import annotations

import time
from typing import Protocol


class Meter(Protocol):
    """What the clock needs of a ledger."""

    def used_seconds(self) -> float:
        """Seconds used so far."""

    def add_used(self, seconds: float) -> None:
        """Add to them."""


class Clock:
    """Counts a run's seconds against its limit.

    Args:
        meter: keeps the count over resumptions.
        limit: seconds; none for no limit.
    """

    def __init__(self, meter: Meter, limit: float | None) -> None:
        self._meter, self.limit = meter, limit
        self._before = meter.used_seconds()
        self._start = self._last_tick = time.monotonic()

    def tick(self) -> None:
        """Write down what was used since the last tick."""
        now = time.monotonic()
        self._meter.add_used(now - self._last_tick)
        self._last_tick = now

    @property
    def used(self) -> float:
        """Seconds used, earlier sessions of the run included."""
        return self._before + time.monotonic() - self._start

    @property
    def remaining(self) -> float | None:
        """Seconds left, not below zero; none without a limit."""
        return None if self.limit is None else max(0.0, self.limit - self.used)

    def deadline(self, share: float) -> float | None:
        """The moment, on `time.monotonic`'s clock, when a share of the limit is used."""
        if self.limit is None:
            return None
        return self._start - self._before + share * self.limit
