"""What can be said of a request before its data are opened."""

from __future__ import annotations

import math

import pytest

from polymix.errors import UsageError
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.runs.checks import MAX_SEED, check_numbers, device_of, seconds_of, strategy_of


def test_numbers():
    check_numbers(rows=None, trials=None, jobs=1, seed=MAX_SEED)
    with pytest.raises(UsageError) as error:
        check_numbers(rows=0, trials=0, jobs=0, seed=-1)
    assert [problem.split()[0] for problem in error.value.problems] == [
        "--rows", "--trials", "--jobs", "--seed",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=f"seed <= {MAX_SEED} must hold"):
        check_numbers(rows=None, trials=None, jobs=1, seed=MAX_SEED + 1)


@pytest.mark.parametrize(("asked", "seconds"), [(None, None), ("10m", 600), (90, 90)])
def test_time_limits(asked, seconds):
    assert seconds_of(asked) == seconds


@pytest.mark.parametrize("asked", [0, -1.5, math.nan, math.inf, "soon"])
def test_time_limits_that_are_none(asked):
    with pytest.raises(UsageError, match=r"time.limit"):
        seconds_of(asked)


def test_a_strategy_is_never_the_object_that_was_given():
    given = MixMAS(epochs=3)
    found = strategy_of(given, {})
    assert found is not given
    assert found == given == strategy_of("mixmas", {"epochs": 3})


def test_devices():
    assert device_of("cpu") == "cpu"
    assert device_of(None) in ("cpu", "cuda")
    with pytest.raises(UsageError, match="--device banana: not usable here"):
        device_of("banana")
