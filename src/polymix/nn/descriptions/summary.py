"""Anything but texts as a description: columns, moments, or pictures averaged down, by PCA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.nn.descriptions.description import Description, averages, fill
from polymix.nn.encoder import Options, check_sizes

SHORT = 256
"""Numbers that a short series has at most."""

SIDE = 12
"""Images and spectrograms are averaged down to so many rows and columns at most."""


class Summary(Description):
    """Anything else as numbers: columns as they are, sequences' moments, pictures averaged down.

    Short sequences of one length are columns, too: each step means the same in every row. Of all
    else, more than `dims` numbers are standardised and projected by PCA.

    Args:
        modality: of any kind but text.
        dims: columns, at most.
    """

    name: ClassVar[str] = "summary"
    VERSION: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind) - {Kind.TEXT}
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    shift: Tensor
    scale: Tensor
    project: Tensor
    down: Tensor
    across: Tensor

    def __init__(self, modality: Modality, *, dims: int = 64) -> None:
        check_sizes(self.name, dims=dims)
        self.padded = modality.padded
        self.picture = modality.kind in (Kind.IMAGE, Kind.AUDIO)
        columns = is_columns(modality)
        self.sequence = not self.picture and not columns and len(modality.shape) == 2
        if self.picture:
            sides = [min(SIDE, n) for n in modality.shape[1:]]
            raw = modality.shape[0] * sides[0] * sides[1]
        elif self.sequence:
            raw = 5 * (modality.shape[1] - self.padded)
        else:
            raw = math.prod(modality.shape)
        self.projected = not columns and raw > dims
        super().__init__(dims if self.projected else raw, needs_fit=self.projected)
        if self.picture:
            for name, size, side in zip(("down", "across"), modality.shape[1:], sides, strict=True):
                self.register_buffer(name, averages(size, side), persistent=False)
        if self.projected:
            self.register_buffer("shift", torch.zeros(raw, dtype=torch.float64))
            self.register_buffer("scale", torch.ones(raw, dtype=torch.float64))
            self.register_buffer("project", torch.zeros((raw, dims), dtype=torch.float64))

    def _numbers(self, x: Tensor) -> Tensor:
        """Inputs to `(B, R)`."""
        x = x.double()
        if self.picture:
            return (self.down @ x @ self.across.T).flatten(1)
        return _moments(x, self.padded) if self.sequence else x.flatten(1)

    def columns(self, x: Tensor) -> Tensor:
        """Inputs to `(B, D)`."""
        numbers = self._numbers(x)
        if not self.projected:
            return numbers
        return ((numbers - self.shift) / self.scale) @ self.project

    def _fit(self, x: Tensor, seed: int) -> None:
        """Fit to the inputs of N rows."""
        numbers = self._numbers(x).cpu().numpy()
        mean, std = numbers.mean(0), numbers.std(0)
        std[std < 1e-9] = 1.0
        self.shift.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(std))
        count = min(self.channels, len(numbers) - 1)
        if count > 0:
            solver = "randomized" if min(numbers.shape) > 2 * count else "full"
            pca = PCA(count, svd_solver=solver, random_state=seed).fit((numbers - mean) / std)
            fill(self.project, pca.components_)


def is_columns(modality: Modality) -> bool:
    """Whether its numbers are columns to a tree: a table's, or a short series' of one length."""
    if modality.kind is Kind.TIMESERIES:
        return not (modality.padded or modality.gaps) and math.prod(modality.shape) <= SHORT
    return modality.kind is Kind.TABULAR


def _moments(x: Tensor, padded: bool) -> Tensor:
    """Mean, deviation, least, greatest and last of each channel: `(B, T, C)` to `(B, 5C)`."""
    there = x[..., :1] != 0 if padded else torch.ones_like(x[..., :1], dtype=torch.bool)
    x = x[..., 1:] if padded else x
    count = there.sum(1).clamp(min=1).double()
    mean = torch.where(there, x, 0.0).sum(1) / count
    apart = torch.where(there, x - mean[:, None], 0.0)
    deviation = ((apart * apart).sum(1) / count).sqrt()
    some = there.any(1)
    least = torch.where(some, torch.where(there, x, torch.inf).amin(1), 0.0)
    most = torch.where(some, torch.where(there, x, -torch.inf).amax(1), 0.0)
    steps = torch.arange(x.shape[1], device=x.device)[:, None]
    final = torch.where(there, steps, 0).amax(1)[:, None].expand(-1, 1, x.shape[2])
    last = torch.where(some, torch.gather(x, 1, final)[:, 0], 0.0)
    return torch.cat([mean, deviation, least, most, last], 1)
