from __future__ import annotations

import gzip
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets.conftest import idx
from polymix.datasets.avmnist.idx import parse_idx, read_idx
from polymix.errors import DataError

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)


@given(hnp.arrays(np.uint8, SHAPES))
def test_what_was_written_is_read(array: np.ndarray) -> None:
    read = parse_idx(io.BytesIO(idx(array)), array.ndim, "x")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@given(st.binary(max_size=80), st.integers(1, 3))
def test_random_bytes_are_an_error_or_a_right_array(data: bytes, axes: int) -> None:
    try:
        array = parse_idx(io.BytesIO(data), axes, "x")
    except DataError:
        return
    assert idx(array) == data


@given(hnp.arrays(np.uint8, SHAPES), st.data())
def test_a_changed_length_is_an_error(array: np.ndarray, data: st.DataObject) -> None:
    whole = idx(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for changed in (whole[:cut], whole + b"x"):
        with pytest.raises(DataError):
            parse_idx(io.BytesIO(changed), array.ndim, "x")


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), st.binary(max_size=9))
def test_any_claimed_shape_is_checked(shape: list[int], body: bytes) -> None:
    data = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + body
    if math.prod(shape) == len(body):
        assert parse_idx(io.BytesIO(data), len(shape), "x").shape == tuple(shape)
    else:
        with pytest.raises(DataError):
            parse_idx(io.BytesIO(data), len(shape), "x")


@given(st.binary(max_size=60), st.integers(0, 60))
def test_random_files_are_an_error_or_a_right_array(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.gz"
    for content in (data, b"\x1f\x8b" + data, gzip.compress(data)[:cut]):
        path.write_bytes(content)
        try:
            array = read_idx(path, 1)
        except DataError:
            continue
        assert idx(array) == (content if content == data else data)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "nothing"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "00 00 0d 01"),
        (b"\x00\x00\x08\x01\x00\x00", "cut short in its header"),
        (idx(np.zeros(3))[:-1], "is 3 bytes, but holds 2"),
        (idx(np.zeros(3)) + b"x", "holds more"),
        (gzip.compress(idx(np.arange(90)), mtime=0)[:-20], "is cut short: download it again"),
        (b"\x1f\x8b" + b"junk" * 9, "cannot be read"),
    ],
    ids=["empty", "kind", "header", "short", "long", "gzip cut", "gzip junk"],
)
def test_each_fault_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.gz") as caught:
        read_idx(path, 1)
    assert says in str(caught.value)


def test_plain_and_gzipped_are_read_alike(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name, content in (("a", idx(array)), ("b.gz", gzip.compress(idx(array)))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / name, 2), array)
