"""Series with gaps as rows: values carried forward, whether measured, and steps since."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from polymix.data.dataset import Dataset
from polymix.data.gaps import carry_forward
from polymix.data.schema import Kind, Modality, Schema, Target, Task

CELLS = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))


@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 9), st.integers(1, 3)), elements=CELLS))
def test_it_is_what_a_loop_says(values):
    found = carry_forward(values)
    steps, channels = values.shape
    assert found.shape == (steps, 3 * channels)
    assert found.dtype == np.float32
    for c in range(channels):
        last, since = 0.0, steps
        for t in range(steps):
            measured = not np.isnan(values[t, c])
            last, since = (values[t, c], 0) if measured else (last, since + 1)
            never = np.isnan(values[: t + 1, c]).all()
            expected = [last, measured, steps if never else since]
            np.testing.assert_array_equal(found[t, c::channels], np.float32(expected))


def test_infinite_values_were_not_measured():
    found = carry_forward(np.array([[2.0], [np.inf], [-np.inf]]))
    np.testing.assert_array_equal(found, [[2, 1, 0], [2, 0, 1], [2, 0, 2]])


def gappy(shape=(4, 6), **fields):
    return Modality(name="s", kind=Kind.TIMESERIES, shape=shape, dtype="float32", gaps=True,
                    **fields)  # fmt: skip


def test_the_field_is_told_only_where_it_holds():
    assert "gaps" not in gappy().model_copy(update={"gaps": False}).model_dump_json()
    padded = gappy((4, 7), padded=True)
    assert Modality.model_validate_json(padded.model_dump_json()) == padded
    for fields in ({"shape": (4, 7)}, {"shape": (4, 6), "padded": True}):
        with pytest.raises(ValidationError, match=r"\(T, 3C\), or \(T, 1 \+ 3C\) if padded"):
            gappy(**fields)
    with pytest.raises(ValidationError, match="gaps are for kind timeseries"):
        Modality(name="f", kind=Kind.FEATURES, shape=(4, 6), dtype="float32", gaps=True)


def test_whether_it_was_measured_stays_as_it_is():
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((30, 5, 2)) + 8
    raw[rng.random(raw.shape) < 0.4] = np.nan
    rows = np.stack([carry_forward(row) for row in raw])
    rows = np.concatenate([np.ones((30, 5, 1), np.float32), rows], 2)
    target = Target(name="y", task=Task.BINARY, classes=("a", "b"))
    data = Dataset.from_arrays(
        "gaps", Schema(modalities=(gappy((5, 7), padded=True),), target=target), {"s": rows},
        np.arange(30) % 2, (np.arange(30) % 3).astype(np.uint8),
    )  # fmt: skip
    fitted = data.schema["s"].statistics
    assert fitted.mean[0] == fitted.mean[3] == fitted.mean[4] == 0
    assert fitted.std[0] == fitted.std[3] == fitted.std[4] == 1
    assert fitted.mean[1] > 1
    assert fitted.mean[5] > 0
