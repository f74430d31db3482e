from __future__ import annotations

import contextlib
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymix.datasets.unpickle import loads, read_pickle
from polymix.errors import DataError

ARRAYS: dict[str, Any] = {
    "cube": np.arange(24.0).reshape(2, 3, 4),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">f4"),
    "texts": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "none": np.zeros((0, 5)),
    "flags": np.array([True, False]),
    "point": np.array(3.0),
    "complex": np.ones(2, complex),
}
PLAIN: dict[str, Any] = {
    "number": np.float64(3.5),
    "small": np.int32(-7),
    "nested": (1, 2.5, [-3, "é\\x", None, True, 10**30, (), b"", b"\xff"]),
}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """Pickles to a call of `function`, as hostile files do."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_plain_values_come_back(protocol: int, tmp_path: Path) -> None:
    shared = np.arange(5)
    whole = {**ARRAYS, **PLAIN, "shared": [shared, shared]}
    (tmp_path / "im.pk").write_bytes(pickle.dumps(whole, protocol))
    read = read_pickle(tmp_path / "im.pk")
    assert list(read) == list(whole)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype, name
    assert {name: read[name] for name in PLAIN} == PLAIN
    assert read["shared"][0] is read["shared"][1]


def test_names_of_both_numpys() -> None:
    array = np.arange(4.0)
    for protocol in (2, 5):
        new = pickle.dumps(array, protocol)
        old = new.replace(b"numpy._core.", b"numpy.core.")
        if protocol == 5:  # the length of the module's name stands before it
            old = old.replace(b"\x8c\x13numpy.core", b"\x8c\x12numpy.core")
            frame = struct.unpack("<Q", old[3:11])[0]
            old = old[:3] + struct.pack("<Q", frame - 1) + old[11:]
        assert old != new
        np.testing.assert_array_equal(loads(old), array)
        np.testing.assert_array_equal(pickle.loads(new), array)


def test_what_python_2_wrote() -> None:
    # protocol 2: {'a': np.array([1., 2.])}, texts and data as BINSTRING
    data = struct.pack("<2d", 1, 2)
    content = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
        b"K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f8q\n"
        b"K\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
        b"\x89U\x10" + data + b"q\x0ftq\x10bs."
    )
    np.testing.assert_array_equal(loads(content)["a"], [1, 2])


CANARY = "polymix_canary"
HOSTILE: dict[str, tuple[Any, str]] = {
    "a shell": (Calls(os.system, f"touch {CANARY}"), f"{os.system.__module__}.system"),
    "eval": (Calls(eval, f"open('{CANARY}', 'w')"), "builtins.eval|__builtin__.eval"),
    "exec": (Calls(exec, f"open('{CANARY}', 'w')"), "builtins.exec|__builtin__.exec"),
    "getattr": (Calls(getattr, 1, "real"), "getattr"),
    "a file": (Calls(open, CANARY, "w"), "io.open|open"),
    "numpy's loader": (Calls(np.load, "x", None, True), "numpy.load"),
    "numpy's runner": (
        Calls(np.testing.run_threaded, print),
        "run_threaded",
    ),
    "objects in an array": (np.array([Calls(eval, "1"), 1], object), "eval|'O8'"),
    "an object array of plain values": (np.array([1, "x"], object), "'O8'"),
    "an array with fields": (np.zeros(2, [("a", "f4")]), "'V4'"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), "'M8'"),
    "a set": ({1, 2}, "EMPTY_SET|set"),
    "a class": (Path, "Path"),
    "an instance": (OSError("x"), "OSError"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_else_is_refused_by_name_and_not_run(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    thing, says = HOSTILE[name]
    for whole in (thing, {"ep_tdata": np.zeros(3), "x": [thing]}):
        content = pickle.dumps(whole, protocol)
        (tmp_path / "im.pk").write_bytes(content)
        with pytest.raises(DataError, match=says) as caught:
            read_pickle(tmp_path / "im.pk")
        assert "im.pk" in str(caught.value)
        assert "none of it was run" in str(caught.value)
    assert not (tmp_path / CANARY).exists()


def raw(*steps: bytes) -> bytes:
    return b"\x80\x04" + b"".join(steps) + b"."


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
F8 = b"cnumpy\ndtype\n(V\x66\x38\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb"


def text(value: str) -> bytes:
    return b"V" + value.encode() + b"\n"


MISUSED: dict[str, bytes] = {
    "another class": raw(RECONSTRUCT, b"(cbuiltins\nlist\nI0\n", text("b"), b"tR"),
    "the name of a function": raw(RECONSTRUCT, b"(", RECONSTRUCT, b"I0\n", text("b"), b"tR"),
    "no arguments": raw(RECONSTRUCT, b"(tR"),
    "a call of a value": raw(text("x"), b"(tR"),
    "a call of an array": raw(NDARRAY, b"(I1\ntR"),
    "a state for a function": raw(RECONSTRUCT, b"(N}", text("__code__"), b"I1\nstb"),
    "a state for a class": raw(NDARRAY, b"}", text("__setstate__"), b"I1\nsb"),
    "a state for a list": raw(b"]}b"),
    "a state for a dtype": raw(F8, b"(I3\nV|\nN(", text("x"), b"t}I8\nI1\nI0\ntb"),
    "a state for an array": raw(RECONSTRUCT, b"(", NDARRAY, b"(I0\nt", text("b"), b"tR}b"),
    "an attribute of a stand-in": raw(NDARRAY, b"(N}", text("step"), text("bytes"), b"stb"),
    "a set": raw(b"\x8f"),
    "a doubled value": raw(b"N2"),
    "too little data": raw(
        RECONSTRUCT, b"(", NDARRAY, b"(I0\nt", text("b"), b"tR(I1\n(I9\nt", F8, b"I00\nC\x08",
        b"12345678", b"tb",
    ),
    "a list for data": raw(
        RECONSTRUCT, b"(", NDARRAY, b"(I0\nt", text("b"), b"tR(I1\n(I1\nt", F8, b"I00\n]tb"
    ),
    "a negative shape": raw(
        RECONSTRUCT, b"(", NDARRAY, b"(I0\nt", text("b"), b"tR(I1\n(I-1\nt", F8, b"I00\nC\x00tb"
    ),
    "a shape of texts": raw(
        RECONSTRUCT, b"(", NDARRAY, b"(I0\nt", text("b"), b"tR(I1\n(", text("a"), b"t", F8,
        b"I00\nC\x00tb",
    ),
    "a huge dtype": raw(b"cnumpy\ndtype\n(", text("S999999999"), b"I0\nI1\ntR"),
    "objects": raw(b"cnumpy\ndtype\n(", text("O"), b"I0\nI1\ntR"),
    "another codec": raw(b"c_codecs\nencode\n(", text("x"), text("rot13"), b"tR"),
    "a persistent id": raw(b"Pid\n"),
    "an extension": raw(b"\x82\x01"),
    "a new object": raw(NDARRAY, b")\x81"),
    "an old instance": raw(b"(ios\nsystem\n"),
    "a name of names": raw(text("os"), text("system.x"), b"\x93"),
    "a name that is no text": raw(b"I1\nI2\n\x93"),
    "a buffer from outside": raw(b"\x97"),
    "an unhashable key": raw(b"}]Ns"),
    "a deep key": raw(b"}", b")" + b"\x85" * 100_000, b"Ns"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_refused(name: str) -> None:
    with pytest.raises(DataError):
        loads(MISUSED[name])


BOMBS: dict[str, bytes] = {
    "bytes of a terabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x",
    "a text of a terabyte": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x",
    "a bytearray of a terabyte": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x",
    "a number of two gigabytes": b"\x80\x04\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x",
    "a text of two gigabytes": b"\x80\x02T" + struct.pack("<i", (1 << 31) - 1) + b"x",
    "a frame of a terabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N",
    "a note at four thousand million": raw(b"Nr\xff\xff\xff\xff]"),
    "an int of a million digits": raw(b"I" + b"9" * 1_000_000 + b"\n"),
    "a shape of a terabyte": raw(
        RECONSTRUCT, b"(", NDARRAY, b"(I0\nt", text("b"), b"tR(I1\n(I1000000\nI1000000\nt", F8,
        b"I00\nC\x08", b"12345678", b"tb",
    ),
    "many laughs": raw(b"]q\x00" + b"".join(b"(h\x00" * 9 + b"lq\x00" for _ in range(9))),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_nothing_larger_than_the_file_is_made(name: str) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            loads(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_arrays_are_read_only_and_plain() -> None:
    for protocol in PROTOCOLS:
        read = loads(pickle.dumps(np.arange(3.0), protocol))
        assert type(read) is np.ndarray
        assert not read.flags.writeable


def test_every_truncation_is_a_data_error() -> None:
    for protocol in PROTOCOLS:
        whole = pickle.dumps({"a": np.arange(3.0), "b": [1, "x"]}, protocol)
        for cut in range(len(whole)):
            with pytest.raises(DataError):
                loads(whole[:cut])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"im\.pk cannot be read"):
        read_pickle(tmp_path / "im.pk")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_data_errors_or_values(content: bytes) -> None:
    attempt(content)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_pickles_are_data_errors_or_values(data: st.DataObject) -> None:
    protocol = data.draw(st.sampled_from(PROTOCOLS))
    content = bytearray(pickle.dumps({"a": np.arange(3.0), "b": [np.int8(1), b"x"]}, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    attempt(bytes(content))


def attempt(content: bytes) -> None:
    with contextlib.suppress(DataError):
        loads(content)
