"""The options of a run are spelled once, and everything else is made from them."""

from __future__ import annotations

import inspect
import math

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from polymix.cli import app
from polymix.datasets.own_table import TableOptions
from polymix.predictor import Predictor
from polymix.runs.config import RunConfig
from polymix.runs.options import (
    MAX_SEED,
    FitOptions,
    RunOptions,
    SharedOptions,
    TableFlags,
    checked_options,
    spelling,
)

OF_THE_CONSTRUCTOR = {"target", "problem", "metric", "device", "jobs"}


def test_every_option_is_a_flag_or_an_argument_and_has_a_text():
    for model in (RunOptions, TableFlags):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description[0].isupper(), name
    python = set(RunOptions.model_fields) - OF_THE_CONSTRUCTOR
    assert python == set(FitOptions.__annotations__)
    arguments = {spelling(RunOptions.model_fields[n]).argument or n for n in OF_THE_CONSTRUCTOR}
    assert arguments | {"path"} == set(inspect.signature(Predictor).parameters)


def test_the_command_line_has_every_option_and_no_other():
    (search,) = [c for c in typer.main.get_command(app).commands.items() if c[0] == "search"]
    flags = {flag for p in search[1].params for flag in p.opts if flag.startswith("-")}
    assert flags == {
        "--target", "--group", "--time", "--split-column", "--column-types", "--schema-file",
        "--image-size", "--strict", "--strategy", "--metric", "--time-limit", "--trials", "--rows",
        "--seed", "--raw", "--run-dir", "--compare", "--reuse", "--device", "--jobs", "--ensemble",
        "--class-weights", "--raise-errors", "--option", "-o", "--data-option", "-d", "--dry-run",
        "--json", "--folds", "--test-share", "--single", "--no-refit", "--import",
        "--allow-download",
        "--valid", "--test", "--preset",
    }  # fmt: skip


def test_a_configuration_has_what_is_asked_of_every_run():
    assert set(SharedOptions.model_fields) < set(RunConfig.model_fields)


def test_flags_for_tables_are_what_a_table_can_be_asked():
    known = set(TableOptions.model_fields) | {"column_types", "schema_file", "valid", "test"}
    assert set(TableFlags.model_fields) <= known


def test_what_is_not_given_is_the_default():
    options, wrong = checked_options(dict.fromkeys(RunOptions.model_fields))
    assert wrong == []
    assert options == RunOptions()


def test_all_problems_are_told_and_what_is_right_is_kept():
    options, wrong = checked_options(
        {"rows": 0, "trials": 0, "jobs": 0, "seed": -1, "compare": "ful", "class_weights": "x",
         "time_limit": math.inf, "tials": 3, "metric": "r2", "ensemble": True}
    )  # fmt: skip
    assert wrong[:-1] == [
        "--time-limit must be finite, but got inf",
        "--trials must be at least 1, but got 0",
        "--seed must be at least 0, but got -1",
        "--compare ful: did you mean 'full'? Known: fifth, full.",
        "--jobs must be at least 1, but got 0",
        "--class-weights x: Known: balanced.",
        "--rows must be at least 1, but got 0",
    ]
    assert wrong[-1].startswith("no option 'tials': did you mean 'trials'?")
    assert options == RunOptions(metric="r2", ensemble=True)
    _, wrong = checked_options({"seed": MAX_SEED + 1})
    assert wrong == [f"--seed must be at most {MAX_SEED}, but got {MAX_SEED + 1}"]
    assert checked_options({"seed": MAX_SEED})[1] == []


@pytest.mark.parametrize(("asked", "seconds"), [(None, None), ("10m", 600), (90, 90)])
def test_time_limits(asked, seconds):
    assert checked_options({"time_limit": asked})[0].time_limit == seconds


@pytest.mark.parametrize("asked", [0, -1.5, math.nan, math.inf, "soon"])
def test_time_limits_that_are_none(asked):
    (said,) = checked_options({"time_limit": asked})[1]
    assert said.startswith("--time-limit ")


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(sorted(RunOptions.model_fields)), ANYTHING))
def test_anything_is_an_option_or_is_told(given_options):
    options, wrong = checked_options(given_options)
    assert isinstance(options, RunOptions)
    assert len(wrong) <= len(given_options)
    for said in wrong:
        assert said.startswith("-")
