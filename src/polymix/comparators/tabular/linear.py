"""Linear models on words' weights, levels and numbers: ridge and logistic regression.

The L2 penalty's strength is chosen inside the training rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from polymix import seeds
from polymix.comparators.tabular.inner import (
    FOLDS,
    class_loss,
    fit_scale,
    fold_of,
    left,
    signs,
)
from polymix.comparators.tabular.learner import SURE, Learner
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.vectors import Vectors
from polymix.comparators.tabular.views import Form, Layout
from polymix.data.schema import Target, Task
from polymix.errors import GenotypeError
from polymix.nn.encoder import Options

ALPHAS, WIDE_ALPHAS = (0.3, 1.0, 3.0), (0.01, 0.1, 1.0, 10.0)
INVERSE, WIDE_INVERSE = (1.0, 3.0, 10.0), (0.1, 1.0, 10.0, 100.0)
"""Penalties of ridge, and their inverses for logistic regression; wide ones where a view is dense,
as rows of length one then say less about how many directions count."""

LARGE = 4000
"""With more rows, one fold says how strong the penalty shall be."""

ROTATED = 2000
"""Rows up to which words are rotated: the work grows with their cube."""

PRODUCT = 1e-10
"""Seconds of a product of two columns, for a row."""

SPARED = 0.4
"""Of the time, what is kept for the fit to all rows."""

Matrix = Any


class Linear(Learner):
    """Ridge regression, or for classes logistic regression.

    Args:
        layouts: of the views.
        target: what is predicted.
        loss: `logistic`, or `squares`: ridge regression on classes as 1 and -1, whose decisions
            are scaled to logits out of fold; a regression takes squares always.
        numbers: a number's weight beside words.
    """

    name: ClassVar[str] = "linear"
    one_core: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1
    forms: ClassVar[frozenset[Form]] = frozenset(
        {"ids", "columns", "numbers", "dense", "embedding"}
    )

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        layouts: Sequence[Layout],
        target: Target,
        *,
        loss: str = "logistic",
        numbers: float = 0.3,
    ) -> None:
        super().__init__(layouts, target)
        if loss not in ("logistic", "squares"):
            raise GenotypeError(f"linear: loss must be 'logistic' or 'squares', but got '{loss}'")
        self.squares = loss == "squares" or self.regression
        self.wide = any(one.form in ("dense", "embedding") for one in layouts)
        self.vectors = Vectors(layouts, None, 1, numbers)
        for i, slots in enumerate(self.vectors.slot_counts):
            blank = torch.zeros((slots, self.sums), dtype=torch.float64)
            self.register_buffer(f"tokens_{i}", blank)
        size = (self.vectors.dense_width, self.sums)
        self.register_buffer("weight", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(self.sums, dtype=torch.float64))

    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`."""
        total = self.vectors.dense(sample) @ self.weight + self.bias
        for i, (slots, weights) in enumerate(self.vectors.occurrences(sample)):
            tokens = getattr(self, f"tokens_{i}")
            total = total + (tokens[slots] * weights[..., None]).sum(1)
        return total

    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Choose the strength by cross-validation, then fit to all rows."""
        self.vectors.fit(sample)
        x, back = rotated(self.vectors.matrix(sample))
        rng = seeds.stream(seed, "linear")
        strengths = self._strengths()
        fold = fold_of(y, self.task, FOLDS, rng)
        folds = range(FOLDS if len(y) <= LARGE else 1)
        losses = np.full((len(strengths), len(folds)), np.inf)
        crossed = np.zeros((len(strengths), len(y), self.sums))
        begun, whole = left(deadline), len(y) >= 2 * FOLDS
        for k in folds if whole else ():
            held = fold == k
            for i, strength in enumerate(strengths):
                if deadline is not None and left(deadline) < SPARED * begun:
                    whole = False
                    break
                weights, bias = self._solve(x[~held], y[~held], strength)
                crossed[i, held] = found = x[held] @ weights + bias
                losses[i, k] = self._loss(found, y[held])
        tried = np.isfinite(losses).all(0)
        best = int(np.argmin(losses[:, tried].mean(1))) if tried.any() else len(strengths) // 2
        weights, bias = self._solve(x, y, strengths[best])
        if self.squares and not self.regression:
            seen = np.isin(fold, np.flatnonzero(tried)) if tried.any() else np.zeros(len(y), bool)
            scale, shifts = 1.0, np.zeros(self.sums)
            if seen.any():
                scale, shifts = fit_scale(
                    crossed[best, seen], y[seen], self.task, self.class_weights
                )
            weights, bias = weights * scale, bias * scale + shifts
        self._keep(back(weights), bias)
        return whole or len(y) < 2 * FOLDS

    def _strengths(self) -> tuple[float, ...]:
        if self.squares:
            return WIDE_ALPHAS if self.wide else ALPHAS
        return WIDE_INVERSE if self.wide else INVERSE

    def _loss(self, found: np.ndarray, y: np.ndarray) -> float:
        if self.regression:
            return float(((found[:, 0] - y) ** 2).mean())
        if self.squares:
            return float(((found - signs(y, self.task, self.outputs)) ** 2).mean())
        return class_loss(found, y, self.task, self.class_weights)

    def _solve(self, x: Matrix, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(D, S)` and biases `(S,)`."""
        if self.squares:
            targets = y[:, None] if self.regression else signs(y, self.task, self.outputs)
            return ridge(x, targets, strength)
        if self.task is Task.MULTILABEL:
            each = [
                logistic(x, y[:, k], strength, np.array([1.0, self.class_weights[k]]))
                for k in range(self.sums)
            ]
            return np.concatenate([w for w, _ in each], 1), np.concatenate([b for _, b in each])
        weights, bias = logistic(x, y, strength, self.class_weights)
        if self.sums == 2 and weights.shape[1] == 1:  # two of several classes: the first one's zero
            weights = np.concatenate([np.zeros_like(weights), weights], 1)
            bias = np.concatenate([np.zeros_like(bias), bias])
        return weights, bias

    def _keep(self, weights: np.ndarray, bias: np.ndarray) -> None:
        begin = 0
        for i, slots in enumerate(self.vectors.slot_counts):
            kept = torch.from_numpy(np.ascontiguousarray(weights[begin : begin + slots]))
            getattr(self, f"tokens_{i}").copy_(kept)
            begin += slots
        self.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights[begin:])))
        self.bias.copy_(torch.from_numpy(bias))

    @classmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes: entries of the matrix, by outputs and solves."""
        texts = sum(one.width for one in widths if one.form == "ids")
        # Beside words the matrix is sparse: a category is one number of a row, whatever its levels.
        dense = sum(
            one.width - (sum(size - 1 for _, size in one.categories) if texts else 0)
            for one in widths
            if one.form != "ids"
        )
        outputs = 1 if target.task is Task.REGRESSION else sums_of_target(target)
        solves = 10 if rows <= LARGE else 4
        squares = target.task is Task.REGRESSION or dict(options).get("loss") == "squares"
        cell = 2e-8 if squares else 2e-7
        products = 0.0 if texts else solves * rows * dense**2 * PRODUCT
        cells = solves * rows * (min(texts, 60) + dense) * cell * outputs
        return 0.1 + products + cells + rows * texts * 1e-6


def sums_of_target(target: Target) -> int:
    """Outputs that are solved for."""
    return 1 if target.task is Task.BINARY else target.outputs


def rotated(x: Matrix) -> tuple[Matrix, Callable[[np.ndarray], np.ndarray]]:
    """Rows `(N, D)` in as few columns as there are rows, and what turns weights back `(D, S)`.

    The penalty is on a length, which no rotation changes, so that the solution is the same; a
    column of zeros has no weight. A solver's own vectors are then as long as there are rows, not
    words.
    """
    if not sparse.issparse(x):
        if x.shape[1] <= x.shape[0]:
            return x, lambda weights: weights
        parts = torch.linalg.svd(torch.from_numpy(x), full_matrices=False)
        left_vectors, values, right = (part.numpy() for part in parts)
        return left_vectors * values, lambda weights: right.T @ weights
    width, used = x.shape[1], np.flatnonzero(x.getnnz(axis=0))
    x = x[:, used]

    def spread(weights: np.ndarray) -> np.ndarray:
        found = np.zeros((width, weights.shape[1]))
        found[used] = weights
        return found

    if x.shape[1] <= min(x.shape[0], ROTATED):
        return x.toarray(), spread
    if x.shape[1] <= x.shape[0] or x.shape[0] > ROTATED:
        return x, spread
    found = torch.linalg.eigh(torch.from_numpy((x @ x.T).toarray()))
    squares, vectors = found.eigenvalues.numpy(), found.eigenvectors.numpy()
    kept = squares > 1e-10 * squares[-1]
    values, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    return vectors * values, lambda weights: spread(x.T @ (vectors / values @ weights))


def ridge(x: Matrix, y: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression (Hoerl and Kennard 1970) of targets `(N, S)`."""
    solver = "sparse_cg" if sparse.issparse(x) else "auto"
    found = Ridge(alpha, solver=solver, tol=1e-4).fit(x, y)
    return found.coef_.reshape(y.shape[1], -1).T, np.full(y.shape[1], found.intercept_)


def logistic(
    x: Matrix, y: np.ndarray, inverse: float, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression of classes: weights `(D, S)`, S one for two classes.

    Args:
        x: rows `(N, D)`.
        y: classes `(N,)`; one that no row has is predicted by none.
        inverse: of the penalty.
        weights: of classes, `(K,)`.
    """
    y = y.astype(np.int64)
    classes, count = np.unique(y), len(weights)
    found, bias = np.zeros((x.shape[1], count)), np.full(count, -SURE)
    if len(classes) == 1:
        bias[classes] = SURE
    else:
        model = LogisticRegression(
            C=inverse, max_iter=300, class_weight={int(c): float(weights[c]) for c in classes}
        )
        with warnings.catch_warnings():
            # The last steps change no prediction that counts.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        if len(classes) == 2:  # one sum, against the first one's zero
            bias[classes] = 0.0, float(model.intercept_[0])
            found[:, classes[1]] = model.coef_[0]
        else:
            bias[classes], found[:, classes] = model.intercept_, model.coef_.T
    if count > 2:
        return found, bias
    # A binary target's one sum, or a label's.
    only = len(classes) == 1
    return found[:, 1:], np.array([SURE if classes[0] else -SURE]) if only else bias[1:]
