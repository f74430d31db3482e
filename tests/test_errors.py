"""Errors are collected, and told as one."""

from __future__ import annotations

import pytest

from polymix.errors import DataError, Problems, UsageError


def test_none():
    problems = Problems()
    with problems.caught():
        pass
    assert problems.raise_any() is None


def test_one_is_raised_as_it_was():
    problems, only = Problems(), DataError("no rows")
    with problems.caught():
        raise only
    with pytest.raises(DataError) as error:
        problems.raise_any()
    assert error.value is only


def test_many_are_told_once_each():
    problems = Problems()
    for said in (["a", "b"], ["b", "c"]):
        with problems.caught():
            raise DataError(said)
    with pytest.raises(UsageError) as error:
        problems.raise_any()
    assert error.value.problems == ("a", "b", "c")


def test_what_is_no_problem_of_the_askers_goes_on():
    problems = Problems()
    with pytest.raises(ZeroDivisionError), problems.caught():
        1 / 0  # noqa: B018
