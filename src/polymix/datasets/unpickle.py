"""Pickled NumPy arrays, read without running anything.

A pickle is a program, and Python's own reader calls whatever it names. Here it finds stand-ins
for the few names in pickles of arrays, which check what they are given and make the arrays
themselves, and it takes only the steps that such pickles need. Protocols 0 to 5, and what
Python 2 wrote, are read.

An allow-list in `find_class` alone would not do, and so a few steps of the reader are replaced
(the names are those of tests/datasets/test_unpickle.py): it allocates a bytearray, and in its C
version bytes and room for notes, before it looks for them in the file
(`test_nothing_larger_than_the_file_is_made`), overflows the stack when it hashes a deep tuple,
and sets the state of whatever it found, functions and `numpy.dtype` among them
(`test_misuse_is_refused`).
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from polymix.errors import DataError

DTYPE = re.compile(r"[?bBhHiIlLqQefdFD]|[biufc][0-9]{1,2}|[SU][0-9]{1,6}", re.ASCII)
ORDERS = ("<", ">", "|", "=")
AXES = 32
MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
KNOWN = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    **{(module, "_reconstruct"): "_reconstruct" for module in MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in MULTIARRAY},
    **{(module, "_frombuffer"): "_frombuffer" for module in NUMERIC},
}

STEPS = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE
    BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE
    TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL REDUCE
"""
"""Steps of a pickle that are taken as Python's reader takes them."""

CODES = {code.name: ord(code.code) for code in pickletools.opcodes}

BROKEN = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, TypeError, ValueError,
    pickle.UnpicklingError, struct.error,
)  # fmt: skip
"""What the reader raises on content that is no whole pickle."""


class RefusedError(Exception):
    """What the file asks for is not done."""


