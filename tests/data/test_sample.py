from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.sample import draw_sample, sample_size


@pytest.mark.parametrize(
    ("rows", "size"), [(15_552, 5_938), (70_000, 8_446), (36_212, 7_591), (55_000, 8_177)]
)
def test_sizes_of_the_paper(rows, size):
    assert sample_size(rows) == size


@given(st.integers(1, 10**7))
def test_a_sample_is_no_larger_than_the_data_and_grows_with_them(rows):
    assert 1 <= sample_size(rows) <= min(rows, 9604)
    assert sample_size(rows) <= sample_size(rows + 1)


def test_a_wider_margin_needs_fewer_rows():
    assert sample_size(10_000, epsilon=0.05) == 370
    assert sample_size(10_000, epsilon=0.05) < sample_size(10_000)


@given(st.integers(1, 80), st.integers(0, 5))
def test_a_sample_is_of_the_rows_each_once(size, seed):
    targets = np.arange(100) % 4
    rows = np.arange(20, 90)
    sample = draw_sample(targets, rows, size, seed)
    assert len(sample.rows) == min(size, 70)
    assert np.all(np.diff(sample.rows) > 0)
    assert np.isin(sample.rows, rows).all()
    again = draw_sample(targets, rows, size, seed)
    assert np.array_equal(sample.rows, again.rows)
    whole = np.bincount(targets[rows], minlength=4) / len(rows)
    here = np.bincount(targets[sample.rows], minlength=4) / len(sample.rows)
    assert sample.distance == pytest.approx(np.abs(whole - here).max())
    assert sample.accepted == (sample.distance < 0.05)


def test_all_rows_need_no_draw():
    sample = draw_sample(np.zeros(9, np.int64), np.array([5, 2, 7]), 3, 0)
    assert sample.rows.tolist() == [2, 5, 7]
    assert (sample.distance, sample.accepted, sample.draws) == (0.0, True, 0)


def test_the_closest_draw_is_taken_where_none_is_close_enough():
    targets = np.arange(100) % 10
    sample = draw_sample(targets, np.arange(100), 7, 3)  # 7 of 10 classes at most
    assert not sample.accepted
    assert sample.distance >= 0.05
    assert 1 <= sample.draws <= 20
    worse = draw_sample(targets, np.arange(100), 7, 3, attempts=1)
    assert sample.distance <= worse.distance


def test_the_tolerance_decides():
    targets = np.arange(1000) % 2
    assert draw_sample(targets, np.arange(1000), 500, 0).accepted
    assert not draw_sample(targets, np.arange(1000), 501, 0, tolerance=0.0).accepted


@pytest.mark.parametrize("targets", ["labels", "numbers"])
def test_label_sets_and_numbers_are_sampled_by_stratum(targets):
    rng = np.random.default_rng(0)
    found = rng.normal(size=400).astype(np.float32)
    if targets == "labels":
        found = (rng.random((400, 3)) < 0.5).astype(np.float32)
    assert draw_sample(found, np.arange(400), 300, 0).accepted
