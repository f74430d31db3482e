"""Extremely randomised trees (Geurts, Ernst and Wehenkel 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from torch import Tensor

from polymix import seeds
from polymix.comparators.tabular.inner import class_loss, holdout, left
from polymix.comparators.tabular.learner import SURE, Learner
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.tree_table import TreeTable, width_of
from polymix.comparators.tabular.trees import Forest
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Target, Task
from polymix.errors import GenotypeError
from polymix.nn.encoder import Options, check_sizes

LEAVES_TRIED = (1, 3, 5)
TRIAL_TREES = 40
SMOOTHING = 0.01
"""Of a probability, what is the classes' frequency: no forest is ever sure."""

CELL, TREE = 6e-9, 8e-4
"""Seconds a tree takes for a cell that it may look at, times the depth, and for itself."""


class ExtraTrees(Learner):
    """Extra trees; how few rows a leaf may have is chosen on rows held out of the training rows.

    Args:
        layouts: of the views.
        target: what is predicted.
        trees: how many.
        share: of the columns that each split may look at; zero takes their root.
        least: rows of a leaf; zero chooses among `LEAVES_TRIED`.
        leaves: of a tree, at most.
        depth: of a tree, at most.
        dims: that an embedding is projected to; zero keeps it.
    """

    name: ClassVar[str] = "extra-trees"
    one_core: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    prior: Tensor

    def __init__(
        self,
        layouts: Sequence[Layout],
        target: Target,
        *,
        trees: int = 150,
        share: float = 0.4,
        least: int = 0,
        leaves: int = 2048,
        depth: int = 32,
        dims: int = 30,
    ) -> None:
        super().__init__(layouts, target)
        check_sizes(self.name, trees=trees, leaves=leaves, depth=depth)
        if not (0 <= share <= 1 and least >= 0 and dims >= 0 and leaves <= 16_000):
            raise GenotypeError(
                "extra-trees: 0 <= share <= 1, least >= 0, dims >= 0 and leaves <= 16000 must "
                f"hold, but got share={share}, least={least}, dims={dims}, leaves={leaves}"
            )
        self.count, self.share, self.least = trees, share, least
        self.most_leaves, self.depth = leaves, depth
        self.table = TreeTable(layouts, dims)
        self.forest = Forest(target.outputs, trees, leaves, depth)
        self.register_buffer("prior", torch.full((target.outputs,), 0.5, dtype=torch.float64))
        self.uncounted = trees * (depth + 1)

    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`."""
        means = self.forest(self.table(sample))
        return means if self.regression else self._logits(means)

    def _logits(self, p: Tensor) -> Tensor:
        """Probabilities `(B, K)` to logits, as classes are weighed."""
        p = (1 - SMOOTHING) * p + SMOOTHING * self.prior
        weights = torch.as_tensor(self.class_weights, device=p.device)
        if self.task is Task.MULTILABEL:
            logits = p.log() - (1 - p).log() + weights.log()
        else:
            logits = p.log() + weights.log()
            if self.task is Task.BINARY:
                logits = logits[:, 1:] - logits[:, :1]
        return logits.clamp(-SURE, SURE)

    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Choose the leaves' size on held-out rows, then grow all trees on all rows."""
        state = seeds.derive(seed, "extra trees") % 2**31
        self.table.fit(sample, state)
        x = self.table(sample).numpy().astype(np.float32)
        self._count_prior(y)
        begun, whole = left(deadline), True
        held = holdout(y, self.task, seeds.stream(seed, "extra trees"))
        least, losses = self.least or LEAVES_TRIED[0], []
        if not self.least and held.any() and not held.all():
            for tried in LEAVES_TRIED:
                if deadline is not None and left(deadline) < 0.6 * begun:
                    whole = False
                    break
                count = min(TRIAL_TREES, self.count)
                forest = self._grown(x[~held], y[~held], tried, count, state, None)[0]
                losses.append((self._loss(forest, x[held], y[held]), tried))
            least = min(losses)[1] if losses else least
        forest, grown = self._grown(x, y, least, self.count, state, deadline)
        self.forest.load(
            [one.tree_ for one in forest.estimators_],
            [self._values(forest, one.tree_) for one in forest.estimators_],
        )
        return whole and grown == self.count

    def _count_prior(self, y: np.ndarray) -> None:
        if self.regression:
            return
        labels = y if self.task is Task.MULTILABEL else y[:, None] == np.arange(self.outputs)
        share = (labels.sum(0) + 0.5) / (len(y) + 1)
        whole = share.sum() if self.task is not Task.MULTILABEL else 1.0
        self.prior.copy_(torch.from_numpy(share / whole))

    def _grown(
        self,
        x: np.ndarray,
        y: np.ndarray,
        least: int,
        count: int,
        state: int,
        deadline: float | None,
    ) -> tuple[Any, int]:
        """A forest, and how many trees there was time for."""
        make = ExtraTreesRegressor if self.regression else ExtraTreesClassifier
        forest = make(
            n_estimators=count if deadline is None else min(10, count),
            min_samples_leaf=least,
            max_features=self.share or "sqrt",
            max_leaf_nodes=None if len(x) <= self.most_leaves else self.most_leaves,
            max_depth=self.depth,
            random_state=state,
            warm_start=True,
        )
        targets = y if self.regression else y.astype(np.int64)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        forest.fit(x, targets)
        while forest.n_estimators < count and left(deadline) > 0:
            forest.n_estimators = min(count, forest.n_estimators + 10)
            forest.fit(x, targets)
        return forest, forest.n_estimators

    def _values(self, forest: Any, tree: Any) -> np.ndarray:
        """The leaves' values or probabilities, `(M, K)`."""
        if self.regression:
            return np.asarray(tree.value[:, 0, :])
        found = np.zeros((tree.node_count, self.outputs))
        if self.task is Task.MULTILABEL:
            several = self.outputs > 1
            for k in range(self.outputs):
                classes = forest.classes_[k] if several else forest.classes_
                for place, one in enumerate(classes):
                    if one == 1:
                        found[:, k] = tree.value[:, k, place]
            return found
        found[:, forest.classes_] = tree.value[:, 0, :]
        return found

    def _loss(self, forest: Any, x: np.ndarray, y: np.ndarray) -> float:
        if self.regression:
            return float(((forest.predict(x) - y) ** 2).mean())
        leaves = forest.apply(x)
        p = np.zeros((len(x), self.outputs))
        for r, one in enumerate(forest.estimators_):
            p += self._values(forest, one.tree_)[leaves[:, r]]
        logits = self._logits(torch.from_numpy(p / len(forest.estimators_))).numpy()
        return class_loss(logits, y, self.task, self.class_weights)

    @classmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes: cells that splits look at, by trees and levels."""
        asked = {"trees": 150, "share": 0.4, "dims": 30, "least": 0, **dict(options)}
        columns = max(1, width_of(widths, int(asked["dims"])))  # type: ignore[arg-type]
        share = float(asked["share"]) or columns**-0.5  # type: ignore[arg-type]
        trees = int(asked["trees"]) + (0 if asked["least"] else 3 * TRIAL_TREES)  # type: ignore[arg-type]
        looked = rows * max(1.0, share * columns) * np.log2(max(rows, 2))
        outputs = 1 + 0.1 * target.outputs
        return float(trees * (TREE + looked * CELL * outputs + rows * 2e-6))
