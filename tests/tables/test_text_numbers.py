"""The numbers that texts hide, beside the texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.schema import Kind
from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe, read_report
from polymix.tables.recipe import TabularRecipe
from polymix.tables.text_numbers import MEASURES, fit_text_numbers, measured, read_text_numbers


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))


WORDS = ["paper", "hard", "mass", "market", "cover", "cloth", "import", "school"]


def editions(rows=80, share=1.0):
    rng = np.random.default_rng(0)
    return [
        " ".join(rng.choice(WORDS, rng.integers(2, 6)))
        + (f",– {rng.integers(1, 29)} Sep {1980 + i % 40}" if i < share * rows else "")
        for i in range(rows)
    ]


def test_what_is_measured():
    cells = np.array(["4.1 out of 5: 1,299 votes", "no number", None], object)
    nan = np.nan
    np.testing.assert_array_equal(measured(cells), [
        [4.1, 5, 1299, nan, 1299, 3, 25, 6], [nan] * 5 + [0, 9, 2], [nan] * 8,
    ])  # fmt: skip


def test_the_year_is_among_the_numbers_that_are_read():
    cells = np.array([*editions(), None], object)
    part = fit_text_numbers("edition", cells)
    assert part is not None
    whats = [m.what for m in part.measures]
    assert "second" in whats
    assert {"third", "fourth", "numbers"}.isdisjoint(set(whats) - {"numbers"})
    found = read_text_numbers(part, cells)
    assert found.shape == (81, part.width)
    year = part.measures[whats.index("second")]
    assert 1990 < year.centre < 2010
    assert np.abs(found).max() <= 3


@given(st.lists(st.none() | st.text() | st.floats() | st.integers(), min_size=1, max_size=9))
def test_any_cells_are_measured(cells):
    array = np.empty(len(cells), object)
    array[:] = cells
    assert measured(array).shape == (len(cells), len(MEASURES))
    part = fit_text_numbers("x", array)
    if part is not None:
        found = read_text_numbers(part, array)
        assert found.shape == (len(cells), part.width)
        assert np.isfinite(found).all()


def tabular(frame, **options):
    dataset = open_table_dataset(frame, TableOptions(target="y", **options))
    recipe = read_recipe(dataset)
    assert recipe is not None
    parts = {
        (p.kind, p.column) for m in recipe.modalities if isinstance(m, TabularRecipe)
        for p in m.parts
    }  # fmt: skip
    return dataset, parts


def test_texts_numbers_join_tabular_or_make_one_where_half_of_the_texts_have_some():
    y = ["a", "b"] * 40
    plain = pd.DataFrame({"text": editions(share=0.0), "y": y})
    dataset, parts = tabular(plain)
    assert dataset.schema.names == ("text",)
    assert not parts
    dataset, parts = tabular(pd.DataFrame({"text": editions(), "y": y}))
    assert parts == {("text_numbers", "text")}
    assert {m.kind for m in dataset.schema.modalities} == {Kind.TEXT, Kind.TABULAR}
    dataset, parts = tabular(plain.assign(price=np.random.default_rng(0).normal(size=80)))
    assert parts == {("number", "price"), ("text_numbers", "text")}


def test_a_text_is_counted_once_where_it_is_empty():
    frame = pd.DataFrame({"text": editions(), "price": range(0, 240, 3), "y": ["a", "b"] * 40})
    frame.loc[[3, 4], "text"] = ""
    dataset, _ = tabular(frame)
    assert read_report(dataset)["counts"]["text"] == {"empty": 2}
    recipe = read_recipe(dataset)
    assert recipe is not None
    assert recipe.inputs["text"] == "text"
