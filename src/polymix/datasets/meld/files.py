"""MELD's files: what each must hold, and all problems of all of them at once."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.unpickle import read_pickle
from polymix.errors import DataError, did_you_mean

TABLES = {"train_sent_emo.csv": TRAIN, "dev_sent_emo.csv": VAL, "test_sent_emo.csv": TEST}
COLUMNS = ("Utterance", "Dialogue_ID", "Utterance_ID")
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance.

    Attributes:
        key: `dialogue_utterance`, as features are indexed; dialogues are counted anew in each
            split.
        text: what is said.
        label: its place among the classes.
        code: the split's.
    """

    key: str
    text: str
    label: int
    code: int


def read_tables(folder: Path, task: str, classes: Sequence[str]) -> list[Spoken]:
    """Read the three tables.

    Args:
        folder: where they are.
        task: the column of labels, in lower case.
        classes: of it, in lower case.

    Raises:
        DataError: they do not hold what they must; every problem is listed, of a table the first
            few.
    """
    spoken: list[Spoken] = []
    problems: list[str] = []
    for name, code in TABLES.items():
        found, told = _table(folder / name, task.capitalize(), classes, code)
        spoken += found
        problems += told[:SHOWN]
        if len(told) > SHOWN:
            problems.append(f"{folder / name}: and {len(told) - SHOWN} problems more")
        if not found and not told:
            problems.append(f"{folder / name} holds no utterance")
    if problems:
        raise DataError(problems)
    return spoken


def _table(
    path: Path, column: str, classes: Sequence[str], code: int
) -> tuple[list[Spoken], list[str]]:
    wanted = (*COLUMNS, column)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                return [], [f"{path} has no column {', '.join(missing)}"]
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [f"{path} is no table in UTF-8: {error}"]
    spoken: list[Spoken] = []
    problems: list[str] = []
    keys: set[str] = set()
    for line, row in enumerate(rows, 1):
        text, dialogue, utterance, label = (str(row[name] or "").strip() for name in wanted)
        where = f"{path}, utterance {line}"
        if not (dialogue.isdecimal() and utterance.isdecimal()):
            problems.append(f"{where}: the ids are numbers, but got {dialogue!r}, {utterance!r}")
            continue
        if label.lower() not in classes:
            problems.append(
                f"{where}: {column} {label[:40]!r} is no class: "
                f"{did_you_mean(label.lower()[:40], classes)}"
            )
            continue
        key = f"{int(dialogue)}_{int(utterance)}"
        if key in keys:
            problems.append(f"{where}: dialogue {dialogue} has two utterances {utterance}")
        keys.add(key)
        spoken.append(Spoken(key, text, classes.index(label.lower()), code))
    return spoken, problems


def read_features(path: Path, spoken: Sequence[Spoken]) -> tuple[np.ndarray, np.ndarray]:
    """Read a pickle of features.

    Returns:
        The vectors `(N, D)` float32, zeros for those that are not there, and which are `(N,)`.

    Raises:
        DataError: it is no such file, or calls for anything but arrays and containers; nothing of
            it was run.
    """
    content = read_pickle(path)
    if not (
        isinstance(content, (list, tuple))
        and len(content) == len(TABLES)
        and all(isinstance(part, dict) for part in content)
    ):
        raise DataError(f"{path}: three dicts were expected, for training, development and test")
    parts = dict(zip(TABLES.values(), content, strict=True))
    width, problems = None, []
    vectors: list[np.ndarray | None] = []
    for one in spoken:
        vector, told = _vector(parts[one.code].get(one.key))
        if vector is not None:
            width = len(vector) if width is None else width
            if len(vector) != width:
                told = f"{len(vector)} numbers, where others have {width}"
        if told:
            problems.append(f"{path}: utterance {one.key} has {told}")
        vectors.append(vector)
    if width is None and not problems:
        problems.append(f"{path} has no utterance of the tables, such as {spoken[0].key!r}")
    if problems:
        more = [f"{path}: and {len(problems) - SHOWN} problems more"] * (len(problems) > SHOWN)
        raise DataError([*problems[:SHOWN], *more])
    assert width is not None
    out = np.zeros((len(spoken), width), np.float32)
    there = np.array([vector is not None for vector in vectors])
    for row, vector in zip(out, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return out, there


def _vector(value: Any) -> tuple[np.ndarray | None, str]:
    """A vector, or what is wrong with it; none for one that is not there."""
    if value is None:
        return None, ""
    try:
        array = np.asarray(value)
    except ValueError:  # of unequal lists
        return None, "no vector of numbers"
    if array.ndim != 1 or not array.size or array.dtype.kind not in "biuf":
        return None, "no vector of numbers"
    with np.errstate(over="ignore"):
        vector = array.astype(np.float32)
    if not np.isfinite(vector).all():
        return None, "a number that is not finite"
    return vector, ""
