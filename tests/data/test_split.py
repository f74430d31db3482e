from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.split import TEST, TRAIN, VAL, SealedRows, Split, strata, stratified_codes
from polymix.errors import DataError

classes = st.lists(st.integers(0, 5), min_size=30, max_size=200).map(np.array)


@given(classes, st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(0, 9))
def test_every_class_is_split_in_about_the_same_shares(targets, val, test, seed):
    codes = stratified_codes(targets, val, test, seed)
    assert codes.shape == targets.shape
    assert codes.dtype == np.uint8
    for code, share in ((VAL, val), (TEST, test), (TRAIN, 1 - val - test)):
        assert abs((codes == code).sum() - share * len(targets)) <= 3
        for each in np.unique(targets):
            group = codes[targets == each]
            assert abs((group == code).sum() - share * len(group)) <= 3


@given(classes, st.integers(0, 9))
def test_the_same_seed_splits_alike(targets, seed):
    first, again = (stratified_codes(targets, 0.2, 0.2, seed) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, stratified_codes(targets, 0.2, 0.2, seed + 1))


def test_no_test_rows_are_taken_where_none_are_wanted():
    assert not (stratified_codes(np.arange(50) % 3, 0.2, 0.0, 0) == TEST).any()


@pytest.mark.parametrize(("val", "test"), [(0, 0.2), (1, 0), (0.5, 0.5), (0.2, -0.1), (-1, 0.2)])
def test_shares_that_cannot_be_are_refused(val, test):
    with pytest.raises(DataError, match="must hold"):
        stratified_codes(np.arange(10), val, test, 0)


def test_strata():
    assert strata(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]], np.float32)
    assert strata(labels).tolist() == [1, 0, 3, 2]  # the rarest label, or none
    numbers = strata(np.arange(100, dtype=np.float32))
    assert np.bincount(numbers).tolist() == [10] * 10
    assert strata(np.zeros(5, np.float32)).tolist() == [0] * 5


@given(st.sampled_from(["labels", "numbers"]), st.integers(30, 150))
def test_label_sets_and_numbers_are_split_too(kind, rows):
    rng = np.random.default_rng(rows)
    targets = rng.normal(size=rows).astype(np.float32)
    if kind == "labels":
        targets = (rng.random((rows, 3)) < 0.4).astype(np.float32)
    codes = stratified_codes(targets, 0.2, 0.2, 1)
    for group in np.unique(strata(targets)):
        within = codes[strata(targets) == group]
        assert abs((within == VAL).sum() - 0.2 * len(within)) <= 3


def test_a_split_of_codes():
    split = Split.from_codes(np.array([0, 2, 1, 0, 1], np.uint8))
    assert split.train.tolist() == [0, 3]
    assert split.val.tolist() == [2, 4]
    assert split.test.open().tolist() == [1]


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ([0, 1, 7], r"unknown split codes \[7\]"),
        ([0, 0, 2], "needs training and validation rows, but got 2 and 0"),
        ([], "but got 0 and 0"),
    ],
)
def test_codes_that_are_no_split(codes, said):
    with pytest.raises(DataError, match=said):
        Split.from_codes(np.array(codes, np.uint8))


def test_test_rows_stay_sealed():
    split = Split.from_codes(np.array([0, 1, 2, 2], np.uint8))
    assert len(split.test) == 2
    assert repr(split.test) == "SealedRows(2)"
    assert "test" not in repr(split)
    assert not hasattr(split.test, "__iter__")
    with pytest.raises(IndexError):
        np.zeros(4)[split.test]  # type: ignore[call-overload]
    assert isinstance(split.test, SealedRows)


def test_the_fingerprint_is_of_the_rows_that_choose():
    codes = np.array([0, 1, 2, 0], np.uint8)
    one, other = Split.from_codes(codes), Split.from_codes(codes[[0, 1, 3, 2]])
    assert one.fingerprint == Split.from_codes(codes).fingerprint
    assert one.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 16
