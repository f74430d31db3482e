"""What a computation takes, over all the sessions that it needed."""

from __future__ import annotations

import time


class Meter:
    """CPU seconds and seconds on the clock, those of earlier sessions included.

    Args:
        start: when it began, on `time.monotonic`'s clock.
        cpu: of the process until then, by `time.process_time`.
    """

    def __init__(self, start: float, cpu: float) -> None:
        self._start, self._cpu = start, cpu
        self._before = {"cpu": 0.0, "wall": 0.0}

    def resume(self, cpu: float, wall: float) -> None:
        """Add what an earlier session took."""
        self._before = {"cpu": cpu, "wall": wall}

    @property
    def wall(self) -> float:
        """Seconds on the clock."""
        return self._before["wall"] + time.monotonic() - self._start

    def spent(self) -> dict[str, float]:
        """CPU seconds, and seconds on the clock."""
        return {"cpu": self._before["cpu"] + time.process_time() - self._cpu, "wall": self.wall}
