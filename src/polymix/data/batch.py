"""Batches: rows gathered from the raw arrays, converted and normalised on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, ready for a model.

    Attributes:
        inputs: by modality; shapes as in `Kind`, or banked features, see the source.
        present: `(B, k)` bool, columns in the schema's order; none where every row has all.
        target: `(B,)` int64, `(B, L)` float32 or `(B,)` float64; none for new rows.
    """

    inputs: Mapping[str, object]
    present: Tensor | None
    target: Tensor | None


class Source(Protocol):
    """Whatever supplies batches: raw rows, or banked features."""

    @property
    def device(self) -> torch.device:
        """Where batches lie."""

    def batch(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, indices `(B,)` int64."""


class RowSource:
    """Batches of raw rows.

    Args:
        dataset: where the rows are.
        device: where batches go.
        names: the modalities to supply; all where not given.
    """

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        names: Sequence[str] | None = None,
    ) -> None:
        self._device = device
        schema = dataset.schema
        self._columns = [
            (schema[name], torch.from_numpy(np.asarray(dataset.arrays[name])))
            for name in (names or schema.names)
        ]
        self._places = {name: schema.index(name) for name in schema.names}
        self._present = None if dataset.present.all() else torch.from_numpy(dataset.present)
        self._targets = torch.from_numpy(dataset.targets)

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self._device

    def batch(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, indices `(B,)` int64."""
        index = torch.from_numpy(rows)
        present = None if self._present is None else self._present[index]
        inputs = {}
        for modality, array in self._columns:
            raw = array[index]
            if present is not None:
                raw = blanked(raw, present[:, self._places[modality.name]])
            inputs[modality.name] = convert(modality, raw, self._device)
        return Batch(
            inputs=inputs,
            present=None if present is None else present.to(self._device),
            target=self._targets[index].to(self._device),
        )


def blanked(raw: Tensor, present: Tensor) -> Tensor:
    """Rows with those that are absent set to zero: what lies there may be NaN, and 0·NaN spreads.

    Models put their absent-tokens in their place; zeros never reach an output.
    """
    return raw if bool(present.all()) else raw.masked_fill(
        ~present.reshape(-1, *[1] * (raw.dim() - 1)), 0
    )  # fmt: skip


def convert(modality: Modality, raw: Tensor, device: torch.device) -> Tensor:
    """Raw rows `(B, *shape)` on the device, as float32 and normalised; text as int64.

    Padding is zeros, whatever the raw rows hold there.
    """
    raw = raw.to(device)
    if modality.kind is Kind.TEXT:
        return raw.to(torch.int64)
    x = _normalised(modality, raw, device)
    return torch.where(raw[..., :1] != 0, x, 0.0) if modality.padded else x


def _normalised(modality: Modality, raw: Tensor, device: torch.device) -> Tensor:
    x = raw.to(torch.float32)
    if modality.statistics is None:
        return x
    mean, std = modality.statistics.mean, modality.statistics.std
    if len(mean) == 1:
        return x.sub_(mean[0]).div_(std[0]) if x is not raw else (x - mean[0]) / std[0]
    shape = (-1, 1, 1) if modality.kind in (Kind.IMAGE, Kind.AUDIO) else (-1,)
    shift = torch.tensor(mean, dtype=torch.float32, device=device).reshape(shape)
    scale = torch.tensor(std, dtype=torch.float32, device=device).reshape(shape)
    return (x - shift) / scale
