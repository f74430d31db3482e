"""What can be said of a request before its data are opened."""

from __future__ import annotations

import pytest

from polymix.errors import UsageError
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.runs.checks import device_of, strategy_of


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
