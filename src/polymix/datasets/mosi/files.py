"""CMU-MOSI's files: what each must hold, and all problems of all of them at once."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polymix.errors import DataError

WIDTHS = {"text": 100, "audio": 73, "vision": 100}
CALLED = {"text": "text", "audio": "audio", "vision": "video"}
PARTS = ("train", "test")
TRANSCRIPTS = "transcripts.csv"
FILES = (
    TRANSCRIPTS,
    *(f"{name}_{part}.csv" for name in (*CALLED.values(), "index") for part in PARTS),
)


@dataclass(frozen=True)
class Utterances:
    """All utterances, the training ones first.

    Attributes:
        features: by modality, `(N, D)` float32.
        label: `(N,)` int64, 1 for positive.
        video: the name of each one's video, `(N,)`.
        number: of the utterance within its video, `(N,)` int64.
        test: which are test rows, `(N,)` bool.
    """

    features: dict[str, np.ndarray]
    label: np.ndarray
    video: np.ndarray
    number: np.ndarray
    test: np.ndarray


def read_utterances(folder: Path) -> Utterances:
    """Read the folder.

    Raises:
        DataError: files are missing, or do not hold what they must; every problem is listed.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError([f"{folder / name} is missing" for name in missing])
    problems: list[str] = []
    lines = [_line(row, i, problems) for i, row in enumerate(_rows(folder / TRANSCRIPTS))]
    index = {part: _index(folder / f"index_{part}.csv", len(lines), problems) for part in PARTS}
    tables = {
        (name, part): _table(folder / f"{called}_{part}.csv", WIDTHS[name] + 1, problems)
        for name, called in CALLED.items()
        for part in PARTS
    }
    if problems:
        raise DataError(problems)
    where = [i for part in PARTS for i in index[part]]
    found = [lines[i] for i in where]
    label = np.array([mark for _, _, mark in found], np.int64)
    features = {}
    for name in CALLED:
        both = [tables[name, part] for part in PARTS]
        counts, wanted = [len(t) for t in both], [len(index[part]) for part in PARTS]
        if counts != wanted:
            problems.append(f"{folder}: {name} has {counts} rows, the index {wanted}")
            continue
        table = np.concatenate(both)
        wrong = np.flatnonzero(table[:, -1] != label)
        if len(wrong):
            problems.append(
                f"{folder}: {name}'s label of row {wrong[0]} is {table[wrong[0], -1]:g}, but line "
                f"{where[wrong[0]]} of {TRANSCRIPTS} says {label[wrong[0]]}"
            )
        features[name] = table[:, :-1].astype(np.float32)
    if len(set(where)) != len(where):
        problems.append(f"{folder}: an utterance is indexed twice")
    test = np.repeat([False, True], [len(index[part]) for part in PARTS])
    video = np.array([name for name, _, _ in found], np.str_)
    both_sides = sorted(set(video[test].tolist()) & set(video[~test].tolist()))
    if both_sides:
        problems.append(f"{folder}: videos with training and test rows: {', '.join(both_sides)}")
    if len(set(video[~test].tolist())) < 2:
        problems.append(f"{folder}: one training video cannot be split into two sides")
    if problems:
        raise DataError(problems)
    return Utterances(features, label, video, np.array([n for _, n, _ in found], np.int64), test)


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _line(row: Sequence[str], i: int, problems: list[str]) -> tuple[str, int, int]:
    """Video, number and label of a line of the transcripts."""
    video, _, number = (row[0] if row else "").rpartition("_")
    if len(row) != 4 or not video or not number.isdecimal() or row[3] not in ("0", "1"):
        problems.append(
            f"{TRANSCRIPTS}, line {i}: video_number, transcript, count and label 0 or 1 were "
            f"expected, but got {row}"
        )
        return "", 0, 0
    return video, int(number), int(row[3])


def _index(path: Path, lines: int, problems: list[str]) -> list[int]:
    found = []
    for i, row in enumerate(_rows(path)):
        if len(row) != 1 or not row[0].isdecimal() or int(row[0]) >= lines:
            problems.append(f"{path}, line {i}: a line below {lines} was expected, but got {row}")
            continue
        found.append(int(row[0]))
    return found


def _table(path: Path, width: int, problems: list[str]) -> np.ndarray:
    """Numbers `(N, width)`; the first row that is not so many is told."""
    found = np.zeros((0, width))
    rows = _rows(path)
    with suppress(ValueError):
        found = np.array(rows, np.float64).reshape(len(rows), -1)
    if found.shape == (len(rows), width) and np.isfinite(found).all():
        return found
    for i, row in enumerate(rows):
        if len(row) != width:
            problems.append(f"{path}, line {i}: {width} columns were expected, but got {len(row)}")
            break
        bad = next((cell for cell in row if not _finite(cell)), None)
        if bad is not None:
            problems.append(f"{path}, line {i}: {bad!r} is not a finite number")
            break
    return np.zeros((len(rows), width))


def _finite(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
