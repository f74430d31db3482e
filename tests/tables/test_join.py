"""Validation and test rows from tables of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.datasets.own_table import (
    MAX_FOLDED_ROWS,
    TableOptions,
    open_table_dataset,
    plan_table,
    read_report,
)
from polymix.errors import DataError, UsageError
from polymix.tables.files import open_table
from polymix.tables.join import MoreTables, joined

RNG = np.random.default_rng(0)


def frame(rows: int, **more: object) -> pd.DataFrame:
    """A table of a number, a category and a class."""
    return pd.DataFrame(
        {"a": RNG.normal(size=rows), "kind": ["x", "y"] * (rows // 2), "y": [0, 1] * (rows // 2)}
    ).assign(**more)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def options():
    return TableOptions(target="y", test_share=0.0)


def test_every_row_of_the_first_is_kept_for_training_and_folds(options):
    dataset = open_table_dataset(frame(60), options, None, MoreTables(test=frame(20)))
    split = dataset.split
    assert split.development.tolist() == list(range(60))
    assert split.test.open().tolist() == list(range(60, 80))
    assert split.folds is not None
    assert np.bincount(split.folds).tolist() == [12] * 5
    notes = read_report(dataset)["notes"]
    assert notes == ["rows 60 to 79 are those of the other table, from its row 0"]


def test_validation_and_test_rows_may_both_be_named(options):
    named = MoreTables(frame(10), frame(20))
    dataset = open_table_dataset(frame(60), options, None, named)
    split = dataset.split
    assert [len(split.train), len(split.val), len(split.test)] == [60, 10, 20]
    assert split.val.tolist() == list(range(60, 70))
    assert split.folds is None


def test_groups_and_times_split_the_first_table_alone(options):
    first, test = frame(60, g=[i // 4 for i in range(60)]), frame(20, g=[0] * 20)
    told = options.model_copy(update={"group": "g"})
    split = open_table_dataset(first, told, None, MoreTables(test=test)).split
    assert split.test.open().tolist() == list(range(60, 80))
    groups = np.array([i // 4 for i in range(60)])
    assert not set(groups[split.train]) & set(groups[split.val])
    told = options.model_copy(update={"time": "g"})
    split = open_table_dataset(first, told, None, MoreTables(test=test)).split
    assert split.test.open().tolist() == list(range(60, 80))
    assert groups[split.train].max() < groups[split.val].min()


def test_sealed_rows_say_nothing_of_how_the_others_are_read(options):
    first = frame(60)
    alone = plan_table(first, options)
    # These values would make a category a text, a number a text, and two classes more.
    odd = frame(20, kind=["some longer words that would be a text"] * 20)
    beside = plan_table(first, options, MoreTables(test=odd))
    assert beside.columns == alone.columns
    assert beside.target == alone.target
    recipes = [
        (open_table_dataset(first, options, None, MoreTables(test=test)).path / "table.json")
        for test in (odd, frame(20, a=1e6))
    ]
    assert recipes[0].read_text() == recipes[1].read_text()


def test_tables_are_told_apart_by_their_cells_and_by_what_they_are_for(options):
    first, more = frame(60), frame(20)
    named = [MoreTables(test=more), MoreTables(valid=more), MoreTables(test=frame(20))]
    found = [open_table_dataset(first, options, None, one).fingerprint for one in named]
    assert len(set(found)) == 3
    assert open_table_dataset(first, options, None, named[0]).fingerprint == found[0]


def test_all_differences_are_told_in_one_message(options, tmp_path):
    frame(60).assign(b=1, c=2).to_csv(tmp_path / "train.csv", index=False)
    frame(20).rename(columns={"a": "A"}).to_csv(tmp_path / "test.csv", index=False)
    frame(20).assign(b=1).to_csv(tmp_path / "dev.csv", index=False)
    paths = [tmp_path / name for name in ("train.csv", "dev.csv", "test.csv")]
    with pytest.raises(DataError) as caught:
        plan_table(paths[0], options, MoreTables(*paths[1:]))
    assert caught.value.problems == (
        "dev.csv does not have the columns of train.csv: it lacks 'c'",
        "test.csv does not have the columns of train.csv: it lacks 'a', 'b', 'c'; "
        "it has 'A' instead",
    )
    notes = plan_table(paths[1], options, MoreTables(test=paths[0])).notes
    assert notes[1] == "train.csv has more columns, which are not used: 'c'"


def test_cells_of_another_kind_are_told_in_one_message(options):
    test = frame(20, a=["low", "high"] * 10, y=[0, 1, 2, 3] * 5)
    with pytest.raises(DataError) as caught:
        plan_table(frame(60), options, MoreTables(test=test))
    assert caught.value.problems == (
        "the test table is not like the table: column 'a' is numbers, but 20 cells are 'low' …; "
        "5 rows have the unknown class '2'; 5 rows have the unknown class '3'; correct these "
        "cells, or leave the rows or columns out",
    )
    with pytest.raises(DataError, match="no row has a label in 'y'"):
        plan_table(frame(60), options, MoreTables(test=frame(20, y=None)))
    with pytest.raises(DataError, match="it lacks 'y'"):
        plan_table(frame(60), options, MoreTables(test=frame(20).drop(columns="y")))


def test_labels_that_only_sealed_rows_have_are_told(options):
    first, test = frame(60, y=["p|q", "q", "r|p", "r"] * 15), frame(20, y=["p|z", "q"] * 10)
    planned = plan_table(first, options, MoreTables(test=test))
    assert planned.target.classes == ("p", "q", "r")
    assert planned.notes[-1] == (
        "test rows have labels that no other row has, and are not scored by: 'z'"
    )


def test_a_column_that_splits_goes_with_no_other_table(options):
    told = options.model_copy(update={"split": "kind"})
    with pytest.raises(UsageError, match="--split-column and --test exclude each other"):
        plan_table(frame(60), told, MoreTables(test=frame(20)))
    with pytest.raises(UsageError, match="--split-column and --valid exclude each other"):
        plan_table(frame(60), told, MoreTables(valid=frame(20)))


def test_rows_are_compared_on_a_holdout_where_they_are_many(options):
    assert MAX_FOLDED_ROWS == 10_000
    many = frame(MAX_FOLDED_ROWS)
    split = open_table_dataset(many, options, None, MoreTables(test=frame(20))).split
    assert split.folds is None
    assert len(split.val) == pytest.approx(0.15 * MAX_FOLDED_ROWS, rel=0.05)


@given(
    st.lists(st.text("ab ?1", max_size=3), min_size=1, max_size=8),
    st.lists(st.text("ab ?1", max_size=3), min_size=1, max_size=8),
)
def test_joined_tables_are_the_rows_of_both(one, two):
    first, second = (open_table(pd.DataFrame({"c": cells})) for cells in (one, two))
    both = joined(first, second, ["c"])
    assert both["c"].tolist() == [*first["c"], *second["c"]]
    assert both.digest != joined(second, first, ["c"]).digest or first.digest == second.digest
