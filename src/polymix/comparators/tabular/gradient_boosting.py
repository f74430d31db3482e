"""Gradient-boosted trees on binned columns (Friedman 2001; Ke et al. 2017)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor

from polymix import seeds
from polymix.comparators.tabular.inner import holdout, left
from polymix.comparators.tabular.learner import SURE, Learner
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.tree_table import TreeTable, width_of
from polymix.comparators.tabular.trees import Trees
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Target, Task
from polymix.errors import GenotypeError
from polymix.nn.encoder import Options, check_sizes

PATIENCE = 20

TIMED = 4
"""Rounds by which the time of one is told."""

REFITTED = 20_000
"""With at most as many rows, trees are grown anew on all of them, held-out ones too."""

CELL, COLUMN = 1.3e-8, 6e-5
"""Seconds a tree takes for a cell of the table, and for a column whatever its rows."""

THREADED_CELLS = 1_000_000
"""Numbers of a table from which trees are grown by several threads."""


class GradientBoosting(Learner):
    """Gradient boosting; rows held out of the training rows say after how many rounds to stop.

    Args:
        layouts: of the views.
        target: what is predicted.
        rounds: trees an output, at most.
        lr: of each round.
        leaves: of a tree, at most.
        depth: of a tree, at most.
        least: rows of a leaf, at least.
        share: of the columns that each split may look at, drawn anew.
        l2: penalty of leaves' values.
        dims: that an embedding is projected to; zero keeps it.
    """

    name: ClassVar[str] = "gradient-boosting"
    one_core: ClassVar[bool] = True
    VERSION: ClassVar[int] = 2

    def __init__(
        self,
        layouts: Sequence[Layout],
        target: Target,
        *,
        rounds: int = 200,
        lr: float = 0.08,
        leaves: int = 31,
        depth: int = 10,
        least: int = 10,
        share: float = 0.3,
        l2: float = 1.0,
        dims: int = 30,
    ) -> None:
        super().__init__(layouts, target)
        check_sizes(self.name, rounds=rounds, leaves=leaves, depth=depth, least=least)
        if not (0 < share <= 1 and 0 < lr <= 1 and l2 >= 0 and dims >= 0 and 2 <= leaves <= 255):
            raise GenotypeError(
                "gradient-boosting: 0 < share <= 1, 0 < lr <= 1, l2 >= 0, dims >= 0 and "
                f"2 <= leaves <= 255 must hold, but got share={share}, lr={lr}, l2={l2}, "
                f"dims={dims}, leaves={leaves}"
            )
        self.rounds = rounds
        self._stopped = True  # whether held-out rows ended all of its fits
        self.options: dict[str, Any] = {
            "learning_rate": lr, "max_leaf_nodes": leaves, "max_depth": depth,
            "min_samples_leaf": least, "max_features": share, "l2_regularization": l2,
        }  # fmt: skip
        self.table = TreeTable(layouts, dims)
        self.trees = Trees(self.sums, rounds, leaves, depth)
        self.uncounted = self.sums * rounds * (depth + 1)

    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`."""
        found: Tensor = self.trees(self.table(sample))
        return found

    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Trees until the held-out loss stays, then as many on all rows."""
        state = seeds.derive(seed, "gradient boosting") % 2**31
        self.table.fit(sample, state)
        x = self.table(sample).numpy()
        # Threads that wait for each other cost a small table more than they save.
        with threadpool_limits(1 if x.size < THREADED_CELLS else None, "openmp"):
            return self._fit_table(x, y, seed, state, deadline)

    def _fit_table(
        self, x: np.ndarray, y: np.ndarray, seed: int, state: int, deadline: float | None
    ) -> bool:
        """`fit` to the trees' table `(N, D)`."""
        rounds = self._affordable(x, y, state, deadline)
        self._stopped = True
        rng = seeds.stream(seed, "gradient boosting")
        if self.task is Task.MULTILABEL:
            for k in range(self.sums):
                weights = np.array([1.0, self.class_weights[k]])
                self._fit_classes([k], x, y[:, k], weights, rounds, state, rng)
        elif self.regression:
            model = self._fitted(HistGradientBoostingRegressor, x, y, None, rounds, state, rng)
            self._take(model, [0])
        else:
            outputs = list(range(self.sums))
            self._fit_classes(outputs, x, y, self.class_weights, rounds, state, rng)
        # Rounds that held-out rows did not call for are not missed.
        return rounds == self.rounds or self._stopped

    def _fitted(
        self,
        make: Any,
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        rounds: int,
        state: int,
        rng: np.random.Generator,
    ) -> Any:
        """An estimator on all rows, of as many rounds as held-out rows called for."""
        options = {**self.options, "random_state": state, "early_stopping": False}
        task = Task.REGRESSION if self.regression else Task.MULTICLASS
        held = holdout(y, task, rng)
        if not held.any() or held.all() or rounds < 2:
            self._stopped = False
            return make(max_iter=rounds, **options).fit(x, y, weights)
        stopping = options | {"early_stopping": True, "n_iter_no_change": PATIENCE}
        seen = {"X_val": x[held], "y_val": y[held]}
        if weights is not None:
            seen["sample_weight_val"] = weights[held]
        with warnings.catch_warnings():
            # A class that held-out rows lack is no reason to stop.
            warnings.simplefilter("ignore", UserWarning)
            tried = make(max_iter=rounds, **stopping).fit(
                x[~held], y[~held], None if weights is None else weights[~held], **seen
            )
        best = max(1, int(np.argmax(tried.validation_score_)))
        self._stopped = self._stopped and tried.n_iter_ < rounds
        if len(y) <= REFITTED:
            return make(max_iter=best, **options).fit(x, y, weights)
        del tried._predictors[best:]
        return tried

    def _affordable(self, x: np.ndarray, y: np.ndarray, state: int, deadline: float | None) -> int:
        """As many rounds as there is time for, by a few that are timed; at least one."""
        if deadline is None:
            return self.rounds
        options = self.options | {"early_stopping": False}
        numbers = (y if y.ndim == 1 else y[:, 0]).astype(np.float64)
        taken = []
        for tried in (1, 1 + TIMED):
            begun = time.monotonic()
            make = HistGradientBoostingRegressor(random_state=state, max_iter=tried, **options)
            make.fit(x, numbers)
            taken.append(time.monotonic() - begun)
        # The first round bins the columns, which is done once.
        each = max(taken[1] - taken[0], 1e-6) / TIMED * self.sums
        twice = 2 if len(y) <= REFITTED else 1
        room = 0.9 * left(deadline) / twice - taken[0]
        return max(1, min(self.rounds, int(room / each)))

    def _fit_classes(
        self,
        outputs: list[int],
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        rounds: int,
        state: int,
        rng: np.random.Generator,
    ) -> None:
        y = y.astype(np.int64)
        classes = np.unique(y)
        if len(classes) < 2:  # nothing to learn: it is always that one
            only = int(classes[0])
            for k in outputs:
                sign = 1.0 if (only == 1 if len(outputs) == 1 else only == k) else -1.0
                self.trees.load(k, sign * SURE, [])
            return
        rows = None if (weights == 1).all() else weights[y]
        make = HistGradientBoostingClassifier
        model = self._fitted(make, x, y, rows, rounds, state, rng)
        if len(outputs) == 1:
            self._take(model, outputs)
            return
        for k in outputs:
            self.trees.load(k, -SURE, [])
        # Two classes of several are one sum: the second one's logit against the first one's zero.
        if len(classes) == 2:
            self.trees.load(int(classes[0]), 0.0, [])
        self._take(model, [int(c) for c in (classes[1:] if len(classes) == 2 else classes)])

    def _take(self, model: Any, outputs: list[int]) -> None:
        """A fitted model's trees."""
        baseline = np.ravel(model._baseline_prediction)
        for i, k in enumerate(outputs):
            trees = [every[i].nodes for every in model._predictors]
            self.trees.load(k, float(baseline[i]), trees)

    @classmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes: cells that splits look at, by trees, twice."""
        asked = {"rounds": 200, "share": 0.3, "dims": 30, **dict(options)}
        columns = width_of(widths, int(asked["dims"]))  # type: ignore[arg-type]
        share = float(asked["share"])  # type: ignore[arg-type]
        each = columns * (COLUMN + rows * CELL) * (0.3 + 0.7 * share)
        sums = 1 if target.task in (Task.BINARY, Task.REGRESSION) else target.outputs
        twice = 1.6 if rows <= REFITTED else 1.0
        return float(0.05 + twice * int(asked["rounds"]) * sums * each)  # type: ignore[arg-type]
