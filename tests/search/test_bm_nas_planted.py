"""BM-NAS finds what a planted problem needs, in at least four of five seeds."""

from __future__ import annotations

import pytest

from polymix.nn import catalog
from polymix.testing.planted import Given, doubled, gated
from search.planted import search

OPTIONS = {"cells": 1, "steps": 1, "channels": 8, "dropout": 0.0, "batch_size": 64}


@pytest.fixture(autouse=True)
def given(monkeypatch):
    monkeypatch.setitem(catalog.ENCODERS, Given.name, Given)


def steps_found(make, rows, **options):
    found = [search(make, seed, rows, **OPTIONS, **options) for seed in range(5)]
    return [strategy.chosen()[0].cells[0].steps[0] for strategy, _ in found]


def test_linear_glu():
    steps = steps_found(gated, 2400, length=2, horizon=25, lr=3e-3, choice_lr=0.03)
    assert sum(step.operation == "linear-glu" for step in steps) >= 4


def test_the_same_input_twice():
    steps = steps_found(doubled, 3000, length=5, horizon=40, lr=4e-3, choice_lr=0.015)
    assert sum(step.inputs == (0, 0) for step in steps) >= 4
