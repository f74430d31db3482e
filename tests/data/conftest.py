from __future__ import annotations

import numpy as np
import pytest

from polymix.data.schema import Kind, Modality, Schema, Target, Task

ROWS = 40


@pytest.fixture
def schema() -> Schema:
    return Schema(
        modalities=(
            Modality(name="image", kind=Kind.IMAGE, shape=(3, 4, 5), dtype="uint8"),
            Modality(name="series", kind=Kind.TIMESERIES, shape=(6, 2), dtype="float32"),
            Modality(name="words", kind=Kind.TEXT, shape=(7,), dtype="int32", vocabulary=50),
        ),
        target=Target(name="label", task=Task.MULTICLASS, classes=("a", "b")),
    )


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (ROWS, 3, 4, 5)).astype(np.uint8),
        "series": rng.normal(100, 3, (ROWS, 6, 2)).astype(np.float32),
        "words": rng.integers(0, 50, (ROWS, 7)).astype(np.int32),
    }


@pytest.fixture
def targets() -> np.ndarray:
    return (np.arange(ROWS) % 2).astype(np.int64)


@pytest.fixture
def codes() -> np.ndarray:
    return np.repeat(np.array([0, 1, 2], np.uint8), (20, 10, 10))
