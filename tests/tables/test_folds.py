"""Folds: none empty, groups whole, strata even, times in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.split import strata
from polymix.errors import DataError, UsageError
from polymix.tables.folds import fold_codes

COUNTS = st.integers(2, 6)
CLASSES = st.lists(st.integers(0, 3), min_size=6, max_size=60).map(np.array)
NUMBERS = st.lists(st.floats(-9, 9), min_size=6, max_size=60).map(np.array)
SETS = CLASSES.map(lambda c: np.eye(4, dtype=np.float32)[c])


@given(CLASSES | NUMBERS | SETS, COUNTS, st.integers(0, 9))
def test_strata_are_even_within_one(targets, count, seed):
    codes = fold_codes(targets, count, seed)
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, fold_codes(targets, count, seed))
    sizes = np.bincount(codes, minlength=count)
    assert sizes.min() > 0
    assert np.ptp(sizes) <= 1
    own = strata(targets)
    for stratum in np.unique(own):
        assert np.ptp(np.bincount(codes[own == stratum], minlength=count)) <= 1


@given(CLASSES | NUMBERS, COUNTS, st.integers(0, 9), st.data())
def test_no_group_is_in_two_folds(targets, count, seed, data):
    rows = len(targets)
    groups = np.array(data.draw(st.lists(st.integers(0, 20), min_size=rows, max_size=rows)))
    if len(np.unique(groups)) < count:
        with pytest.raises(DataError, match="groups cannot make"):
            fold_codes(targets, count, seed, groups=groups)
        return
    codes = fold_codes(targets, count, seed, groups=groups)
    assert set(codes) == set(range(count))
    assert all(len(set(codes[groups == group])) == 1 for group in np.unique(groups))
    named = fold_codes(targets, count, seed, groups=np.array([f"{g:02}" for g in groups]))
    np.testing.assert_array_equal(codes, named)


@given(COUNTS, st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_times_go_forward(count, times):
    moments = np.array(times, float)
    targets = np.zeros(len(times), np.int64)
    if len(np.unique(moments)) < count:
        with pytest.raises(DataError, match="times cannot make"):
            fold_codes(targets, count, 0, times=moments)
        return
    codes = fold_codes(targets, count, 0, times=moments)
    assert set(codes) == set(range(count))
    order = np.argsort(moments, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    assert all(len(set(codes[moments == moment])) == 1 for moment in np.unique(moments))


def test_groups_are_spread_by_their_classes():
    groups = np.arange(200) // 5
    targets = groups % 2
    codes = fold_codes(targets, 4, 0, groups=groups)
    for own in (0, 1):
        assert np.ptp(np.bincount(codes[targets == own], minlength=4)) == 0


def test_what_cannot_be_folded():
    targets = np.array([0, 1, 0])
    with pytest.raises(UsageError, match="at least 2"):
        fold_codes(targets, 1, 0)
    with pytest.raises(UsageError, match="exclude each other"):
        fold_codes(targets, 2, 0, groups=targets, times=targets)
    with pytest.raises(DataError, match="3 rows cannot make 4 folds"):
        fold_codes(targets, 4, 0)
    with pytest.raises(DataError, match="a time in every row"):
        fold_codes(targets, 2, 0, times=np.array([1, np.nan, 2]))
