"""Pickled NumPy arrays, read without running anything.

A pickle is a program, and Python's own reader calls whatever it names. This one knows the few
steps of which pickles of arrays in plain containers consist, and makes the arrays itself: no
name in the file is ever looked up, nothing is called, and nothing larger than the file is made.
Protocols 0 to 5, and what Python 2 wrote, are read.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from polymix.datasets.pickled_arrays import RefusedError, Unbuilt, build, call, named
from polymix.errors import DataError

OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
MARK = object()


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
            return _Reader(content).run()
    except RefusedError as error:
        raise DataError(f"{where} {error}; none of it was run") from None
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise DataError(
            f"{where} is no whole pickle of arrays: {error or type(error).__name__}"
        ) from None


class _Reader:
    """The machine that pickles are written for, without its calls."""

    def __init__(self, content: bytes) -> None:
        self.file = BytesIO(content)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while code := self.file.read(1):
            opcode = OPCODES.get(code.decode("latin-1"))
            if opcode is None:
                raise ValueError(f"{code!r} is no step of a pickle")
            if opcode.name not in STEPS and opcode.name not in VALUES and opcode.name != "STOP":
                raise RefusedError(f"asks for the step {opcode.name}")
            argument = opcode.arg.reader(self.file) if opcode.arg else None
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name in VALUES:
                self.stack.append(argument)
            else:
                STEPS[opcode.name](self, argument)
        raise ValueError("it is cut short")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark where a value is due")
        return value

    def pop_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise ValueError("a mark is missing")

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("no list to append to")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("no dict to put an item into")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Tuples nested a million deep would overflow the stack when hashed.
            if not isinstance(key, (str, int, float, bytes, np.generic)):
                raise ValueError(f"a key of a dict is a {type(key).__name__}")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def dict_of(self, values: list[Any]) -> None:
        self.stack.append({})
        self.set_items(values)

    def note(self, number: int) -> None:
        value = self.stack[-1]
        if isinstance(value, Unbuilt):
            value.memos.append(number)
        self.memo[number] = value

    def get(self, number: int) -> None:
        self.stack.append(self.memo[number])

    def name(self) -> None:
        attribute, module = self.pop(), self.pop()
        self.stack.append(named(module, attribute))

    def call(self) -> None:
        given, name = self.pop(), self.pop()
        self.stack.append(call(name, given))

    def build(self) -> None:
        state, unbuilt = self.pop(), self.pop()
        made = build(unbuilt, state)
        for number in unbuilt.memos:
            if self.memo.get(number) is unbuilt:
                self.memo[number] = made
        self.stack.append(made)


VALUES = frozenset(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"]
    + ["STRING", "BINSTRING", "SHORT_BINSTRING", "BYTEARRAY8"]
    + [f"{size}BIN{kind}" for kind in ("UNICODE", "BYTES") for size in ("", "SHORT_")]
    + ["UNICODE", "BINUNICODE8", "BINBYTES8"]
)
STEPS: Mapping[str, Callable[[_Reader, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda _, __: None),
    "MARK": lambda reader, _: reader.stack.append(MARK),
    "POP": lambda reader, _: reader.stack.pop(),
    "POP_MARK": lambda reader, _: reader.pop_mark(),
    "NONE": lambda reader, _: reader.stack.append(None),
    "NEWTRUE": lambda reader, _: reader.stack.append(True),
    "NEWFALSE": lambda reader, _: reader.stack.append(False),
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "EMPTY_TUPLE": lambda reader, _: reader.stack.append(()),
    "LIST": lambda reader, _: reader.stack.append(reader.pop_mark()),
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.pop_mark())),
    "TUPLE1": lambda reader, _: reader.tuple_of(1),
    "TUPLE2": lambda reader, _: reader.tuple_of(2),
    "TUPLE3": lambda reader, _: reader.tuple_of(3),
    "DICT": lambda reader, _: reader.dict_of(reader.pop_mark()),
    "APPEND": lambda reader, _: reader.append([reader.pop()]),
    "APPENDS": lambda reader, _: reader.append(reader.pop_mark()),
    "SETITEM": lambda reader, _: reader.set_item(),
    "SETITEMS": lambda reader, _: reader.set_items(reader.pop_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Reader.note),
    "MEMOIZE": lambda reader, _: reader.note(len(reader.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Reader.get),
    "GLOBAL": lambda reader, name: reader.stack.append(named(*name.split(" ", 1))),
    "STACK_GLOBAL": lambda reader, _: reader.name(),
    "REDUCE": lambda reader, _: reader.call(),
    "BUILD": lambda reader, _: reader.build(),
}
