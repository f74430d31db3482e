"""Predictions to be scored, and scores as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polymix.records import Interval


@dataclass(frozen=True)
class Predictions:
    """A model's predictions of the rows, `(N, K)`, under a key."""

    key: str
    predictions: np.ndarray


def interval_json(interval: Interval) -> dict[str, Any]:
    """`{value, ci}`, with null for what is not finite."""
    bounds = [interval.value, interval.low, interval.high]
    clean = [float(v) if np.isfinite(v) else None for v in bounds]
    return {"value": clean[0], "ci": clean[1:]}
