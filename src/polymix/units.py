"""Durations, scores and counts as people write them."""

from __future__ import annotations

import math
import re

from polymix.errors import UsageError

_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "10m", "1h30m", "1.5 h".

    Raises:
        UsageError: the text is no duration, or not a positive one.
    """
    rest = text.strip().lower()
    place, seconds = 0, 0.0
    while (part := _PART.match(rest, place)) is not None:
        number, unit = part.groups()
        alone = part.end() - part.start() == len(rest)
        if unit not in _SECONDS and not (unit == "" and alone):
            break
        seconds += float(number) * _SECONDS.get(unit, 1)
        place = part.end()
    if place < len(rest) or not 0 < seconds < math.inf:
        raise UsageError(
            f"--time-limit {text!r} is not a duration: write 90s, 10m, 1h30m or a number of seconds"
        )
    return seconds


def show_duration(seconds: float) -> str:
    """Seconds as "8s", "3m 05s", "1h 02m"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def show_score(value: float | None) -> str:
    """With four decimals; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def show_count(value: int) -> str:
    """In thousands or millions: `62k`, `1.25M`."""
    return f"{value / 1e6:.2f}M" if value >= 1_000_000 else f"{value / 1e3:.0f}k"
