"""What the names in pickles of arrays stand for; none of them is ever looked up or called."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

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


class RefusedError(Exception):
    """What the file asks for is not done."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name of `KNOWN`: never the thing itself."""

    step: str


@dataclass(eq=False, slots=True)
class Unbuilt:
    """An array or a dtype whose content comes later.

    Attributes:
        code: the dtype's code; none for an array.
        memos: under which numbers it was noted.
    """

    code: str | None = None
    memos: list[int] = field(default_factory=list)


def named(module: Any, attribute: Any) -> Name:
    """What a name stands for.

    Raises:
        RefusedError: it is not of `KNOWN`.
    """
    texts = isinstance(module, str) and isinstance(attribute, str)
    step = KNOWN.get((module, attribute)) if texts else None
    if step is None:
        raise RefusedError(f"calls for {str(module)[:80]}.{str(attribute)[:80]}")
    return Name(step)


def call(name: Any, given: Any) -> Any:
    """What the call would have made: a scalar, bytes, an array, or one that is still unbuilt.

    Raises:
        RefusedError: NumPy's own pickles never call it so.
    """
    if not isinstance(name, Name) or not isinstance(given, tuple):
        raise ValueError("a call of something that has no name")
    match name.step, given:
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
            raise RefusedError(f"calls {name.step} with what numpy's own pickles never do")


def build(unbuilt: Any, state: Any) -> Any:
    """The array or dtype with its content.

    Raises:
        RefusedError: it is something else, or is not of plain numbers or texts.
    """
    if not isinstance(unbuilt, Unbuilt) or not isinstance(state, tuple):
        raise RefusedError("sets the state of something that is no array")
    match unbuilt.code, state:
        case None, (_, tuple() as shape, np.dtype() as dtype, bool() | int() as columns, data):
            return _array(data, dtype, shape, "F" if columns else "C")
        case str() as code, (_, str() | bytes() as order, None, None, None, *_):
            sign = order if isinstance(order, str) else order.decode("ascii")
            if sign not in ORDERS:
                raise ValueError(f"{sign!r} is no order of bytes")
            return np.dtype(code).newbyteorder(cast(Any, sign))
        case _:
            raise RefusedError("holds an array that is not of plain numbers or texts")


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
