"""The representative sample of MixMAS (Eq. 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from polymix import seeds
from polymix.data.split import strata


def sample_size(rows: int, *, z: float = 1.96, p: float = 0.5, epsilon: float = 0.01) -> int:
    """How many of `rows` are enough (MixMAS, Eq. 1), rounded up.

    Args:
        rows: N, the size of the data.
        z: z-score of the confidence wanted.
        p: estimated proportion with the attribute.
        epsilon: margin of error.

    >>> sample_size(55_000)
    8177
    """
    n = z**2 * p * (1 - p) / epsilon**2
    return min(rows, math.ceil(n / (1 + n / rows)))


@dataclass(frozen=True)
class Sample:
    """Rows drawn, and how far their class proportions are from all rows'.

    Attributes:
        rows: indices, `(n,)` int64, sorted.
        distance: the largest difference of a class's proportion.
        accepted: whether it lies below the tolerance.
        draws: how many draws it took.
    """

    rows: np.ndarray
    distance: float
    accepted: bool
    draws: int


def draw_sample(
    targets: np.ndarray,
    rows: np.ndarray,
    size: int,
    seed: int,
    *,
    tolerance: float = 0.05,
    attempts: int = 20,
) -> Sample:
    """Draw `size` of `rows` at random until the class proportions agree (MixMAS, section III).

    Args:
        targets: of all rows, `(N,)` or `(N, L)`.
        rows: indices to draw from.
        size: how many; all of `rows` where that is not fewer.
        seed: of the draws.
        tolerance: the largest difference of proportions that is accepted.
        attempts: after so many draws the closest one is taken, and `accepted` is false.
    """
    if size >= len(rows):
        return Sample(np.sort(rows), 0.0, True, 0)
    groups = strata(targets[rows])
    whole = _proportions(groups, groups.max() + 1)
    best: Sample | None = None
    for attempt in range(attempts):
        rng = seeds.stream(seed, "sample", attempt)
        chosen = np.sort(rng.choice(len(rows), size, replace=False))
        distance = float(np.abs(_proportions(groups[chosen], len(whole)) - whole).max())
        if best is None or distance < best.distance:
            best = Sample(rows[chosen], distance, distance < tolerance, attempt + 1)
        if distance < tolerance:
            break
    assert best is not None
    return best


def _proportions(groups: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(groups, minlength=count) / len(groups)
