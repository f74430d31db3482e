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


def draw_balanced(targets: np.ndarray, rows: np.ndarray, size: int, seed: int) -> Sample:
    """Draw `size` of `rows`, as many of each stratum as there are: a class-balanced sample.

    A stratum that is too small gives all it has, and the others share what it leaves.
    """
    if size >= len(rows):
        return Sample(np.sort(rows), 0.0, True, 0)
    groups = strata(targets[rows])
    whole = _proportions(groups, int(groups.max()) + 1)
    rng = seeds.stream(seed, "sample", "balanced")
    shuffled = rng.permutation(len(rows))
    # Each row's turn within its stratum: the first of each go first, then the second, …
    order = np.argsort(groups[shuffled], kind="stable")
    counts = np.bincount(groups, minlength=len(whole))
    turns = np.empty(len(rows), np.int64)
    turns[shuffled[order]] = np.concatenate([np.arange(c) for c in counts])
    chosen = np.sort(np.lexsort((rng.random(len(rows)), turns))[:size])
    distance = float(np.abs(_proportions(groups[chosen], len(whole)) - whole).max())
    return Sample(rows[chosen], distance, True, 1)


def draw_weighted(rows: np.ndarray, weights: np.ndarray, size: int, seed: int) -> Sample:
    """Draw `size` of `rows` without replacement, each with a chance that grows with its weight.

    Args:
        rows: indices `(N,)`.
        weights: `(N,)`, none negative.
        size: how many; all where that is not fewer.
        seed: of the draw.
    """
    if size >= len(rows):
        return Sample(np.sort(rows), 0.0, True, 0)
    rng = seeds.stream(seed, "sample", "weighted")
    # Efraimidis and Spirakis (2006): the largest of u^(1/w) are such a draw.
    with np.errstate(divide="ignore"):
        keys = np.log(rng.random(len(rows))) / np.maximum(weights, 1e-12)
    return Sample(np.sort(rows[np.argsort(-keys)[:size]]), 0.0, True, 1)


def _proportions(groups: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(groups, minlength=count) / len(groups)
