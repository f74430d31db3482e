"""Which rows train, which choose, and which stay sealed until the choice is made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from polymix import seeds
from polymix.errors import DataError

TRAIN, VAL, TEST = 0, 1, 2


class SealedRows:
    """The test rows. Only reports open them; nothing that chooses is ever handed this."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"SealedRows({len(self)})"

    def open(self) -> np.ndarray:
        """The rows' indices, `(N,)` int64."""
        return self._rows


@dataclass(frozen=True)
class Split:
    """Row indices, `(N,)` int64 each, sorted.

    Attributes:
        train: rows that are trained on.
        val: rows that choose.
        test: rows that nothing but reports reads, and the last refit, once the choice is made.
        folds: the fold of each development row, `(M,)` int64 from 0; none where rows are many, or
            where validation rows were named.
    """

    train: np.ndarray
    val: np.ndarray
    test: SealedRows = field(repr=False)
    folds: np.ndarray | None = field(default=None, repr=False)

    @property
    def development(self) -> np.ndarray:
        """Training and validation rows, `(M,)` int64, sorted: all that are not sealed."""
        return np.sort(np.concatenate([self.train, self.val]))

    def fold_rows(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """The development rows outside of a fold, and those in it.

        Raises:
            DataError: the rows were not cut into folds.
        """
        if self.folds is None:
            raise DataError("these rows were not cut into folds")
        rows, inside = self.development, self.folds == fold
        return rows[~inside], rows[inside]

    @classmethod
    def from_codes(cls, codes: np.ndarray, folds: np.ndarray | None = None) -> Split:
        """A split from one code a row (`TRAIN`, `VAL`, `TEST`).

        Args:
            codes: of every row, `(N,)`.
            folds: of every row, `(N,)`; those of test rows are not looked at.

        Raises:
            DataError: no training or no validation row, an unknown code, or a fold without rows.
        """
        unknown = sorted(set(np.unique(codes).tolist()) - {TRAIN, VAL, TEST})
        if unknown:
            raise DataError(f"unknown split codes {unknown}: 0 train, 1 validation, 2 test")
        train, val, test = (np.flatnonzero(codes == code) for code in (TRAIN, VAL, TEST))
        if not len(train) or not len(val):
            raise DataError(
                f"a split needs training and validation rows, but got {len(train)} and {len(val)}"
            )
        split = cls(train, val, SealedRows(test))
        if folds is None:
            return split
        inside = np.asarray(folds[split.development], np.int64)
        counts = np.bincount(inside) if len(inside) and inside.min() >= 0 else np.zeros(1)
        if len(counts) < 2 or not counts.all():
            raise DataError(f"folds from 0 need rows in each, two at least, but got {counts}")
        return replace(split, folds=inside)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that stand for the training and validation rows, and their folds."""
        digest = hashlib.sha256()
        for rows in (self.train, self.val):
            digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes() + b"|")
        if self.folds is not None:
            digest.update(np.ascontiguousarray(self.folds, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]


def strata(targets: np.ndarray, bins: int = 10) -> np.ndarray:
    """One stratum a row, `(N,)` int64.

    Classes as they are; label sets by their rarest label; numbers by quantile.
    """
    if targets.ndim == 2:
        rarity = np.where(targets > 0, targets.sum(0)[None, :], np.inf)
        return np.asarray(np.where((targets > 0).any(1), rarity.argmin(1), targets.shape[1]))
    if np.issubdtype(targets.dtype, np.floating):
        edges = np.unique(np.quantile(targets, np.linspace(0, 1, bins + 1)[1:-1]))
        return np.searchsorted(edges, targets)
    return targets.astype(np.int64)


def stratified_codes(targets: np.ndarray, val: float, test: float, seed: int) -> np.ndarray:
    """Split codes, `(N,)` uint8, with every stratum in about the same proportions.

    Args:
        targets: `(N,)` classes or numbers, or `(N, L)` label sets.
        val: share of validation rows, in (0, 1).
        test: share of test rows, in [0, 1).
        seed: of the draw.
    """
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise DataError(f"0 < val, 0 <= test, val + test < 1 must hold, but got {val}, {test}")
    rng = seeds.stream(seed, "split")
    groups = strata(targets)
    codes = np.zeros(len(targets), np.uint8)
    # Rows ordered by stratum, shuffled within: every k-th one spreads each stratum evenly.
    order = np.lexsort((rng.random(len(targets)), groups))
    place = (np.arange(len(order)) + rng.random()) % len(order)
    share = (place * val) % 1 < val
    codes[order[share]] = VAL
    rest = order[~share]
    again = (np.arange(len(rest)) * (test / (1 - val)) + rng.random()) % 1 < test / (1 - val)
    codes[rest[again]] = TEST
    return codes
