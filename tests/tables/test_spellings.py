"""A whole number is the same label and the same level, however a program spelled it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.schema import Task
from polymix.tables.cells import is_missing, level_of, number_of, text_of
from polymix.tables.infer_target import infer_target
from polymix.tables.read import read_target
from polymix.tables.tabular import fit_category, read_part

SPELLINGS = {
    "text": str,
    "with a point": lambda n: f"{n}.0",
    "with two digits": lambda n: f"{n}.00",
    "whole": int,
    "float": float,
    "of numpy": np.float32,
    "decimal": lambda n: Decimal(n).scaleb(-2).scaleb(2),
    "decimal with digits": lambda n: Decimal(f"{n}.00"),
}


def column(numbers: list[int], how: str) -> np.ndarray:
    cells = np.empty(len(numbers), object)
    cells[:] = [SPELLINGS[how](number) for number in numbers]
    return cells


@given(st.integers(-99_999, 99_999), st.sampled_from(sorted(SPELLINGS)))
def test_every_spelling_is_one_level(number: int, how: str) -> None:
    assert level_of(column([number], how)[0]) == str(number)


@given(st.floats(allow_nan=False, allow_infinity=False).map(repr))
def test_other_numbers_keep_their_digits(text: str) -> None:
    assert float(level_of(text)) == float(text)


@pytest.mark.parametrize("text", ["v1.0", "1.0.0", "1.05", "007", "1.0a", "1e-3", "1.0e400", ".0"])
def test_what_is_no_whole_number_stays_as_it_is(text: str) -> None:
    assert level_of(text) == text


@pytest.mark.parametrize("fitted", sorted(SPELLINGS))
@pytest.mark.parametrize("asked", sorted(SPELLINGS))
def test_labels_and_levels_are_found_again(fitted: str, asked: str) -> None:
    numbers = [1, 2, 3] * 4
    recipe, _ = infer_target(
        "y", column(numbers, fitted), Task.MULTICLASS, written=fitted.startswith(("text", "with"))
    )
    values, known = read_target(recipe, column(numbers, asked))
    assert known.all()
    assert values.tolist() == [0, 1, 2] * 4
    part = fit_category("c", column(numbers, fitted))
    same, _ = read_part(part, column(numbers, fitted))
    again, _ = read_part(part, column(numbers, asked))
    assert np.array_equal(same, again)
    assert again[:, :3].sum() == 12


@pytest.mark.parametrize(("cells", "own"), [
    (["1", "2"] * 4, [1, 2]), (["1.0", "2.0"] * 4, [1.0, 2.0]), (["1", "2.0"] * 4, ["1", "2.0"]),
    (["1", "1.0", "2", "2.0"] * 4, [1, 2]), (["1.0", "x"] * 4, ["1.0", "x"]),
])  # fmt: skip
def test_classes_are_called_as_the_table_calls_them(cells: list[str], own: list[Any]) -> None:
    recipe, _ = infer_target("y", np.array(cells, object), written=True)
    assert [recipe.own(name) for name in recipe.classes] == own
    assert [type(recipe.own(name)) for name in recipe.classes] == [type(one) for one in own]


def test_decimals() -> None:
    assert number_of(Decimal("1.25")) == 1.25
    assert number_of(Decimal("1e400")) == np.inf
    assert np.isnan(number_of(Decimal("sNaN")))
    assert is_missing(Decimal("NaN"))
    assert text_of(Decimal("1.50")) == "1.5"
    assert len(text_of(Decimal("1e1000000"))) < 20