def read_pickle(path: Path) -> Any:
    """Read a pickle of NumPy arrays and scalars, numbers, texts, lists, tuples and dicts.

    Arrays are read-only. Dicts have texts or numbers for keys.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, is cut short, or holds or calls for anything else, which is
            named; nothing of it was run.
    """
    try:
        return loads(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def loads(content: bytes, where: str = "the pickle") -> Any:
    """Read a pickle from bytes; see `read_pickle`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in texts of protocol 0
            return _Reader(BytesIO(content), encoding="latin-1").load()
    except RefusedError as error:
        raise DataError(f"{where} {error}; none of it was run") from None
    except BROKEN as error:
        raise DataError(
            f"{where} is no whole pickle of arrays: {error or type(error).__name__}"
        ) from None


@dataclass(frozen=True, slots=True)
class Name:
    """A name of `KNOWN`: never the thing itself."""

    step: str

    def __call__(self, *given: Any) -> Any:
        """What the call would have made: a scalar, bytes, an array, or one still unbuilt.

        Raises:
            RefusedError: NumPy's own pickles never call it so.
        """
        match self.step, given:
            case "bytes", ():
                return b""
            case "encode", (str() as text, "latin1" | "latin-1"):
                return text.encode("latin-1")
            case "dtype", (str() | bytes() as code, _, _):
                return Unbuilt(_plain(code if isinstance(code, str) else code.decode("ascii")))
            case "_reconstruct", (Name("ndarray"), _, _):
                return Unbuilt()
            case "scalar", (np.dtype() as dtype, content):
                return _array(content, dtype, (), "C")[()]
            case "_frombuffer", (content, np.dtype() as dtype, tuple() as shape, str() as order):
                return _array(content, dtype, shape, order)
            case _:
                raise RefusedError(f"calls {self.step} with what numpy's own pickles never do")


@dataclass(eq=False, slots=True)
class Unbuilt:
    """An array or a dtype whose content comes later.

    Attributes:
        code: the dtype's code; none for an array.
        made: what it became.
    """

    code: str | None = None
    made: Any = None

    def build(self, state: Any) -> Any:
        """The array or dtype with its content.

        Raises:
            RefusedError: it is something else, or is not of plain numbers or texts.
        """
        match self.code, state:
            case None, (_, tuple() as shape, np.dtype() as dtype, bool() | int() as columns, data):
                self.made = _array(data, dtype, shape, "F" if columns else "C")
            case str() as code, (_, str() | bytes() as order, None, None, None, *_):
                sign = order if isinstance(order, str) else order.decode("ascii")
                if sign not in ORDERS:
                    raise ValueError(f"{sign!r} is no order of bytes")
                self.made = np.dtype(code).newbyteorder(cast(Any, sign))
            case _:
                raise RefusedError("holds an array that is not of plain numbers or texts")
        return self.made


class _Notes(dict[int, Any]):
    """What was noted, by number; what was noted unbuilt is found built."""

    def __getitem__(self, number: int) -> Any:
        value = super().__getitem__(number)
        return value if not isinstance(value, Unbuilt) or value.made is None else value.made


class _Steps(dict[int, Callable[[Any], None]]):
    """Steps by their code; any other is refused by its name."""

    def __missing__(self, code: int) -> NoReturn:
        name = next((name for name, known in CODES.items() if known == code), None)
        if name is None:
            raise ValueError(f"{code:#x} is no step of a pickle")
        raise RefusedError(f"asks for the step {name}")


class _Reader(pickle._Unpickler):
    """The standard library's reader in Python: its notes are a dict, and its steps a table."""

    # What it has besides, as the stubs do not say.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BytesIO, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.memo = _Notes()

    def find_class(self, module: str, name: str) -> Name:
        """The stand-in of an allowed name; nothing is ever looked up."""
        step = KNOWN.get((module, name))
        if step is None:
            raise RefusedError(f"calls for {module[:80]}.{name[:80]}")
        return Name(step)

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refused, as its steps are."""
        raise RefusedError(f"asks for something outside of the file: {str(pid)[:80]}")

    def _bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        data = self.read(size)
        if len(data) < size:
            raise EOFError("it is cut short")
        self.append(bytearray(data))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("no dict to put an item into")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Tuples nested a million deep would overflow the stack when hashed.
            if not isinstance(key, (str, int, float, bytes, np.generic)):
                raise ValueError(f"a key of a dict is a {type(key).__name__}")
            target[key] = value

    def _build(self) -> None:
        state, unbuilt = self.stack.pop(), self.stack.pop()
        if not isinstance(unbuilt, Unbuilt):
            raise RefusedError("sets the state of something that is no array")
        self.append(unbuilt.build(state))

    dispatch = _Steps()


_Reader.dispatch.update({CODES[n]: pickle._Unpickler.dispatch[CODES[n]] for n in STEPS.split()})
_Reader.dispatch.update(
    {
        CODES["BYTEARRAY8"]: _Reader._bytearray,
        CODES["DICT"]: _Reader._dict,
        CODES["SETITEM"]: _Reader._set_item,
        CODES["SETITEMS"]: _Reader._set_items,
        CODES["BUILD"]: _Reader._build,
    }
)


def _plain(code: str) -> str:
    if not DTYPE.fullmatch(code):
        raise RefusedError(f"holds an array of dtype {code[:40]!r}, not of plain numbers or texts")
    return code


def _array(content: Any, dtype: np.dtype[Any], shape: tuple[Any, ...], order: str) -> np.ndarray:
    """The array whose bytes these are: as many as its shape says, no more and no fewer."""
    if isinstance(content, str):
        content = content.encode("latin-1")  # what was a text to Python 2
    if not isinstance(content, (bytes, bytearray)):
        raise RefusedError("holds an array that is not of plain numbers or texts")
    if len(shape) > AXES or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"{str(shape)[:80]} is no shape")
    if order not in ("C", "F"):
        raise ValueError(f"{order!r} is no order of axes")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"an array of shape {shape} {dtype} holds {len(content)} bytes")
    if not content:
        return np.zeros(shape, dtype)
    array: np.ndarray = np.frombuffer(bytes(content), dtype)
    return array.reshape(shape, order="F" if order == "F" else "C")
