"""Scores of several systems on several tables, as ranks and normalised scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata


def normalised(scores: Mapping[str, float | None]) -> dict[str, float]:
    """One table's scores, 0 for the worst of those compared and 1 for the best.

    Args:
        scores: by system, higher is better; none for one that failed, which is 0. Where all
            that did not fail are alike, they are 1.
    """
    known = [s for s in scores.values() if s is not None]
    if not known:
        return dict.fromkeys(scores, 0.0)
    low, high = min(known), max(known)
    if high == low:
        return {name: float(s is not None) for name, s in scores.items()}
    return {n: 0.0 if s is None else (s - low) / (high - low) for n, s in scores.items()}


def ranks(scores: Mapping[str, float | None]) -> dict[str, float]:
    """One table's ranks, 1 for the best; equals share their mean rank, failures are last."""
    values = [np.inf if s is None else -s for s in scores.values()]
    return dict(zip(scores, map(float, rankdata(values)), strict=True))


def means(tables: Mapping[str, Mapping[str, float | None]]) -> dict[str, tuple[float, float]]:
    """Each system's mean rank and mean normalised score, over tables.

    Args:
        tables: scores by table and system; every table has the same systems.

    Raises:
        ValueError: a table lacks a system that another has.
    """
    systems = list(next(iter(tables.values()), {}))
    for table, scores in tables.items():
        if set(scores) != set(systems):
            missing = sorted(set(systems) ^ set(scores))
            raise ValueError(f"table '{table}' and others differ in {', '.join(missing)}")
    ranked = [ranks(scores) for scores in tables.values()]
    shares = [normalised(scores) for scores in tables.values()]
    return {
        s: (float(np.mean([r[s] for r in ranked])), float(np.mean([n[s] for n in shares])))
        for s in systems
    }
