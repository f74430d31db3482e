"""Series with gaps: what nobody measured is carried forward, and said to be."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from polymix.data.gaps import carry_forward
from polymix.data.schema import Kind
from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe, read_report
from polymix.errors import DataError
from polymix.tables.read import read_rows

ROWS = 40
Y = ["a", "b"] * (ROWS // 2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))


def opened(frame, **options):
    return open_table_dataset(frame, TableOptions(target="y", **options))


def curves(steps=lambda row: 6):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(steps(row), 2)) for row in range(ROWS)]
    for curve in made:
        curve[rng.random(curve.shape) < 0.3] = np.nan
        curve[-1] = 1.0
    return made


@pytest.mark.parametrize("form", ["list", "json", "npy"])
def test_gaps_in_arrays_are_carried_forward(form, tmp_path):
    made = curves()
    cells = made
    if form == "json":
        cells = [json.dumps(c.tolist()) for c in made]
    if form == "npy":
        for row, curve in enumerate(made):
            np.save(tmp_path / f"{row}.npy", curve)
        cells = [str(tmp_path / f"{row}.npy") for row in range(ROWS)]
    dataset = opened(pd.DataFrame({"curve": pd.Series(list(cells), dtype=object), "y": Y}))
    modality = dataset.schema["curve"]
    assert (modality.kind, modality.shape, modality.gaps) == (Kind.TIMESERIES, (6, 6), True)
    assert dataset.present.all()
    np.testing.assert_array_equal(dataset.arrays["curve"][5], carry_forward(made[5]))
    assert not read_report(dataset)["lost"]


def test_series_of_different_lengths_say_where_they_end():
    made = curves(lambda row: 4 + row % 3)
    dataset = opened(pd.DataFrame({"curve": pd.Series(made, dtype=object), "y": Y}))
    modality = dataset.schema["curve"]
    assert (modality.shape, modality.padded, modality.gaps) == ((6, 7), True, True)
    row = dataset.arrays["curve"][3]
    np.testing.assert_array_equal(row[:4, 1:], carry_forward(made[3]))
    assert row[:, 0].tolist() == [1, 1, 1, 1, 0, 0]
    assert not row[4:].any()


def test_infinite_values_and_nothing_but_gaps_are_not_read():
    made = [np.arange(6.0) for _ in range(ROWS)]
    made[1], made[2] = np.full(6, np.nan), np.array([1, np.inf, 2, 3, 4, 5])
    dataset = opened(pd.DataFrame({"curve": pd.Series(made, dtype=object), "y": Y}))
    assert read_report(dataset)["counts"]["curve"] == {
        "no number in it": 1, "values that are not finite": 1,
    }  # fmt: skip
    assert not dataset.schema["curve"].gaps


def test_a_gap_that_training_rows_had_none_of_is_filled_from_its_neighbours():
    made = [np.arange(6.0) + row for row in range(ROWS)]
    dataset = opened(pd.DataFrame({"curve": pd.Series(made, dtype=object), "y": Y}))
    recipe = read_recipe(dataset)
    assert recipe is not None
    new = pd.DataFrame({"curve": pd.Series([[0, None, 2, 3, 4, None]], dtype=object)})
    assert read_rows(new, recipe).arrays["curve"][0, :, 0].tolist() == [0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize(("share", "width"), [(0.02, 1), (0.3, 3)])
def test_groups_of_columns_with_many_gaps_say_where_they_are(share, width):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, 8))
    values[rng.random(values.shape) < share] = np.nan
    values[:, 0] = 1.0
    values[0, 3] = np.nan
    frame = pd.DataFrame({f"x_{i}": values[:, i] for i in range(8)}).assign(y=Y)
    dataset = opened(frame)
    assert dataset.schema["x"].shape == (8, width)
    if width == 3:
        np.testing.assert_array_equal(dataset.arrays["x"][0], carry_forward(values[0][:, None]))


def test_a_column_that_is_lost_whole_is_told_of_and_an_error_if_strict():
    frame = pd.DataFrame({"photo": [f"{i}.png" for i in range(ROWS)], "a": range(ROWS), "y": Y})
    frame["a"] = np.random.default_rng(0).normal(size=ROWS)
    report = read_report(opened(frame))
    assert list(report["lost"]) == ["photo"]
    assert report["lost"]["photo"].startswith("left out: no training row has an image")
    with pytest.raises(DataError, match="column 'photo': left out"):
        opened(frame, strict=True)
