"""Numbers as a normal distribution's, by their quantiles in the training rows."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor, nn

BOUND = 3.5
"""Standard deviations that the first and the last quantile stand at, at most."""


class NormalQuantiles(nn.Module):
    """Each column's values to standard normal ones, linear between quantiles.

    Args:
        width: columns, D.
        knots: quantiles that are kept, Q, at most.
    """

    values: Tensor
    normals: Tensor

    def __init__(self, width: int, knots: int = 128) -> None:
        super().__init__()
        self.knots = knots
        size = (width, knots)
        self.register_buffer("values", torch.full(size, torch.inf, dtype=torch.float64))
        self.register_buffer("normals", torch.zeros(size, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit to columns `(N, D)`, NaN where a value is missing."""
        for column, numbers in enumerate(x.double().numpy().T):
            numbers = numbers[np.isfinite(numbers)]
            if not len(numbers):
                continue
            share = np.linspace(0, 1, min(self.knots, max(2, len(numbers))))
            normals = np.clip(norm.ppf(share), -BOUND, BOUND)
            values, where = np.unique(np.quantile(numbers, share), return_inverse=True)
            # A value that many rows share stands at the mean of its quantiles.
            means = np.bincount(where, normals) / np.bincount(where)
            self.values[column] = torch.inf
            self.values[column, : len(values)] = torch.from_numpy(values)
            self.normals[column] = float(means[-1])
            self.normals[column, : len(values)] = torch.from_numpy(means)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D)` to normal values; beyond the quantiles kept, those of the last ones."""
        return _between(x, self.values, self.normals)

    def inverse(self, z: Tensor) -> Tensor:
        """Normal values `(B, D)` to values."""
        last = torch.where(torch.isfinite(self.values), self.values, -torch.inf)
        last = last.amax(1, keepdim=True)
        values = torch.where(torch.isfinite(self.values), self.values, last)
        normals = torch.where(torch.isfinite(self.values), self.normals, torch.inf)
        return _between(z, normals, values)


def _between(x: Tensor, at: Tensor, to: Tensor) -> Tensor:
    """Piecewise linear: `(B, D)` by each column's knots `at` (ascending, inf pads) and `to`."""
    passed = (x[..., None] >= at).sum(-1)  # `searchsorted` has no counterpart in ONNX
    right = passed.clamp(1, at.shape[1] - 1)
    columns = torch.arange(at.shape[0], device=x.device).expand(x.shape)
    low, high = at[columns, right - 1], at[columns, right]
    share = ((x - low) / (high - low)).clamp(0, 1)
    share = torch.where(torch.isfinite(low), share, torch.zeros_like(share))
    left = to[columns, right - 1]
    return left + share * (to[columns, right] - left)
