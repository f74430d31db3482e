"""Options as Python has them."""

from __future__ import annotations

import inspect

import pytest

from polymix.errors import DataError, UsageError
from polymix.predictor import Predictor
from polymix.runs.options import FitOptions, RunOptions
from polymix.runs.python_names import check_keywords, in_python, named_as_in_python


def test_the_keywords_of_fit_are_the_options():
    parameters = inspect.signature(Predictor.fit).parameters
    assert set(FitOptions.__annotations__) == set(parameters) - {
        "self", "train_data", "tuning_data", "test_data", "callbacks", "progress",
    }  # fmt: skip
    assert parameters["seed"].default == 0
    assert parameters["compare"].default == "fifth"
    assert parameters["time_limit"].default is None
    told = Predictor.fit.__doc__
    assert all(f"{name}: {RunOptions.model_fields[name].description}" in told
               for name in FitOptions.__annotations__)  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("--jobs must be at least 1, but got 0", "jobs must be at least 1, but got 0"),
        ("--class-weights x: Known: balanced.", "class_weights x: Known: balanced."),
        ("-o epochs: no number", "options.epochs: no number"),
        ("name its column with --target", "name its column with label"),
        ("`polymix resume a` goes on, or use --run-dir", "`polymix resume a` goes on, or use path"),
        ("omit --raw and --data-option", "omit raw and data_options"),
        ("--epochs must be at least 1", "epochs must be at least 1"),
        ("once, polymix datasets build avmnist --raw DIR", None),
        ("a -- b, x--y, --", None),
    ],
)
def test_flags_are_arguments_in_python(flags, arguments):
    assert in_python(flags) == (arguments or flags)


def test_an_error_stays_what_it_was_but_for_its_names():
    with pytest.raises(DataError) as error, named_as_in_python():
        raise DataError(["--rows 3: too few", "no flag"])
    assert error.value.problems == ("rows 3: too few", "no flag")
    assert str(error.value) == "rows 3: too few\nno flag"


def test_keywords_that_are_none_are_told_at_once():
    check_keywords(FitOptions.__annotations__)
    with pytest.raises(UsageError) as error:
        check_keywords(["seed", "tials", "label"])
    assert len(error.value.problems) == 2
    assert "did you mean 'trials'" in error.value.problems[0]
