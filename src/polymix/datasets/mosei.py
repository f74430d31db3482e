"""CMU-MOSEI as MultiBench and MulT have it, from `mosei_senti_data.pkl` (Zadeh et al. 2018).

Utterances of YouTube reviews; at each of T steps (50, aligned to words) features of the word, the
voice and the face. The file: `{split: {modality: array}}` of the splits `train`, `valid` and
`test`, the arrays `text`, `audio`, `vision` `(N, T, D)`, `labels`, and `id`, which is not needed.

- **Text** `(T, 1 + 300)`, **audio** `(T, 1 + 74)`, **vision** `(T, 1 + 35)`, float32, or as wide as
  the file has them; the first column says which steps are there (`Modality.padded`): those that
  are zeros throughout are padding. A modality of padding alone is absent from its row. What is
  not finite becomes 0, as MulT has it (COVAREP holds -inf).
- **Task** `sentiment`: a value from -3 to 3, from `labels` `(N, 1, 1)`, or the first of seven.
- **Task** `emotion`: seven classes, where `labels` is `(N, 1, 7)`: sentiment, then how much there
  is of six emotions, from 0 to 3, as in CMU's own `All Labels`. The class is the strongest, the
  first of equals; `neutral` where there is none.

The split is the official one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polymix.data.dataset import DatasetWriter
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.builder import Progress, one_of, silent, unseeded
from polymix.datasets.cache import fingerprint_files
from polymix.datasets.unpickle import read_pickle
from polymix.errors import DataError, UsageError
from polymix.registry import register

FILE = "mosei_senti_data.pkl"
MODALITIES = ("text", "audio", "vision")
SPLITS = {"train": TRAIN, "valid": VAL, "test": TEST}
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
CLASSES = ("neutral", *EMOTIONS)
TASKS = ("sentiment", "emotion")
MAX_SENTIMENT = 3
CHUNK = 512

Part = dict[str, np.ndarray]


@register
@dataclass(frozen=True)
class Mosei:
    """Builds CMU-MOSEI from MultiBench's file.

    Attributes:
        seed: 0; nothing is drawn, the split is the official one.
        task: `sentiment` or `emotion`.
    """

    NAME: ClassVar[str] = "mosei"
    SUMMARY: ClassVar[str] = "CMU-MOSEI by MultiBench: sentiment, or emotion, of spoken reviews"
    MODALITIES: ClassVar[tuple[str, ...]] = MODALITIES
    NEEDS_RAW: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    seed: int = 0
    task: str = "sentiment"

    def __post_init__(self) -> None:
        if problems := [*unseeded(self, self.seed), *one_of(self, "task", TASKS)]:
            raise UsageError(problems)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the raw file."""
        return {"task": self.task}

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the raw file's bytes."""
        return fingerprint_files([(FILE, _located(raw))])

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; see `Builder.build`."""
        report = progress or silent
        parts = read_parts(_located(raw), self.task)
        rows = sum(len(part["labels"]) for part in parts.values())
        about = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        done = 0
        with DatasetWriter(path, self.NAME, schema(self.task, parts["train"]), rows, about) as w:
            for name, part in parts.items():
                here = slice(done, done + len(part["labels"]))
                w.targets[here] = targets(part["labels"], self.task)
                w.codes[here] = SPLITS[name]
                for column, modality in enumerate(MODALITIES):
                    w.present[here, column] = copy(part[modality], w.arrays[modality][here])
                done = here.stop
                report(done, rows, f"copying {name}")


def read_parts(path: Path, task: str) -> dict[str, Part]:
    """Read the file: arrays by split; `labels` become `(N, 1)` or `(N, 7)`.

    Raises:
        DataError: it is no such file; every problem is listed.
    """
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not a dict of splits")
    problems: list[str] = []
    parts = {name: _part(content.get(name), f"{path}: '{name}'", problems) for name in SPLITS}
    if problems:
        raise DataError(problems)
    first = parts["train"]
    for name, part in parts.items():
        where = f"{path}: '{name}'"
        for modality in MODALITIES:
            if part[modality].shape[1:] != first[modality].shape[1:]:
                problems.append(
                    f"{where}: {modality} is of shape {part[modality].shape}, "
                    f"that of 'train' {first[modality].shape}"
                )
        problems += _label_problems(part["labels"], task, where)
    if problems:
        raise DataError(problems)
    return parts


def _part(content: Any, where: str, problems: list[str]) -> Part:
    if not isinstance(content, dict):
        problems.append(f"{where}: a dict of arrays was expected, but got {_called(content)}")
        return {}
    found: Part = {}
    for name in (*MODALITIES, "labels"):
        array = content.get(name)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            problems.append(f"{where}: '{name}' is to be an array of numbers: {_called(array)}")
        elif name == "labels" and not (array.size and array.size / len(array) in (1, 7)):
            problems.append(
                f"{where}: 'labels' is to be of shape (N, 1, 1) or (N, 1, 7), but is {array.shape}"
            )
        elif name != "labels" and (array.ndim != 3 or not array.size):
            problems.append(f"{where}: '{name}' is to be of shape (N, T, D), but is {array.shape}")
        else:
            found[name] = array.reshape(len(array), -1) if name == "labels" else array
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        problems.append(f"{where}: arrays are of as many rows, but have {counts}")
    return found


def _label_problems(labels: np.ndarray, task: str, where: str) -> list[str]:
    if task == "emotion" and labels.shape[1] == 1:
        return [f"{where}: labels hold sentiment alone; task 'emotion' needs all seven"]
    read = labels[:, 1:] if task == "emotion" else labels[:, 0]
    low = 0 if task == "emotion" else -MAX_SENTIMENT
    bad = ~((read >= low) & (read <= MAX_SENTIMENT))
    if not bad.any():
        return []
    row = int(np.flatnonzero(bad.reshape(len(bad), -1).any(1))[0])
    value = np.ravel(read[row])[np.ravel(bad[row])][0]
    return [
        f"{where}: the label of row {row} lies between {low} and {MAX_SENTIMENT}, but is {value:g}"
    ]


def _called(content: Any) -> str:
    if isinstance(content, np.ndarray):
        return f"an array of {content.dtype}"
    return "it is missing" if content is None else f"a {type(content).__name__}"


def copy(steps: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Copy steps `(N, T, D)` into `(N, T, 1 + D)`, whose first column says which are there.

    Returns:
        Which rows have any, `(N,)` bool.
    """
    for start in range(0, len(steps), CHUNK):
        here = slice(start, start + CHUNK)
        with np.errstate(over="ignore"):
            values = steps[here].astype(np.float32)
        values = np.where(np.isfinite(values), values, np.float32(0))
        out[here, :, 1:] = values
        out[here, :, 0] = (values != 0).any(-1)
    there: np.ndarray = (out[..., 0] != 0).any(1)
    return there


