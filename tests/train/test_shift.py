"""Spectrograms that move in training: all of them, and as far as said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polymix import seeds
from polymix.data.batch import Batch
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.errors import UsageError
from polymix.records import Recipe
from polymix.train.shift import draw_shifts, shifted, shifts_of

PHOTO = Modality(name="photo", kind=Kind.IMAGE, shape=(3, 16, 24), dtype="float32")
SOUND = Modality(name="sound", kind=Kind.AUDIO, shape=(1, 64, 32), dtype="float32")
TABLE = Modality(name="table", kind=Kind.TABULAR, shape=(4,), dtype="float32")
SCHEMA = Schema(
    modalities=(PHOTO, TABLE, SOUND),
    target=Target(name="y", task=Task.MULTICLASS, classes=("a", "b", "c")),
)


def test_spectrograms_alone_move_and_less_in_frequency():
    assert shifts_of(SCHEMA, 0.125) == {"sound": (2, 4)}
    assert shifts_of(SCHEMA, 0.0) == {}


def test_steps_are_as_far_as_they_may_and_no_further():
    drawn = draw_shifts(2000, {"one": (2, 3), "two": (0, 4)}, seeds.stream(0, "shift"))
    assert drawn.shape == (2000, 2, 2)
    assert drawn.min(0).tolist() == [[-2, -3], [0, -4]]
    assert drawn.max(0).tolist() == [[2, 3], [0, 4]]
    assert abs(drawn.mean(0)).max() < 0.2


def test_a_row_moves_and_repeats_its_border():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    batch = Batch({"sound": torch.cat([x, x]), "table": torch.ones(2, 4)}, None, None)
    moved = shifted(
        batch, {"sound": (1, 1), "other": (1, 1)}, np.array([[[1, 0]] * 2, [[0, -1]] * 2])
    )
    assert moved.inputs["sound"][0, 0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert moved.inputs["sound"][1, 0].tolist() == [[0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]
    assert moved.inputs["table"] is batch.inputs["table"]


def test_channels_move_together():
    x = torch.randn(5, 3, 16, 24)
    drawn = draw_shifts(5, {"sound": (2, 3)}, seeds.stream(1, "shift"))
    moved = shifted(Batch({"sound": x}, None, None), {"sound": (2, 3)}, drawn)
    for row, (down, across) in enumerate(drawn[:, 0].tolist()):
        inside = x[row, :, 2 + down : 14 + down, 3 + across : 21 + across]
        torch.testing.assert_close(moved.inputs["sound"][row, :, 2:14, 3:21], inside)


def test_what_is_banked_cannot_move():
    with pytest.raises(UsageError, match="0 <= shift < 1, and 0 where frozen"):
        Recipe(shift=0.1, frozen=True)
    with pytest.raises(UsageError, match="0 <= shift < 1"):
        Recipe(shift=1.0)
