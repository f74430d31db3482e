"""Series as a description: statistics of their channels, whatever their length.

All is in double precision; constants are powers of two or buffers (see `sound`).

Shapes: B batch, T steps, C channels, D numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.nn.descriptions.description import Description, fix
from polymix.nn.encoder import Options, check_sizes

QUANTILES = (0, 10, 25, 50, 75, 90, 100)
LAGS = (1, 2, 3)
THIRDS = 3


def known_steps(x: Tensor, padded: bool) -> tuple[Tensor, Tensor]:
    """Values `(B, T, C)`, zero in padding, and which steps are there, 0 or 1, `(B, T, 1)`.

    Args:
        x: `(B, T, C)`, or `(B, T, 1 + C)` if padded.
        padded: whether the first column says which steps are there.
    """
    x = x.double()
    if not padded:
        return x, torch.ones_like(x[..., :1])
    there = x[..., :1] != 0
    return torch.where(there, x[..., 1:], 0.0), there.double()


class SeriesStatistics(Description):
    """A series as statistics of its channels; nothing is fitted.

    Moments, quantiles, first and last values; means about the beginning, the middle and the end;
    products with Legendre polynomials one to four, in time relative to the row's own length, so
    that series of unlike length can be compared; changes; autocorrelations; covariances.

    Args:
        modality: of kind timeseries.
        pairs: channels between which covariances are taken, at most.
    """

    name: ClassVar[str] = "series-statistics"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TIMESERIES})
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    def __init__(self, modality: Modality, *, pairs: int = 24) -> None:
        check_sizes(self.name, pairs=pairs)
        length, channels = modality.shape[0], modality.shape[1] - modality.padded
        compared = min(channels, pairs)
        each = 4 + len(QUANTILES) + THIRDS + 4 + (5 if length > max(LAGS) else 0)
        super().__init__(each * channels + compared * (compared - 1) // 2 + modality.padded)
        self.padded = modality.padded
        first, second = torch.triu_indices(compared, compared, 1)
        fix(self, first=first, second=second)

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Series without gaps."""
        return not modality.gaps

    def columns(self, x: Tensor) -> Tensor:
        """Series `(B, T, C)` to `(B, D)`."""
        x, there = known_steps(x, self.padded)
        _, length, channels = x.shape
        count = there.sum(1).clamp(min=1)
        mean = x.sum(1) / count
        apart = (x - mean[:, None]) * there
        variance = (apart * apart).sum(1) / count
        deviation = variance.sqrt()
        ranked = torch.where(there > 0, x, torch.inf).sort(1).values

        def at(of: Tensor, percent: int) -> Tensor:
            index = ((count.long() - 1) * percent + 50) // 100
            return of.gather(1, index[:, None].expand(-1, 1, channels))[:, 0]

        some = there.amax(1) > 0
        found = [mean, deviation, x[:, 0], at(x, 100)]
        found += [torch.where(some, at(ranked, q), 0.0) for q in QUANTILES]
        steps = torch.arange(length, dtype=torch.float64, device=x.device)[None, :, None]
        place = (steps + 0.5) / count[:, None]
        for i in range(THIRDS):
            near = there * (1 - (place * (THIRDS - 1) - i).abs()).clamp(min=0)
            found.append((x * near).sum(1) / near.sum(1).clamp(min=2.0**-20))
        z = 2 * place - 1
        square = z * z
        for curve in (z, 3 * square - 1, z * (5 * square - 3), square * (35 * square - 30) + 3):
            found.append((apart * curve).sum(1) / count)
        if length > max(LAGS):
            step = (x[:, 1:] - x[:, :-1]) * there[:, 1:]
            number = (count - 1).clamp(min=1)
            found += [step.abs().sum(1) / number, ((step * step).sum(1) / number).sqrt()]
            # Not a sum: the exporter takes a number below 1e-8 for zero, and leaves it out.
            power = variance.clamp(min=2.0**-30)
            for lag in LAGS:
                found.append((apart[:, lag:] * apart[:, :-lag]).sum(1) / count / power)
        both = apart.transpose(1, 2) @ apart / count[..., None]
        found.append(both[:, self.get_buffer("first"), self.get_buffer("second")])
        if self.padded:
            found.append(count.log())
        return torch.cat(found, 1)
