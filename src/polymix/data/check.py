"""What rows must be: numbers that are numbers, tokens in the vocabulary, classes that exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from polymix.data.schema import Kind, Modality, Schema, Target, Task

CHUNK = 2048
LARGEST = float(np.finfo(np.float32).max)
"""Models see float32: a number beyond this is infinite to them."""

Wrong = Callable[[np.ndarray], np.ndarray]


def row_problems(
    schema: Schema, arrays: Mapping[str, np.ndarray], present: np.ndarray, targets: np.ndarray
) -> list[str]:
    """What is wrong with the rows, one line a modality and target, the first such row named.

    Args:
        schema: the modalities and the target.
        arrays: one `(N, *shape)` array per modality; rows that lack it are not looked at.
        present: `(N, k)` bool.
        targets: `(N,)` or `(N, L)`.
    """
    found = []
    for column, modality in enumerate(schema.modalities):
        rule = _modality_rule(modality, arrays[modality.name].dtype)
        if rule is not None:
            cure, wrong = rule
            place = f"modality '{modality.name}'"
            found.append(_first(place, arrays[modality.name], wrong, cure, present[:, column]))
    cure, wrong = _target_rule(schema.target)
    found.append(_first(f"target '{schema.target.name}'", targets, wrong, cure, None))
    return [problem for problem in found if problem is not None]


def _modality_rule(modality: Modality, dtype: np.dtype) -> tuple[str, Wrong] | None:
    if modality.kind is Kind.TEXT:
        size = modality.vocabulary or 0
        return f"token ids are 0..{size - 1}", lambda x: (x < 0) | (x >= size)
    if modality.padded:
        return "the first column is 1 for a token, 0 for padding; all are numbers", _no_token
    if dtype.kind != "f":
        return None
    return "leave the row without it (present), or fill it in", _no_number


def _target_rule(target: Target) -> tuple[str, Wrong]:
    if target.task is Task.REGRESSION:
        return "give a finite number, or leave the row out", _no_number
    if target.task is Task.MULTILABEL:
        return "labels are 0 or 1", lambda y: ~((y == 0) | (y == 1))
    count = len(target.classes)
    return f"classes are 0..{count - 1}", lambda y: (y < 0) | (y >= count) | (y != np.floor(y))


def _no_number(x: np.ndarray) -> np.ndarray:
    return np.asarray(~(np.abs(x) <= LARGEST))


def _no_token(x: np.ndarray) -> np.ndarray:
    wrong = _no_number(x)
    wrong[..., 0] |= (x[..., 0] != 0) & (x[..., 0] != 1)
    return wrong


def _first(
    place: str, array: np.ndarray, wrong: Wrong, cure: str, present: np.ndarray | None
) -> str | None:
    for start in range(0, len(array), CHUNK):
        chunk = np.asarray(array[start : start + CHUNK])
        bad = wrong(chunk)
        if present is not None:
            bad &= present[start : start + CHUNK].reshape(-1, *[1] * (bad.ndim - 1))
        if bad.any():
            where = np.unravel_index(int(bad.argmax()), bad.shape)
            value = chunk[where]
            return f"{place}: row {start + int(where[0])} holds {value}: {cure}"
    return None
