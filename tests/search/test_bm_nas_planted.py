"""BM-NAS finds what a planted problem needs, in at least four of five seeds."""

from __future__ import annotations

import pytest

from polymix.nn import catalog
from polymix.testing.planted import Given, attended, gates, squared
from search.planted import search

ROWS = 5000


@pytest.fixture(autouse=True)
def given(monkeypatch):
    monkeypatch.setitem(catalog.ENCODERS, Given.name, Given)


def steps_found(make, length, channels):
    """Of five seeds, the one step of the one Cell; learning rates are the defaults."""
    options = {
        "cells": 1, "steps": 1, "length": length, "channels": channels, "dropout": 0.0,
        "batch_size": 32, "horizon": 30,
    }  # fmt: skip
    found = [search(make, seed, ROWS, **options)[0].chosen()[0] for seed in range(5)]
    return [genotype.cells[0].steps[0] for genotype in found]


def test_attention():
    steps = steps_found(attended, 4, 16)
    right = [s.operation == "attention" and set(s.inputs) == {0, 1} for s in steps]
    assert sum(right) >= 4


def test_linear_glu():
    steps = steps_found(gates, 2, 8)
    right = [s.operation == "linear-glu" and set(s.inputs) == {0, 1} for s in steps]
    assert sum(right) >= 4


def test_the_same_input_twice():
    assert sum(s.inputs == (1, 1) for s in steps_found(squared, 2, 8)) >= 4
