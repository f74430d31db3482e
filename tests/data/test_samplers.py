from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.sample import draw_balanced, draw_weighted


@given(
    targets=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 5),
)
def test_a_balanced_sample_is_as_even_as_can_be(targets, share, seed):
    y = np.array(targets)
    rows = np.arange(len(y))
    size = max(1, int(share * len(y)))
    chosen = draw_balanced(y, rows, size, seed).rows
    assert len(set(chosen.tolist())) == len(chosen) == size
    drawn = np.bincount(y[chosen], minlength=5)
    there = np.bincount(y, minlength=5)
    # A class has fewer than another only if it has no more to give.
    for short in range(5):
        if drawn[short] < drawn.max() - 1:
            assert drawn[short] == there[short]


def test_a_balanced_sample_keeps_to_its_rows_and_seed():
    y = np.array([0] * 90 + [1] * 10)
    rows = np.arange(0, 100, 2)
    first = draw_balanced(y, rows, 10, 0).rows
    assert np.isin(first, rows).all()
    assert np.bincount(y[first]).tolist() == [5, 5]
    assert np.array_equal(first, draw_balanced(y, rows, 10, 0).rows)
    assert not np.array_equal(first, draw_balanced(y, rows, 10, 1).rows)


def test_a_weighted_sample_prefers_what_weighs_more():
    rows = np.arange(1000)
    weights = np.where(rows < 500, 9.0, 1.0)
    counts = np.zeros(1000)
    for seed in range(50):
        chosen = draw_weighted(rows, weights, 100, seed).rows
        assert len(set(chosen.tolist())) == 100
        counts[chosen] += 1
    assert 6.5 < counts[:500].sum() / counts[500:].sum() < 11


def test_a_weighted_sample_takes_what_weighs_nothing_last():
    rows = np.arange(10)
    weights = np.array([0.0] * 5 + [1.0] * 5)
    assert draw_weighted(rows, weights, 5, 0).rows.tolist() == [5, 6, 7, 8, 9]
    assert len(draw_weighted(rows, weights, 7, 0).rows) == 7
    assert draw_weighted(rows, weights, 99, 0).rows.tolist() == rows.tolist()
