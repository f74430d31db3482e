"""Presets: how much is spent, for those who name no limit.

    fast   a minute
    good   ten minutes
    best   an hour; `auto` searches networks too, however few rows there are: more members

A limit is the most that is spent: a small table may be done sooner. What is said beside a preset
wins over it, part by part: under `--preset best --time-limit 20m` networks are still searched.
Without a preset and without a limit, all that the strategy has to try is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polymix.runs.options import Preset, RunOptions


@dataclass(frozen=True)
class Spending:
    """What a preset means.

    Attributes:
        seconds: the time limit.
        options: of the strategy `auto`.
    """

    seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[Preset, Spending] = {
    "fast": Spending(60.0),
    "good": Spending(600.0),
    "best": Spending(3600.0, {"networks": True}),
}


def with_preset(asked: RunOptions, strategy: object) -> RunOptions:
    """Options with what their preset says of those that were not given.

    Args:
        asked: the options.
        strategy: the search method, by name or as an object.
    """
    if asked.preset is None:
        return asked
    meant = PRESETS[asked.preset]
    limit = meant.seconds if asked.time_limit is None else asked.time_limit
    more = meant.options if strategy == "auto" else {}
    return asked.model_copy(update={"time_limit": limit, "options": {**more, **asked.options}})
