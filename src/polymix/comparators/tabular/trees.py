"""Ensembles of trees as tensors: fitted by scikit-learn, kept and evaluated without it.

All trees descend together, a level a step: T trees of M nodes are tables `(T·M,)` in which a leaf
points to itself. Boosted trees' thresholds and values are in double precision, as they were
fitted; a forest's columns are rounded to single precision before they are cut, as it was fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Trees(nn.Module):
    """Sums of trees, one sum an output.

    Args:
        outputs: K.
        rounds: trees an output, R.
        leaves: of a tree, at most.
        depth: of a tree, at most.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    missing_left: Tensor
    value: Tensor
    baseline: Tensor

    def __init__(self, outputs: int, rounds: int, leaves: int, depth: int) -> None:
        super().__init__()
        self.outputs, self.rounds, self.depth = outputs, rounds, depth
        self.nodes = 2 * leaves - 1
        size = (rounds, outputs, self.nodes)
        self.register_buffer("feature", torch.zeros(size, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("child", torch.zeros((*size, 2), dtype=torch.int16))
        self.register_buffer("missing_left", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("value", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("baseline", torch.zeros(outputs, dtype=torch.float64))

    @torch.no_grad()
    def load(self, output: int, baseline: float, trees: Sequence[np.ndarray]) -> None:
        """Take one output's trees; the rest of its rounds stay empty.

        Args:
            output: which.
            baseline: what the trees are added to.
            trees: node tables, as scikit-learn's histogram gradient boosting has them.
        """
        self.baseline[output] = baseline
        for buffer in (self.feature, self.threshold, self.child, self.missing_left, self.value):
            buffer[:, output] = 0
        for r, nodes in enumerate(trees):
            count = len(nodes)
            inner = nodes["is_leaf"] == 0
            own = np.arange(count)
            left = np.where(inner, nodes["left"].astype(np.int64), own)
            right = np.where(inner, nodes["right"].astype(np.int64), own)
            table: dict[str, Any] = {
                "feature": np.where(inner, nodes["feature_idx"], 0),
                "threshold": np.where(inner, nodes["num_threshold"], 0.0),
                "child": np.stack([left, right], 1),
                "missing_left": nodes["missing_go_to_left"] != 0,
                "value": np.where(inner, 0.0, nodes["value"]),
            }
            for name, column in table.items():
                buffer = getattr(self, name)
                buffer[r, output, :count] = torch.from_numpy(column).to(buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Columns `(B, D)`, NaN where a value is missing, to sums `(B, K)`."""
        trees = self.rounds * self.outputs
        start = torch.arange(trees, device=x.device) * self.nodes
        feature, threshold = self.feature.reshape(-1).long(), self.threshold.reshape(-1)
        left, right = self.child.reshape(-1, 2).long().unbind(1)
        missing = self.missing_left.reshape(-1)
        node = start.expand(x.shape[0], trees)
        for _ in range(self.depth):
            seen = torch.gather(x, 1, feature[node])
            # What is missing is at most nothing, so that its own side says where it goes.
            goes_left = (seen <= threshold[node]) | (torch.isnan(seen) & missing[node])
            node = start + torch.where(goes_left, left[node], right[node])
        values = self.value.reshape(-1)[node].reshape(-1, self.rounds, self.outputs)
        return self.baseline + values.sum(1)


class Forest(nn.Module):
    """The mean of trees whose leaves hold vectors.

    Args:
        outputs: of a leaf, K.
        trees: how many, R.
        leaves: of a tree, at most.
        depth: of a tree, at most.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    missing_left: Tensor
    value: Tensor
    count: Tensor

    def __init__(self, outputs: int, trees: int, leaves: int, depth: int) -> None:
        super().__init__()
        self.trees, self.depth, self.nodes = trees, depth, 2 * leaves - 1
        size = (trees, self.nodes)
        self.register_buffer("feature", torch.zeros(size, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(size, dtype=torch.float32))
        self.register_buffer("child", torch.zeros((*size, 2), dtype=torch.int16))
        self.register_buffer("missing_left", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("value", torch.zeros((*size, outputs), dtype=torch.float32))
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def load(self, trees: Sequence[Any], values: Sequence[np.ndarray]) -> None:
        """Take fitted trees; where they are fewer, the rest stays empty.

        Args:
            trees: `tree_` of scikit-learn's estimators.
            values: of their nodes, `(M, K)` each.
        """
        for buffer in (self.feature, self.threshold, self.child, self.missing_left, self.value):
            buffer.zero_()
        self.count.fill_(len(trees))
        for r, (tree, value) in enumerate(zip(trees, values, strict=True)):
            count = tree.node_count
            own, inner = np.arange(count), tree.children_left >= 0
            left = np.where(inner, tree.children_left, own)
            right = np.where(inner, tree.children_right, own)
            table: dict[str, Any] = {
                "feature": np.where(inner, tree.feature, 0),
                "threshold": rounded_down(np.where(inner, tree.threshold, 0.0)),
                "child": np.stack([left, right], 1),
                "missing_left": np.asarray(tree.missing_go_to_left) != 0,
                "value": value,
            }
            for name, column in table.items():
                buffer = getattr(self, name)
                buffer[r, :count] = torch.from_numpy(np.ascontiguousarray(column)).to(buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Columns `(B, D)`, NaN where a value is missing, to means `(B, K)`."""
        x = x.float()
        start = torch.arange(self.trees, device=x.device) * self.nodes
        feature, threshold = self.feature.reshape(-1).long(), self.threshold.reshape(-1)
        left, right = self.child.reshape(-1, 2).long().unbind(1)
        missing = self.missing_left.reshape(-1)
        node = start.expand(x.shape[0], self.trees)
        for _ in range(self.depth):
            seen = torch.gather(x, 1, feature[node])
            goes_left = (seen <= threshold[node]) | (torch.isnan(seen) & missing[node])
            node = start + torch.where(goes_left, left[node], right[node])
        values = self.value.reshape(-1, self.value.shape[-1])[node]
        return values.double().sum(1) / self.count


def rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest single-precision numbers that are not above doubles: they part the same ones."""
    found = thresholds.astype(np.float32)
    return np.where(found > thresholds, np.nextafter(found, np.float32(-np.inf)), found)
