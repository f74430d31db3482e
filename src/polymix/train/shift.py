"""Spectrograms moved at random in training: a few recordings do not show when a thing may be heard.

In time they move as a recording cut elsewhere would; along frequency a quarter as far, for pitch
says more than time does (Salamon & Bello 2017, "Deep Convolutional Neural Networks and Data
Augmentation for Environmental Sound Classification", shift both). Images stay where they are:
where things lie in the middle of small ones, mixers lose by it more than others gain.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from polymix.data.batch import Batch
from polymix.data.schema import Kind, Schema

FREQUENCY = 0.25

Steps = tuple[int, int]
"""The furthest in frequency, and in time."""


def shifts_of(schema: Schema, share: float) -> dict[str, Steps]:
    """How far each spectrogram of a schema may move; nothing without a share."""
    if not share:
        return {}
    return {
        m.name: (int(share * FREQUENCY * m.shape[1]), int(share * m.shape[2]))
        for m in schema.modalities
        if m.kind is Kind.AUDIO
    }


def draw_shifts(rows: int, shifts: Mapping[str, Steps], rng: np.random.Generator) -> np.ndarray:
    """Steps of each row, modality and axis: `(rows, modalities, 2)` int64."""
    most = np.array(list(shifts.values()), np.int64).reshape(-1, 2)
    return rng.integers(-most, most + 1, (rows, len(most), 2))


def shifted(batch: Batch, shifts: Mapping[str, Steps], drawn: np.ndarray) -> Batch:
    """A batch of raw rows with its spectrograms moved; what is moved in repeats the border.

    Args:
        batch: of B rows; modalities that it does not hold are passed over.
        shifts: see `shifts_of`.
        drawn: of `draw_shifts`, these rows' `(B, modalities, 2)`.
    """
    inputs = dict(batch.inputs)
    for i, name in enumerate(shifts):
        x = inputs.get(name)
        if isinstance(x, Tensor):
            inputs[name] = _moved(x, torch.from_numpy(drawn[:, i]).to(x.device))
    return Batch(inputs, batch.present, batch.target)


def _moved(x: Tensor, steps: Tensor) -> Tensor:
    """Spectrograms `(B, C, H, W)` by `(B, 2)` steps."""
    places = [
        (torch.arange(side, device=x.device) + by[:, None]).clamp(0, side - 1)
        for side, by in zip(x.shape[2:], steps.T, strict=True)
    ]
    each = torch.arange(len(x), device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return x[each, channel, places[0][:, None, :, None], places[1][:, None, None, :]]
