"""BM-NAS finds what a planted problem needs, in at least four of five seeds."""

from __future__ import annotations

import pytest
from benchmarks.planted import Given, attended, chained, doubled, gated, gates, kinked, squared

from polymix.registry import register
from search.planted import search


@pytest.fixture(autouse=True)
def given(registrations):
    register(Given)


def found(make, rows, **options):
    """The Cells found from each of five seeds."""
    usual = {"cells": 1, "steps": 1, "channels": 8, "length": 2, "dropout": 0.0}
    strategies = [search(make, seed, rows, **{**usual, **options})[0] for seed in range(5)]
    return [strategy.chosen()[0].cells for strategy in strategies]


class TestPathUpdates:
    """By default, with the default learning rates."""

    options = {"batch_size": 32, "horizon": 30}  # noqa: RUF012

    def test_attention(self):
        steps = [
            c.steps[0] for (c,) in found(attended, 5000, length=4, channels=16, **self.options)
        ]
        assert sum(s.operation == "attention" and {0, 1} == {*s.inputs} for s in steps) >= 4

    @pytest.mark.slow
    def test_the_same_input_twice(self):
        steps = [c.steps[0] for (c,) in found(squared, 5000, **self.options)]
        assert sum(s.inputs == (1, 1) for s in steps) >= 4

    @pytest.mark.slow
    def test_linear_glu(self):
        options = self.options | {"horizon": 60, "channels": 16}
        steps = [c.steps[0] for (c,) in found(gates, 5000, **options)]
        assert sum(s.operation == "linear-glu" and {0, 1} == {*s.inputs} for s in steps) >= 4

    @pytest.mark.slow
    def test_concat_fc(self):
        options = self.options | {"horizon": 60, "channels": 16, "steps": 2}
        cells = [c for (c,) in found(kinked, 5000, **options)]
        assert sum("concat-fc" in {s.operation for s in c.steps} for c in cells) >= 4

    @pytest.mark.slow
    def test_a_cell_that_feeds_a_cell(self):
        """Three modalities: the second Cell takes the first one, and the modality that it left."""
        pairs = found(chained, 5000, cells=2, **self.options | {"horizon": 40})
        assert sum({*b.inputs} == {0, 1, 2, 3} - {*a.inputs} for a, b in pairs) >= 4


class TestMixtureUpdates:
    """Of the paper's mixtures, with rates that suit the problem."""

    options = {"relaxed": True, "warmup": 0.2, "batch_size": 64}  # noqa: RUF012

    def test_linear_glu(self):
        made = found(gated, 2400, horizon=25, lr=3e-3, choice_lr=0.03, **self.options)
        assert sum(c.steps[0].operation == "linear-glu" for (c,) in made) >= 4

    def test_the_same_input_twice(self):
        made = found(doubled, 3000, length=5, horizon=40, lr=4e-3, choice_lr=0.015, **self.options)
        assert sum(c.steps[0].inputs == (0, 0) for (c,) in made) >= 4
