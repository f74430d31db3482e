from __future__ import annotations

import numpy as np
import pytest

from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TRAIN, VAL
from polymix.train.uncertainty import uncertainty

ROWS = 600


def dataset(task: Task) -> Dataset:
    """Rows whose first half are clear and whose second half are noise."""
    rng = np.random.default_rng(0)
    clear = np.arange(ROWS) < ROWS // 2
    y = rng.integers(0, 2, ROWS)
    x = rng.normal(size=(ROWS, 6)).astype(np.float32)
    x[:, 0] = np.where(clear, 4.0 * (2 * y - 1), 0.0)
    targets = {
        Task.MULTICLASS: y,
        Task.MULTILABEL: np.stack([y, 1 - y], 1).astype(np.float32),
        Task.REGRESSION: np.where(clear, y, rng.normal(size=ROWS) * 3).astype(np.float32),
    }[task]
    classes = () if task is Task.REGRESSION else ("a", "b")
    schema = Schema(
        modalities=(
            Modality(name="x", kind=Kind.TABULAR, shape=(6,), dtype="float32"),
            Modality(name="words", kind=Kind.TEXT, shape=(4,), dtype="int64", vocabulary=9),
        ),
        target=Target(name="y", task=task, classes=classes),
    )
    codes = np.where(np.arange(ROWS) % 10 == 0, VAL, TRAIN).astype(np.uint8)
    arrays = {"x": x, "words": rng.integers(0, 9, (ROWS, 4))}
    return Dataset.from_arrays("doubt", schema, arrays, targets, codes)


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.MULTILABEL, Task.REGRESSION])
def test_what_is_noise_is_what_it_is_unsure_of(task):
    data = dataset(task)
    doubts = uncertainty(data, 0)
    assert doubts.shape == data.split.train.shape
    assert (doubts >= 0).all()
    clear = data.split.train < ROWS // 2
    assert doubts[~clear].mean() > 1.5 * doubts[clear].mean()


def test_same_seed_same_weights():
    data = dataset(Task.MULTICLASS)
    assert np.array_equal(uncertainty(data, 3), uncertainty(data, 3))
    assert not np.array_equal(uncertainty(data, 3), uncertainty(data, 4))


def test_validation_rows_have_no_part():
    data = dataset(Task.MULTICLASS)
    before = uncertainty(data, 0)
    data.arrays["x"][data.split.val] = np.nan
    data.targets[data.split.val] = 0
    assert np.array_equal(before, uncertainty(data, 0))
