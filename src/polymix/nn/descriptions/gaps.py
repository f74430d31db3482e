"""Series with gaps as a description: statistics of what was measured.

Shapes: B batch, N rows to fit to, T steps, C channels, D numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.descriptions.description import Description
from polymix.nn.descriptions.series import known_steps
from polymix.nn.encoder import Options


class GapStatistics(Description):
    """Of each channel what was measured, how often and how long ago.

    Mean, recent mean (weights fall by e in `decay` steps), slope, deviation, log count and steps
    since the last; of all of them how much was measured: what is measured, and when, tells of the
    row, too (Che et al. 2018, "Recurrent neural networks for multivariate time series with missing
    values", section 2). Training rows' medians stand in for what a row never measured.

    Args:
        modality: of kind timeseries, with gaps.
        decay: in steps.

    Raises:
        GenotypeError: the series has no gaps.
    """

    name: ClassVar[str] = "gap-statistics"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TIMESERIES})
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    fill: Tensor

    def __init__(self, modality: Modality, *, decay: float = 8.0) -> None:
        if not self.suits(modality) or not decay > 0:
            raise GenotypeError(
                f"{self.name}: a series with gaps and decay > 0 must be given, but "
                f"'{modality.name}' has gaps={modality.gaps}, and decay={decay}"
            )
        channels = (modality.shape[1] - modality.padded) // 3
        super().__init__(6 * channels + 3, needs_fit=True)
        self.padded, self.decay, self.measured = modality.padded, decay, channels
        self.register_buffer("fill", torch.zeros(4 * channels, dtype=torch.float64))

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Series with gaps."""
        return modality.gaps

    def _numbers(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Four statistics `(B, 4C)`, which of them are known, and counts `(B, 2C + 3)`."""
        x, there = known_steps(x, self.padded)
        c = self.measured
        known = (x[..., c : 2 * c] > 0.5) & (there > 0)
        w = known.double()
        x = torch.where(known, x[..., :c], 0.0)
        steps = torch.arange(x.shape[1], dtype=torch.float64, device=x.device)[None, :, None]
        number = w.sum(1)
        count = number.clamp(min=1)
        mean = x.sum(1) / count
        apart = (x - mean[:, None]) * w
        late = (steps - (w * steps).sum(1)[:, None] / count[:, None]) * w
        slope = (late * apart).sum(1) / (late * late).sum(1).clamp(min=2.0**-30)
        deviation = ((apart * apart).sum(1) / count).sqrt()
        length = (there * (steps + 1)).amax(1).clamp(min=1)
        near = w * ((steps + 1 - length[:, None]).clamp(max=0) / self.decay).exp()
        recent = (x * near).sum(1) / near.sum(1).clamp(min=2.0**-126)
        one, two = number > 0, number > 1
        since = torch.where(one, length - (w * (steps + 1)).amax(1), length)
        every = w.sum(2)
        share = [every.sum(1).log1p(), (every > 0).sum(1) / length[:, 0], one.double().mean(1)]
        counts = torch.cat([number.log1p(), since, torch.stack(share, 1)], 1)
        numbers = torch.cat([mean, recent, slope, deviation], 1)
        return numbers, torch.cat([one, one, two, two], 1), counts

    def columns(self, x: Tensor) -> Tensor:
        """Series `(B, T, 3C)`, as `polymix.data.gaps` makes them, to `(B, 6C + 3)`."""
        numbers, known, counts = self._numbers(x)
        return torch.cat([torch.where(known, numbers, self.fill), counts], 1)

    def _fit(self, x: Tensor, seed: int) -> None:  # noqa: ARG002
        """Medians of rows `(N, T, 3C)`."""
        numbers, known, _ = self._numbers(x)
        medians = torch.where(known, numbers, torch.nan).nanmedian(0).values
        self.fill.copy_(medians.nan_to_num(0.0))
