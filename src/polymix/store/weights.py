"""Tensors as safetensors bytes, and back; the library checks what a header says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy
from safetensors import torch as safetensors_torch

Tensors = dict[str, torch.Tensor]

_REFUSALS = (SafetensorError, LookupError, RuntimeError, TypeError, ValueError, OverflowError)
"""What the library raises, and making tensors and arrays, on bytes that are not theirs."""


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
    """Tensors from safetensors bytes; together they are no larger than those.

    Args:
        data: what `pack` gave.
        expected: each tensor's shape; others are refused.

    Raises:
        ValueError: the bytes are not that.
    """
    try:
        tensors = dict(safetensors_torch.load(data))
    except _REFUSALS as error:
        raise ValueError(f"not safetensors ({_short(error)})") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problems = [] if expected is None else shape_problems(shapes, expected)
    if problems:
        raise ValueError("; ".join(problems))
    return tensors


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
    except _REFUSALS as error:
        raise ValueError(f"not an array ({_short(error)})") from None
    return array


def header_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Each tensor's shape in a file, by its header alone: no tensor is read.

    The library refuses a header that is cut short, too long (over 100 MB) or no JSON of its
    kind, byte ranges that overlap or leave the file, sizes that overflow, and spare bytes.

    Raises:
        ValueError: it is not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"not safetensors, or cut short ({_short(error)})") from None


def shape_problems(
    shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Where tensors' shapes are not those expected."""
    wanted = {name: tuple(shape) for name, shape in expected.items()}
    return [
        *(f"tensor '{name}' is missing" for name in wanted if name not in shapes),
        *(f"tensor '{name[:60]}' belongs to no part" for name in shapes if name not in wanted),
        *(
            f"tensor '{name}': shape {shapes[name]}, but {wanted[name]} is needed"
            for name in wanted
            if name in shapes and shapes[name] != wanted[name]
        ),
    ]


def _short(error: Exception) -> str:
    """What a library said, in a line."""
    return " ".join(str(error).split())[:200]
