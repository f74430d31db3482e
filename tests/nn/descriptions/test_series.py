"""Series as statistics: of what is there alone, and the same as a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymix.errors import GenotypeError
from polymix.nn.descriptions.series import SeriesStatistics

from .common import assert_same_graph, padded_rows, series


def test_moments_quantiles_and_ends():
    x = padded_rows([30, 9], 30, 2)
    found = SeriesStatistics(series(30, 3, padded=True)).columns(x).numpy()
    for row, length, out in zip(x.double().numpy(), (30, 9), found, strict=True):
        values = row[:length, 1:]
        ranks = [int((length - 1) * q + 50) // 100 for q in (0, 10, 25, 50, 75, 90, 100)]
        expected = [values.mean(0), values.std(0), values[0], values[-1]]
        expected += list(np.sort(values, 0)[ranks])
        np.testing.assert_allclose(out[:22], np.concatenate(expected), atol=1e-9)
        assert out[-1] == pytest.approx(np.log(length))
        assert out[-2] == pytest.approx(np.cov(values.T, bias=True)[0, 1])


@settings(max_examples=15)
@given(length=st.integers(1, 12), more=st.integers(0, 9), channels=st.integers(1, 3))
def test_padding_says_nothing(length, more, channels):
    x = padded_rows([length], length + more, channels)
    steps = length + more
    long = SeriesStatistics(series(steps, 1 + channels, padded=True))
    assert long.columns(x).shape == (1, long.channels)
    further = torch.nn.functional.pad(x, (0, 0, 0, 4))
    again = SeriesStatistics(series(steps + 4, 1 + channels, padded=True)).columns(further)
    if steps > 3:  # a shorter one has no autocorrelations
        torch.testing.assert_close(again, long.columns(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 50])
@pytest.mark.parametrize("padded", [False, True])
def test_nothing_is_finite(length, padded):
    described = SeriesStatistics(series(length, 2, padded=padded))
    found = described(torch.zeros(2, length, 2)).x
    assert found.shape == (2, 1, described.channels)
    assert found.isfinite().all()
    assert described.ready


@pytest.mark.parametrize("padded", [False, True])
def test_a_graph_says_the_same(padded):
    x = padded_rows([20, 12, 20, 1, 7, 0], 20, 3)
    assert_same_graph(SeriesStatistics(series(20, 4, padded=padded)), x)


def test_options_are_checked():
    with pytest.raises(GenotypeError, match="pairs=0"):
        SeriesStatistics(series(20, 2), pairs=0)
