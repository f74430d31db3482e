"""Series as a description: MiniRocket's kernels (Dempster, Schmidt and Webb 2021).

Shapes: B batch, N rows to fit to, T steps, C channels, K kernels, D numbers of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polymix import seeds
from polymix.data.schema import Kind, Modality
from polymix.nn.descriptions.description import Description, fix
from polymix.nn.descriptions.series import known_steps
from polymix.nn.encoder import Options, check_sizes

KERNELS, TAPS = 84, 9
"""All kernels of nine weights of which three are 2 and six -1 (section 3.1)."""

FITTED = 64
"""Rows whose responses biases are quantiles of."""

MOST_CHANNELS = 9
"""Channels that a kernel sees at most (section 3.2, multivariate)."""

FAR = -(2.0**20)
"""What padding counts as where the greatest response is sought."""


class Kernels(Description):
    """How often, and how much, fixed kernels exceed biases at several dilations.

    Pools: the share of steps above each bias (MiniRocket's), the greatest response (ROCKET's), and
    the mean of what is positive (MultiRocket, Tan et al. 2022). A kernel sees the sum of a few
    channels, drawn at random; channels are standardised; biases are quantiles of the responses of
    some rows, at multiples of the golden ratio (section 3.1).

    Args:
        modality: of kind timeseries.
        biases: of a kernel at a dilation.
        dilations: at most.
    """

    name: ClassVar[str] = "series-kernels"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TIMESERIES})
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}
    linear = True

    mix: Tensor
    bias: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, modality: Modality, *, biases: int = 4, dilations: int = 5) -> None:
        check_sizes(self.name, biases=biases, dilations=dilations)
        length, channels = modality.shape[0], modality.shape[1] - modality.padded
        top = math.log2(max(1, (length - 1) // (TAPS - 1)))
        spread_out = sorted({int(2**e) for e in np.linspace(0, top, dilations)})
        super().__init__(KERNELS * len(spread_out) * (biases + 2), needs_fit=True)
        self.dilations, self.padded = spread_out, modality.padded
        twos = torch.tensor(list(combinations(range(TAPS), 3)))
        weights = torch.full((KERNELS, TAPS), -1.0, dtype=torch.float64).scatter(1, twos, 2.0)
        fix(self, weights=weights)
        size = (len(self.dilations), channels, KERNELS)
        self.register_buffer("mix", torch.zeros(size, dtype=torch.float64))
        shape = (len(self.dilations), biases, KERNELS)
        self.register_buffer("bias", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(channels, dtype=torch.float64))

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Series without gaps."""
        return not modality.gaps

    def _responses(self, x: Tensor, i: int) -> Tensor:
        """Channels `(B, T, C)` to `(B, T, K)` by the i-th dilation.

        Nine shifted sums: ONNX Runtime has no convolution in double precision.
        """
        d, t = self.dilations[i], x.shape[1]
        weights = self.get_buffer("weights")
        x = nn.functional.pad(x @ self.mix[i], (0, 0, TAPS // 2 * d, TAPS // 2 * d))
        found = x[:, :t] * weights[:, 0]
        for j in range(1, TAPS):
            found = found + x[:, j * d : j * d + t] * weights[:, j]
        return found

    def _scaled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, there = known_steps(x, self.padded)
        return (values - self.shift) / self.scale * there, there

    def columns(self, x: Tensor) -> Tensor:
        """Series `(B, T, C)` to `(B, D)`."""
        values, there = self._scaled(x)
        count = there.sum(1).clamp(min=1)
        some = there.amax(1) > 0
        found = []
        for i in range(len(self.dilations)):
            y = self._responses(values, i)
            found += [((y > b) * there).sum(1) / count for b in self.bias[i]]
            greatest = torch.where(there > 0, y, FAR).amax(1)
            found.append(torch.where(some, greatest, 0.0))
            found.append((y.clamp(min=0) * there).sum(1) / count)
        return torch.cat(found, 1)

    def _fit(self, x: Tensor, seed: int) -> None:
        """Channels' scales, which of them a kernel sees, and biases, from rows `(N, T, C)`."""
        draw = seeds.stream(seed, self.name)
        values, there = known_steps(x, self.padded)
        total = there.sum().clamp(min=1)
        self.shift.copy_(values.sum((0, 1)) / total)
        spread = ((((values - self.shift) * there) ** 2).sum((0, 1)) / total).sqrt()
        self.scale.copy_(torch.where(spread > 1e-9, spread, 1.0))
        channels = len(self.shift)
        mix = np.zeros(tuple(self.mix.shape))
        for i in range(len(self.dilations)):
            for k in range(KERNELS):
                count = int(2 ** (draw.random() * math.log2(min(channels, MOST_CHANNELS) + 1)))
                chosen = draw.choice(channels, min(max(1, count), channels), replace=False)
                mix[i, chosen, k] = 1.0
        self.mix.copy_(torch.from_numpy(mix))
        rows = draw.choice(len(x), min(FITTED, len(x)), replace=False)
        values, there = self._scaled(x[torch.from_numpy(rows).to(x.device)])
        golden = [(j + 1) * (math.sqrt(5) - 1) / 2 % 1 for j in range(self.bias.shape[1])]
        for i in range(len(self.dilations)):
            seen = self._responses(values, i)[there[..., 0] > 0].cpu().numpy()
            if len(seen):
                self.bias[i].copy_(torch.from_numpy(np.quantile(seen, golden, axis=0)))
