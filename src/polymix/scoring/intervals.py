"""Intervals and ties: what a score, or a difference of scores, can be trusted to.

Two sources of noise, kept apart and then added in quadrature: which rows were drawn, by a
bootstrap over rows (paired, for a difference), and how training fell out, by the spread over
seeds with Student's t (Welch's, for a difference: one seed's order and start do not make two
architectures alike). One seed shows nothing of the second; it is then taken to be as large as
the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import stats

from polymix.records import TIE_Z, Interval
from polymix.scoring.bootstrap import draw_weights
from polymix.scoring.metrics import Metric

DRAWS = 200
MIN_FREEDOM = 4.0
"""Two seeds alone would leave Student's t one degree of freedom, and an interval of which an
unsteady architecture makes a tie with anything; that finalists are trained alike is worth more."""


class Scored(Protocol):
    """Predictions under a key: a trial, or one model's on other rows."""

    @property
    def key(self) -> str:
        """Stands for the predictions."""

    @property
    def predictions(self) -> np.ndarray | None:
        """`(N, K)`."""


@dataclass(frozen=True)
class Predictions:
    """A model's predictions of the rows, `(N, K)`, under a key."""

    key: str
    predictions: np.ndarray


class Referee:
    """Says how far scores on one set of rows can be trusted.

    Args:
        metric: what is scored.
        targets: of the rows, `(N,)` or `(N, L)`.
        folded: whether predictions are out of fold: several trainings stand behind each, so that
            the noise of training is in the rows' already.
    """

    def __init__(self, metric: Metric, targets: np.ndarray, *, folded: bool = False) -> None:
        self.metric, self.targets, self.folded = metric, targets, folded
        self._values: dict[str, float] = {}
        self._rows: dict[str, np.ndarray] = {}

    @cached_property
    def _weights(self) -> np.ndarray:
        return draw_weights(len(self.targets), DRAWS)

    def value(self, one: Scored) -> float:
        """The score of one set of predictions."""
        if one.key not in self._values:
            assert one.predictions is not None
            self._values[one.key] = self.metric(self.targets, one.predictions)
        return self._values[one.key]

    def score(self, ours: Sequence[Scored]) -> Interval:
        """The mean score over seeds, with its 95% interval, as far as scores can go."""
        found = self._interval([[self.value(t) for t in ours]], self._mean_rows(ours))
        return found.within(*self.metric.bounds)

    def difference(self, ours: Sequence[Scored], theirs: Sequence[Scored]) -> Interval:
        """The mean difference `ours - theirs`, paired by row, with its 95% interval.

        Where one side has more seeds, only as many as the other has are compared.
        """
        count = min(len(ours), len(theirs))
        ours, theirs = ours[:count], theirs[:count]
        values = [[self.value(t) for t in side] for side in (ours, theirs)]
        return self._interval(values, self._mean_rows(ours) - self._mean_rows(theirs))

    def combined(self, terms: Sequence[tuple[float, Scored]]) -> Interval:
        """A weighted sum of scores, paired by row, with its 95% interval.

        All terms are of one trained model, or of models taken as they are: the interval is that
        of the rows alone.
        """
        value = sum(weight * self.value(one) for weight, one in terms)
        rows = np.sum([weight * self._row_scores(one) for weight, one in terms], 0)
        half = self._noise(rows)
        ends = [sorted(w * end for end in self.metric.bounds) for w, _ in terms if w]
        least, most = (sum(side) for side in zip(*ends, strict=True)) if ends else (0.0, 0.0)
        return Interval(value, value - half, value + half).within(least, most)

    def _interval(self, sides: Sequence[Sequence[float]], rows: np.ndarray) -> Interval:
        """The interval of a mean, or of the difference of two, from seeds' scores and rows."""
        noise = self._noise(rows)
        mean = float(np.mean(sides[0])) - (float(np.mean(sides[1])) if len(sides) > 1 else 0.0)
        alone = 0.0 if self.folded else noise
        half = np.hypot(noise, spread(sides) if len(sides[0]) > 1 else alone)
        return Interval(mean, mean - float(half), mean + float(half))

    def _noise(self, rows: np.ndarray) -> float:
        """The half-width that the drawing of rows gives."""
        # The bootstrap of a mean of rows has a closed form; else `rows` are its draws.
        closed = self.metric.per_row is not None
        known = rows[np.isfinite(rows)]
        deviation = float(known.std()) if len(known) else 0.0
        return TIE_Z * deviation / (float(np.sqrt(len(rows))) if closed else 1.0)

    def _mean_rows(self, several: Sequence[Scored]) -> np.ndarray:
        return np.mean([self._row_scores(one) for one in several], 0)  # type: ignore[no-any-return]

    def _row_scores(self, one: Scored) -> np.ndarray:
        """A score a row `(N,)`, or, for a metric that is no mean, one a bootstrap draw."""
        if one.key not in self._rows:
            assert one.predictions is not None
            if self.metric.per_row is not None:
                self._rows[one.key] = self.metric.per_row(self.targets, one.predictions)
            else:
                self._rows[one.key] = self._drawn(one.predictions)
        return self._rows[one.key]

    def _drawn(self, predictions: np.ndarray) -> np.ndarray:
        if self.metric.resampled is not None:
            return self.metric.resampled(self.targets, predictions, self._weights)
        every = np.arange(len(self.targets))
        drawn = [np.repeat(every, counts) for counts in self._weights.astype(np.int64)]
        return np.array([self.metric(self.targets[rows], predictions[rows]) for rows in drawn])


def spread(sides: Sequence[Sequence[float]]) -> float:
    """The half-width that the seeds give the mean of one side, or the difference of two (Welch)."""
    shares = [float(np.var(side, ddof=1)) / len(side) for side in sides]
    if not sum(shares):
        return 0.0
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True)
    )
    freedom = max(freedom, MIN_FREEDOM)
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(sum(shares)))


def interval_json(interval: Interval) -> dict[str, Any]:
    """`{value, ci}`, with null for what is not finite."""
    bounds = [interval.value, interval.low, interval.high]
    clean = [float(v) if np.isfinite(v) else None for v in bounds]
    return {"value": clean[0], "ci": clean[1:]}
