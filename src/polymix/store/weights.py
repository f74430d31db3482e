"""Tensors as safetensors bytes, and back, never trusting a header's word."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy
from safetensors import torch as safetensors_torch

Tensors = dict[str, torch.Tensor]

MAX_HEADER = 100_000_000
"""Bytes a header may have, as in the format's own reader."""

_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


def digest(data: bytes) -> str:
    """Thirty-two hex digits that stand for the content."""
    return hashlib.sha256(data).hexdigest()[:32]


def pack(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Tensors as safetensors bytes; the same tensors always give the same bytes.

    Raises:
        ValueError: a tensor that the format does not know.
    """
    try:
        # Clones, because tensors that share memory (views of a stacked cohort) are refused.
        plain = {
            name: tensors[name].detach().cpu().clone(memory_format=torch.contiguous_format)
            for name in sorted(tensors)
        }
        return bytes(safetensors_torch.save(plain))
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"tensors that cannot be kept: {error}") from None


def unpack(data: bytes, expected: Mapping[str, tuple[int, ...]] | None = None) -> Tensors:
    """Tensors from safetensors bytes.

    Args:
        data: what `pack` gave.
        expected: each tensor's shape; others are refused before any is allocated.

    Raises:
        ValueError: the bytes are not that.
    """
    problems = check_header(data, len(data), expected)
    if problems:
        raise ValueError("; ".join(problems))
    try:
        return dict(safetensors_torch.load(data))
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"not safetensors ({error})") from None


def pack_array(array: np.ndarray) -> bytes:
    """One array as safetensors bytes.

    Raises:
        ValueError: an array that the format does not know.
    """
    try:
        return bytes(safetensors_numpy.save({"array": np.array(array, order="C")}))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"an array that cannot be kept: {error}") from None


def unpack_array(data: bytes) -> np.ndarray:
    """The array that `pack_array` was given.

    Raises:
        ValueError: the bytes are not that.
    """
    try:
        array: np.ndarray = safetensors_numpy.load(data)["array"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"not an array ({error})") from None
    return array


def read_header(file: BinaryIO, size: int) -> bytes:
    """The length and the header of a safetensors file, and no more of it."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    return start + file.read(length) if length <= min(size, MAX_HEADER) else start


def check_header(
    head: bytes, size: int, expected: Mapping[str, tuple[int, ...]] | None = None
) -> list[str]:
    """What is wrong with a safetensors file, told from its header alone.

    Args:
        head: the file's start, its header included.
        size: the whole file's length in bytes.
        expected: each tensor's shape, if known.
    """
    length = int.from_bytes(head[:8], "little")
    if size < 8 or length > MAX_HEADER or 8 + length > min(size, len(head)):
        return [f"not safetensors, or cut short (a header of {length} bytes in {size})"]
    try:
        header = json.loads(head[8 : 8 + length])
    except (ValueError, RecursionError):
        return ["not safetensors (its header is not JSON)"]
    if not isinstance(header, dict):
        return ["not safetensors (its header is no JSON object)"]
    header.pop("__metadata__", None)
    room = size - 8 - length
    problems = [
        f"tensor '{name[:60]}': {problem}"
        for name, entry in header.items()
        if (problem := _entry_problem(entry, room))
    ]
    if problems:
        return problems
    filled = sum(stop - start for start, stop in (e["data_offsets"] for e in header.values()))
    if filled != room:
        return [f"not safetensors (tensors of {filled} bytes in a file with room for {room})"]
    if expected is None:
        return []
    shapes = header_shapes(head)
    wanted = {name: tuple(shape) for name, shape in expected.items()}
    problems += [f"tensor '{name}' is missing" for name in wanted if name not in shapes]
    problems += [
        f"tensor '{name[:60]}' belongs to no part" for name in shapes if name not in wanted
    ]
    problems += [
        f"tensor '{name}': shape {shapes[name]}, but {wanted[name]} is needed"
        for name in wanted
        if name in shapes and shapes[name] != wanted[name]
    ]
    return problems


def header_shapes(head: bytes) -> dict[str, tuple[int, ...]]:
    """Each tensor's shape, from a header in which `check_header` found nothing wrong."""
    header = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
    return {name: tuple(e["shape"]) for name, e in header.items() if name != "__metadata__"}


def _entry_problem(entry: object, room: int) -> str | None:
    """What is wrong with one tensor's entry, where `room` bytes hold all tensors."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        return "no dtype, shape and byte range"
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _BYTES:
        return f"dtype {str(kind)[:20]} is not known"
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2):
        return "its shape or byte range is not a list of sizes"
    start, stop = offsets
    if not start <= stop <= room:
        return f"bytes {start} to {stop} lie outside the file"
    if math.prod(shape) * _BYTES[kind] != stop - start:
        return f"shape {shape} of {kind} does not fill its {stop - start} bytes"
    return None


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)
