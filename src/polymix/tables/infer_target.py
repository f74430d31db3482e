"""What a target's column asks to be predicted, and the reason for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from polymix.data.schema import Task
from polymix.errors import DataError
from polymix.tables.cells import labels_of, level_of, number_of, text_of
from polymix.tables.recipe import TargetRecipe

SEPARATORS = ("|", ";", ",")
MAX_CLASSES = 1000
MAX_NUMBER_CLASSES = 20
"""Whole numbers with more distinct values than this are amounts, not classes."""


def infer_target(
    column: str, cells: np.ndarray, task: Task | None = None, *, written: bool = False
) -> tuple[TargetRecipe, str]:
    """What is predicted, and why.

    Args:
        column: the target's.
        cells: `(N,)`, None where a row has no label.
        task: if it is said.
        written: whether the cells are a text file's, where a number is the text of one.

    Raises:
        DataError: nothing can be learned from it, or it cannot be what was said.
    """
    there = [cell for cell in cells if cell is not None]
    if len(there) < 2:
        raise DataError(
            f"target '{column}': {len(there)} of {len(cells)} rows have a label: at least two "
            "rows with labels are needed"
        )
    why = "you said so"
    separator = _separator(there)
    if task is None:
        task, why = _task(there, separator)
    if task is Task.REGRESSION:
        numbers = np.array([number_of(c) for c in there])
        finite = np.isfinite(numbers) & (np.abs(numbers) <= np.finfo(np.float32).max)
        if finite.sum() < 2 or np.unique(numbers[finite]).size < 2:
            wrong = next((c for c, ok in zip(there, finite, strict=True) if not ok), there[0])
            raise DataError(
                f"target '{column}': regression needs different numbers, but it holds "
                f"{str(wrong)[:40]!r}: name another target or type"
            )
        return TargetRecipe(column=column, task=task, dtype="float"), why
    if task is Task.MULTILABEL:
        return _multilabel(column, there, separator), why
    recipe = _classes(column, there, task)
    return recipe.model_copy(update={"dtype": _dtype(there, recipe.classes, written)}), why


def _task(there: Sequence[Any], separator: str | None) -> tuple[Task, str]:
    if any(isinstance(c, list | tuple | set | frozenset | np.ndarray) for c in there):
        return Task.MULTILABEL, "its cells are lists"
    if separator is not None:
        return Task.MULTILABEL, f"its cells hold labels separated by {separator!r}"
    distinct = len({level_of(c) for c in there})
    if distinct <= 2:
        return Task.BINARY, f"{distinct} distinct values"
    numbers = np.array([np.nan if isinstance(c, bool) else number_of(c) for c in there])
    share = float(np.isfinite(numbers).mean())
    if share >= 0.9:
        values = numbers[np.isfinite(numbers)]
        whole = bool((values == np.floor(values)).all())
        if not whole:
            return Task.REGRESSION, f"numbers with fractions, {distinct} distinct"
        if distinct > MAX_NUMBER_CLASSES or distinct > len(there) / 3:
            return Task.REGRESSION, f"whole numbers, {distinct} distinct"
        if share == 1.0:
            return Task.MULTICLASS, f"whole numbers, only {distinct} distinct"
    return Task.MULTICLASS, f"{distinct} distinct values"


def _separator(there: Sequence[Any]) -> str | None:
    """What separates labels: it stands in cells whose parts come back in other cells."""
    texts = [c.strip() for c in there if isinstance(c, str)]
    if len(texts) < len(there):
        return None
    if sum(t.startswith("[") and t.endswith("]") for t in texts) >= 0.9 * len(texts):
        return None
    for separator in SEPARATORS:
        several = [t for t in texts if separator in t]
        if len(several) < max(2, 0.02 * len(texts)):
            continue
        counts = Counter(p for t in texts for p in labels_of(t, separator))
        if counts and sum(counts.values()) >= 2 * len(counts) and len(counts) < len(texts):
            numeric = np.mean([not np.isnan(number_of(t)) for t in several])
            if numeric < 0.5:  # 1,234 is one number
                return separator
    return None


def _multilabel(column: str, there: Sequence[Any], separator: str | None) -> TargetRecipe:
    names = sorted({name for cell in there for name in labels_of(cell, separator)})
    if not names or len(names) > MAX_CLASSES:
        raise DataError(
            f"target '{column}': {len(names)} different labels, but 1 to {MAX_CLASSES} can be "
            "learned: name another target or type"
        )
    return TargetRecipe(
        column=column, task=Task.MULTILABEL, classes=tuple(names), separator=separator
    )


def _classes(column: str, there: Sequence[Any], task: Task) -> TargetRecipe:
    spelled: dict[str, set[str]] = {}
    for cell in there:
        spelled.setdefault(level_of(cell), set()).add(text_of(cell))
    # As the table spells it, where it does so in one way.
    names = {next(iter(s)) if len(s) == 1 else level for level, s in spelled.items()}
    if len(names) < 2:
        raise DataError(
            f"target '{column}': every row with a label has {next(iter(names))[:40]!r}: there is "
            "nothing to learn; name another target"
        )
    if len(names) > min(MAX_CLASSES, max(2, len(there) // 2)):
        raise DataError(
            f"target '{column}': {len(names)} different values in {len(there)} rows are too many "
            "for classes: name another target, or say that it is a regression"
        )
    if task is Task.BINARY and len(names) != 2:
        raise DataError(f"target '{column}': binary needs two values, but got {len(names)}")
    if len(names) == 2:
        task = Task.BINARY
    numeric = not any(np.isnan(number_of(n)) for n in names)
    ordered = sorted(names, key=(lambda n: (number_of(n), n)) if numeric else (lambda n: (0.0, n)))
    return TargetRecipe(column=column, task=task, classes=tuple(ordered))


def _dtype(there: Sequence[Any], classes: Sequence[str], written: bool) -> str:
    """What a class is: of a frame as its cells are, of a text file as it would be read again."""
    if written:
        forms = {"bool": "(True|False)", "int": "-?(0|[1-9][0-9]{0,17})", "float": "-?[0-9.e+-]+"}
        for name, form in forms.items():
            if all(re.fullmatch(form, c) for c in classes):
                spelled = name != "float" or all(_spelled_as_float(c) for c in classes)
                return name if spelled else "str"
        return "str"
    if all(isinstance(c, bool | np.bool_) for c in there):
        return "bool"
    if any(isinstance(c, bool | np.bool_) for c in there):
        return "str"
    if all(isinstance(c, int | np.integer) for c in there):
        return "int"
    finite = all(isinstance(c, int | np.integer | float | np.floating) for c in there)
    return "float" if finite and all(np.isfinite(c) for c in there) else "str"


def _spelled_as_float(name: str) -> bool:
    return not np.isnan(number_of(name)) and str(float(name)) == name
