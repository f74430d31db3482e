"""Series with gaps as statistics of what was measured, and the same as a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polymix.data.gaps import carry_forward
from polymix.errors import GenotypeError
from polymix.nn.descriptions.gaps import GapStatistics

from .common import assert_same_graph, series


def rows(count=8, steps=12, channels=3, padded=False, seed=0):
    """Raw values `(B, T, C)` with NaN, and the array that a batch holds."""
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((count, steps, channels)) * 3 + 50
    raw[rng.random(raw.shape) < 0.6] = np.nan
    raw[0] = np.nan
    raw[1, :, 0] = np.nan
    raw[2, :, 0] = np.nan
    raw[2, 4, 0] = 7.0
    x = np.stack([carry_forward(row) for row in raw])
    if padded:
        x = np.concatenate([np.ones((count, steps, 1), np.float32), x], 2)
        x[3, 5:], raw[3, 5:] = 0, np.nan
    return raw, torch.from_numpy(x)


def fitted(x, padded=False):
    described = GapStatistics(series(*x.shape[1:], padded=padded, gaps=True))
    assert not described.ready
    described.fit(x, 0)
    assert described.ready
    return described


@pytest.mark.parametrize("padded", [False, True])
def test_what_was_measured(padded):
    raw, x = rows(padded=padded)
    found = fitted(x, padded).columns(x).numpy()
    assert found.shape == (8, 6 * 3 + 3)
    length = np.array([5 if padded and i == 3 else 12 for i in range(8)])
    for i, (row, out) in enumerate(zip(raw, found, strict=True)):
        for c in range(3):
            seen = np.flatnonzero(np.isfinite(row[:, c]))
            assert out[12 + c] == pytest.approx(np.log1p(len(seen)))
            assert out[15 + c] == length[i] - (seen[-1] + 1 if len(seen) else 0)
            if len(seen):
                weights = np.exp((seen + 1 - length[i]) / 8)
                assert out[c] == pytest.approx(row[seen, c].mean(), rel=1e-5)
                assert out[3 + c] == pytest.approx(np.average(row[seen, c], weights=weights),
                                                   rel=1e-5)  # fmt: skip
            if len(seen) > 1:
                slope = np.polyfit(seen, row[seen, c], 1)[0]
                assert out[6 + c] == pytest.approx(slope, abs=1e-4)
                assert out[9 + c] == pytest.approx(row[seen, c].std(), abs=1e-4)


def test_medians_stand_in():
    raw, x = rows()
    described = fitted(x)
    found = described.columns(x).numpy()
    means = [np.nanmean(row[:, 0]) for row in raw if np.isfinite(row[:, 0]).any()]
    # torch takes the lower of two in the middle
    median = np.sort(means)[(len(means) - 1) // 2]
    np.testing.assert_allclose(found[[0, 1], 0], median, rtol=1e-5)
    blank = torch.zeros(2, 12, 9)
    np.testing.assert_array_equal(described.columns(blank)[0, :12].numpy(), described.fill.numpy())


@pytest.mark.parametrize("padded", [False, True])
def test_nothing_is_finite(padded):
    x = torch.zeros(4, 6, 6 + padded)
    described = fitted(x, padded)
    found = described(x).x
    assert found.shape == (4, 1, described.channels)
    assert found.isfinite().all()


def test_a_graph_says_the_same():
    _, x = rows(padded=True)
    assert_same_graph(fitted(x, True), x)


def test_a_series_without_gaps_is_refused():
    with pytest.raises(GenotypeError, match="gaps=False"):
        GapStatistics(series(12, 3))
    with pytest.raises(GenotypeError, match=r"decay=0\.0"):
        GapStatistics(series(12, 3, gaps=True), decay=0.0)
