"""Sounds as a description: statistics over time of log-mel spectrograms.

All is in double precision, of slices, sums, products with fixed matrices and sorts: ONNX Runtime
has no convolution in double precision, and no FFT that all of its versions agree on. The exporter
writes Python's numbers in single precision, so that constants are exact there (powers of two, say)
or are buffers.

Shapes: B batch, F mel bins, T frames, R sequences, D numbers of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.descriptions.description import Description, averages, fix
from polymix.nn.encoder import Options

LEVEL = 11 / 255 * math.log(10)
"""Nats of power in a step of a byte: a table's spectrograms have 110 dB in 255 steps."""

SPREAD = 4.0
"""Nats that a standard deviation of other spectrograms counts as: about that of bytes."""

LEAST = 16
"""Bins, and frames, that there must be."""

BANDS, CEPSTRA, CORRELATED, SLOW = 32, 20, 12, 12
"""Averaged bands; cepstral coefficients, and how many are correlated; bands of the rhythm."""

ACTIVE = 7.0
"""A frame is active where its loudest bin is at most so many nats (30 dB) below the row's."""

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
LOUDNESS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


class SoundStatistics(Description):
    """A log-mel spectrogram as statistics over time; nothing is fitted.

    Cepstra of active frames (mean, deviation, skewness, changes, correlations); quantiles and
    changes of bands; spectral centroid, spread, flatness and flux (Peeters 2004, "A large set of
    audio features", sections 6 and 7); spectral contrast (Jiang et al. 2002); modulation spectrum
    of bands in octaves (Greenberg and Kingsbury 1997) and their autocorrelation; quantiles of
    loudness.

    Args:
        modality: of kind audio, 16 bins and 16 frames at least; channels are averaged.

    Raises:
        GenotypeError: the spectrograms are smaller.
    """

    name: ClassVar[str] = "sound-statistics"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.AUDIO})
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    def __init__(self, modality: Modality) -> None:
        _, bins, frames = modality.shape
        if not self.suits(modality):
            raise GenotypeError(
                f"{self.name}: {LEAST} bins and {LEAST} frames at least, but '{modality.name}' "
                f"has {bins} and {frames}: use summary"
            )
        # The width is known once the fixed parts are: a blank spectrogram tells it.
        super().__init__(1)
        self.bytes = modality.dtype == "uint8"
        fitted = modality.statistics
        mean = fitted.mean if fitted and self.bytes else (0.0,)
        std = fitted.std if fitted and self.bytes else (1.0,)
        most = frames // 2
        time = torch.arange(frames, dtype=torch.float64) / frames
        angle = 2 * math.pi * time[:, None] * torch.arange(1, most, dtype=torch.float64)
        hann = 0.5 - 0.5 * torch.cos(2 * math.pi * (time + 0.5 / frames))
        edges = np.unique(np.round(np.geomspace(1, most, 13)).astype(int))
        octaves = torch.zeros((most - 1, len(edges) - 1), dtype=torch.float64)
        for i, (low, high) in enumerate(pairwise(edges.tolist())):
            octaves[low - 1 : high - 1, i] = 1 / frames
        first, second = torch.triu_indices(CORRELATED, CORRELATED, 1)
        fix(
            self, bands=averages(bins, min(BANDS, bins)), cosines=_cosines(bins, CEPSTRA),
            slow=averages(bins, SLOW), octaves=octaves, first=first, second=second,
            waves=torch.cat([angle.cos(), angle.sin()], 1) * hann[:, None],
            height=torch.arange(bins, dtype=torch.float64)[:, None] / bins,
            unit=torch.tensor(LEVEL if self.bytes else SPREAD, dtype=torch.float64),
            mean=torch.tensor(mean, dtype=torch.float64)[:, None, None],
            std=torch.tensor(std, dtype=torch.float64)[:, None, None],
        )  # fmt: skip
        self.lags = sorted(
            {max(1, round(float(s) * frames)) for s in np.geomspace(1 / 256, 0.3, 16)}
        )
        with torch.no_grad():
            blank = torch.zeros((1, *modality.shape), device=self.get_buffer("unit").device)
            self.widths = (self.columns(blank).shape[1],)

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Spectrograms that are large enough."""
        return min(modality.shape[1:]) >= LEAST

    def columns(self, x: Tensor) -> Tensor:
        """Spectrograms `(B, C, F, T)` to `(B, D)`."""
        x = x.double() * self.get_buffer("std") + self.get_buffer("mean")
        level = (x.round() if self.bytes else x).mean(1) * self.get_buffer("unit")
        peak = level.amax((1, 2))
        active = (level.amax(1, keepdim=True) >= peak[:, None, None] - ACTIVE).double()
        every = torch.ones_like(active)
        loud = level.mean(1)
        cepstra = self.get_buffer("cosines") @ level
        change = cepstra[..., 2:] - cepstra[..., :-2]
        found = [*_shape(cepstra, active), _shape(change, active[..., 2:])[1]]
        found += [_shape(change.abs(), active[..., 2:])[0], self._correlations(cepstra, active)]
        bands = self.get_buffer("bands") @ level
        step = bands[..., 1:] - bands[..., :-1]
        found += [_ranked(bands, LEVELS), bands.amax(-1), step.abs().mean(-1), step.amax(-1)]
        found += [step.amin(-1), _shape(step, every[..., 1:])[1]]
        frames = self._spectral(level)
        found += [*_shape(frames, active), *_shape(frames, every)[:2]]
        found += self._rhythm(level, loud)
        switches = (active[:, 0, 1:] - active[:, 0, :-1]).abs().mean(1)
        mean = loud.mean(1)
        found.append(torch.stack([active[:, 0].mean(1), switches, peak, mean, peak - mean], 1))
        found.append(_ranked((loud - loud.amax(1, keepdim=True))[:, None], LOUDNESS))
        return torch.cat(found, 1)

    def _correlations(self, cepstra: Tensor, active: Tensor) -> Tensor:
        """Of the first cepstra with each other, over active frames: `(B, R, T)` to `(B, D)`."""
        cepstra = cepstra[:, :CORRELATED]
        count = active.sum(-1).clamp(min=1)
        apart = (cepstra - ((cepstra * active).sum(-1) / count)[..., None]) * active
        both = apart @ apart.transpose(1, 2) / count[..., None]
        deviation = (both.diagonal(dim1=1, dim2=2) + 2.0**-8).sqrt()
        both = both / deviation[:, :, None] / deviation[:, None]
        return both[:, self.get_buffer("first"), self.get_buffer("second")]

    def _spectral(self, level: Tensor) -> Tensor:
        """Each frame's centroid, spread, flatness, flux and contrasts: `(B, 12, T)`."""
        below = level - level.amax(1, keepdim=True)  # shares are the same, and exp stays finite
        power = below.exp()
        share = power / power.sum(1, keepdim=True)
        height = self.get_buffer("height")
        centre = (share * height).sum(1)
        spread = (share * (height - centre[:, None]) ** 2).sum(1).sqrt()
        flat = below.mean(1) - power.mean(1).log()
        flux = (level[..., 1:] - level[..., :-1]).clamp(min=0).mean(1)
        flux = torch.cat([torch.zeros_like(flux[:, :1]), flux], 1)
        size = level.shape[1] // 8
        parts = [level[:, i * size : (i + 1) * size] for i in range(8)]
        contrast = [part.amax(1) - part.amin(1) for part in parts]
        return torch.stack([centre, spread, flat, flux, *contrast], 1)

    def _rhythm(self, level: Tensor, loud: Tensor) -> list[Tensor]:
        """Modulation by octave, absolute and relative, and autocorrelation of slow bands."""
        slow = torch.cat([self.get_buffer("slow") @ level, loud[:, None]], 1)
        slow = slow - slow.mean(-1, keepdim=True)
        waves = slow @ self.get_buffer("waves")  # a Fourier transform, as a product
        half = waves.shape[-1] // 2
        power = (waves[..., :half] ** 2 + waves[..., half:] ** 2) @ self.get_buffer("octaves")
        whole = power.sum(-1, keepdim=True)
        variance = (slow * slow).sum(-1) + 2.0**-8 * slow.shape[-1]
        again = [(slow[..., lag:] * slow[..., :-lag]).sum(-1) / variance for lag in self.lags]
        low = 2.0**-11
        found = [(power + low).log(), ((power + low) / (whole + 8 * low)).log()]
        return [part.flatten(1) for part in [*found, torch.stack(again, -1)]]


def _cosines(size: int, most: int) -> Tensor:
    """The first rows of the DCT-II, at most so many: `(count, size)`."""
    at = torch.arange(size, dtype=torch.float64) + 0.5
    rows = torch.arange(min(most, size), dtype=torch.float64)[:, None]
    return torch.cos(math.pi / size * at * rows) * math.sqrt(2 / size)


def _shape(x: Tensor, weight: Tensor) -> list[Tensor]:
    """Mean, deviation and skewness over time, `(B, R)` each: x `(B, R, T)`, weights `(B, 1, T)`."""
    count = weight.sum(-1).clamp(min=1)
    mean = (x * weight).sum(-1) / count
    apart = (x - mean[..., None]) * weight
    deviation = ((apart * apart).sum(-1) / count + 2.0**-18).sqrt()
    cubed = deviation * deviation * deviation
    return [mean, deviation, (apart * apart * apart).sum(-1) / count / cubed]


def _ranked(x: Tensor, at: tuple[float, ...]) -> Tensor:
    """Quantiles over time, no interpolation: `(B, R, T)` to `(B, R·Q)`."""
    last = x.shape[-1] - 1
    ranked = x.sort(-1).values
    return torch.cat([ranked[..., min(last, round(q * last))] for q in at], 1)
