"""What a column is: ids and counters are left out, names are texts, numbers may wear units."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from polymix.tables.cells import hidden_numbers, number_of
from polymix.tables.infer_columns import infer_column
from polymix.tables.recipe import ColumnType
from polymix.tables.tabular import fit_category, fit_number, levels_within, read_part

RNG = np.random.default_rng(0)
SYLLABLES = ["ka", "lo", "mi", "ra", "tu", "be", "no", "si", "du", "pe"]


def names(count: int, parts: int = 4) -> list[str]:
    """Different one-word names."""
    made = ["".join(SYLLABLES[i // 10**p % 10] for p in range(parts)).title() for i in range(count)]
    assert len(set(made)) == count
    return [made[i] for i in RNG.permutation(count)]


def kind_of(column: str, cells: list, rows: int | None = None) -> ColumnType:
    return infer_column(column, cells, rows or len(cells))[0]


@pytest.mark.parametrize("column", ["Name", "author", "director", "pet"])
def test_names_are_texts(column):
    assert kind_of(column, names(200)) is ColumnType.TEXT
    some = names(150)
    assert kind_of(column, some + some[:50]) is ColumnType.TEXT


@pytest.mark.parametrize("cells", [
    [f"tt{i:07d}" for i in range(60)], [f"SKU-{i}" for i in range(60)],
    [str(uuid.UUID(int=i * 10**30)) for i in range(60)],
    [f"{i * 7919 + 2**31:x}abcdef"[:12] for i in range(60)],
])  # fmt: skip
def test_codes_are_ids(cells):
    kind, reason = infer_column("thing", cells, len(cells))
    assert kind is ColumnType.IGNORE
    assert reason.startswith("an id")


def test_ids_by_name():
    assert kind_of("user_id", names(60)) is ColumnType.IGNORE
    assert kind_of("PassengerId", [int(i) for i in RNG.permutation(10**6)[:60]]) is (
        ColumnType.IGNORE
    )
    assert kind_of("paid", [int(i) for i in RNG.permutation(10**6)[:60]]) is ColumnType.NUMERICAL


@pytest.mark.parametrize("column", [
    "Sr No.", "S.No", "#", "No.", "index", "Unnamed: 0", "sl no", "Serial Number", "row", "Row #",
])  # fmt: skip
@pytest.mark.parametrize("first", [0, 1])
def test_counters_are_left_out_however_shuffled(column, first):
    cells = [int(i) + first for i in RNG.permutation(100)]
    kind, reason = infer_column(column, cells, 100)
    assert kind is ColumnType.IGNORE
    assert "counts the rows" in reason
    assert kind_of(column, [str(c) for c in cells[:70]]) is ColumnType.IGNORE


def test_what_is_not_called_a_counter_is_a_number():
    cells = [int(i) for i in RNG.permutation(100)]
    assert kind_of("rank", cells) is ColumnType.NUMERICAL
    assert kind_of("north", cells) is ColumnType.NUMERICAL
    assert kind_of("价格", cells) is ColumnType.NUMERICAL
    assert kind_of("No.", [1, 2, 2] * 20) is ColumnType.NUMERICAL


@pytest.mark.parametrize(("text", "number"), [
    ("$1,299.00", 1299), ("5,721", 5721), ("12%", 12), ("-$5", -5), ("₹1,23,456", 123_456),
    ("Rs. 500", 500), ("USD 7", 7), ("12 €", 12), ("1,2", np.nan), ("$", np.nan), ("a $5", np.nan),
])  # fmt: skip
def test_numbers_as_they_are_written(text, number):
    assert number_of(text) == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(("form", "unit"), [
    ("{} kg", "kg"), ("{}kg", "kg"), ("{} out of 5 stars", "out of 5 stars"),
    ("${} per hour", "per hour"),
])  # fmt: skip
def test_numbers_with_units_are_numbers(form, unit):
    values = np.round(RNG.uniform(1, 5, 60), 1)
    cells = np.array([form.format(v) for v in values], object)
    assert kind_of("weight", list(cells)) is ColumnType.NUMERICAL
    part = fit_number("weight", cells)
    assert part.unit == unit
    assert part.centre == pytest.approx(np.median(values))
    found, faults = read_part(part, np.array([cells[0], "heavy", None, str(values[0])], object))
    assert list(faults) == [1]
    assert found[0, 0] == found[3, 0]


def test_hidden_numbers():
    assert hidden_numbers("Mass Market Paperback,– 7 Sep 2010") == [7, 2010]
    assert hidden_numbers("4.1 out of 5, 1,299 votes") == [4.1, 5, 1299]
    assert hidden_numbers("none") == []


def test_levels_stand_by_frequency_and_leave_room():
    cells = np.array(["b"] * 5 + ["a"] * 3 + ["c"] + [None], object)
    assert fit_category("x", cells).levels == ("b", "a")
    many = np.array([f"v{i % 1500}" for i in range(4500)], object)
    parts = [fit_category(str(i), many) for i in range(5)]
    assert all(len(part.levels) == 1024 for part in parts)
    most = levels_within(parts)
    assert 5 * (most + 1) <= 4095 < 5 * (most + 2)


def test_many_repeated_names_are_a_text_and_few_words_levels():
    directors = [f"{a} {b}" for a, b in zip(names(1200), names(1200), strict=True)] * 3
    assert kind_of("director", directors) is ColumnType.TEXT
    assert kind_of("city", names(300) * 4) is ColumnType.CATEGORICAL
