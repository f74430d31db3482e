"""BM-NAS finds what a planted problem needs, in at least four of five seeds."""

from __future__ import annotations

import pytest

from polymix.nn import catalog
from polymix.space.bm_nas import Step
from search.planted import Given, attended, doubled, gated, search

OPTIONS = {"cells": 1, "steps": 1, "dropout": 0.0, "batch_size": 32, "horizon": 30}


@pytest.fixture(autouse=True)
def given(monkeypatch):
    monkeypatch.setitem(catalog.ENCODERS, Given.name, Given)


def steps_found(make, rows, **options):
    found = [search(make, seed, rows, **OPTIONS, **options) for seed in range(5)]
    return [strategy.chosen()[0].cells[0].steps[0] for strategy, _ in found]


def test_linear_glu():
    """Its gate may be either: x ⊙ σ(y) and y ⊙ σ(x) give much the same."""
    steps = steps_found(gated, 4000, channels=8, length=2)
    assert sum(s.operation == "linear-glu" and set(s.inputs) == {0, 1} for s in steps) >= 4


def test_attention():
    steps = steps_found(attended, 3000, channels=16, length=4)
    assert sum(s == Step(inputs=(0, 1), operation="attention") for s in steps) >= 4


def test_the_same_input_twice():
    steps = steps_found(doubled, 3000, channels=8, length=5)
    assert sum(step.inputs == (0, 0) for step in steps) >= 4