def targets(labels: np.ndarray, task: str) -> np.ndarray:
    """Labels `(N, 1 or 7)` to values, or to places in `CLASSES`, `(N,)`."""
    if task == "sentiment":
        return labels[:, 0].astype(np.float32)
    much = labels[:, 1:]
    return np.where((much > 0).any(1), much.argmax(1) + 1, 0)


def schema(task: str, part: Part) -> Schema:
    """The schema of a task, as wide as the arrays are."""
    target = (
        Target(name="emotion", task=Task.MULTICLASS, classes=CLASSES)
        if task == "emotion"
        else Target(name="sentiment", task=Task.REGRESSION)
    )
    shapes = {name: part[name].shape[1:] for name in MODALITIES}
    return Schema(
        modalities=tuple(
            Modality(
                name=name,
                kind=Kind.FEATURES,
                shape=(length, 1 + width),
                dtype="float32",
                padded=True,
            )
            for name, (length, width) in shapes.items()
        ),
        target=target,
    )


def _located(raw: Path | None) -> Path:
    if raw is None:
        raise UsageError(f"dataset 'mosei' is built from {FILE}: name its folder, --raw DIR")
    if not (raw / FILE).is_file():
        raise DataError(
            f"{raw / FILE} is missing: put the file there that MultiBench "
            "(github.com/pliang279/MultiBench) links to"
        )
    return raw / FILE
