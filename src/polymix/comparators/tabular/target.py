"""A regression's target as learners see it: transformed and of unit deviation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from polymix.comparators.tabular.quantiles import NormalQuantiles

TARGET_KNOTS = 512


class TargetTransform(nn.Module):
    """Values to what is learned, and back.

    Args:
        kind: `none`, `log` or `normal`.
    """

    moments: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "normal":
            self.quantiles = NormalQuantiles(1, TARGET_KNOTS)
        # What is subtracted before the log; mean and deviation after it; least and greatest.
        self.register_buffer("moments", torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).double())

    @torch.no_grad()
    def fit(self, y: np.ndarray) -> np.ndarray:
        """Fit to targets `(N,)`; returns them as they are learned."""
        values = torch.from_numpy(y.astype(np.float64))
        self.moments[0] = min(0.0, float(values.min())) if self.kind == "log" else 0.0
        if self.kind == "normal":
            self.quantiles.fit(values[:, None])
        z = self._bent(values)
        self.moments[1], self.moments[2] = z.mean(), float(z.std(correction=0)) or 1.0
        z = (z - self.moments[1]) / self.moments[2]
        self.moments[3], self.moments[4] = z.min(), z.max()
        found: np.ndarray = z.numpy()
        return found

    def _bent(self, y: Tensor) -> Tensor:
        if self.kind == "log":
            return torch.log1p(y - self.moments[0])
        return self.quantiles(y[:, None])[:, 0] if self.kind == "normal" else y

    def inverse(self, z: Tensor) -> Tensor:
        """What was learned, `(B, 1)`, to values.

        Transformed ones stay within the training rows' range: an exponential of a line that went
        on would not.
        """
        if self.kind != "none":
            z = torch.minimum(torch.maximum(z, self.moments[3]), self.moments[4])
        z = z * self.moments[2] + self.moments[1]
        if self.kind == "log":
            return torch.expm1(z) + self.moments[0]
        return self.quantiles.inverse(z) if self.kind == "normal" else z
