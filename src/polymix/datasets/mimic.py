"""MIMIC-III as MultiBench prepares it, from its file `im.pk` (Liang et al., 2021).

36,212 stays of a day or more in intensive care. MIMIC-III is given to credentialed users alone
(PhysioNet); MultiBench's authors give the prepared file to those.

- **Series**, `(24, 12)` float32: twelve measurements an hour, for 24 hours.
- **Static**, `(5,)` float32: age, three chronic diseases, type of admission.
- **Task** `mortality`: six classes, the first that holds of a death within a day, two, three, 30
  days, a year; else `later or never`. The papers call the fourth "1 week"; the column that it is
  taken from is the 30-day mortality of the benchmark that `im.pk` comes from.
- **Tasks** `icd9-1` and `icd9-7`: whether any diagnosis is a neoplasm (codes 140-239), or of the
  respiratory system (460-519).

As in MultiBench: values that are not finite become 0, and the split is its own: Python's shuffle
of seed 10, the first tenth of it for validation, the second for test, the rest for training.
Unlike there, inputs are standardised by the training rows alone, not by all rows.
"""

from __future__ import annotations

import random
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

FILE = "im.pk"
SHAPES = {
    "ep_tdata": (24, 12),
    "adm_features_all": (5,),
    "adm_labels_all": (6,),
    "y_icd9": (20,),
}
MORTALITY = ("later or never", "1 day", "2 days", "3 days", "30 days", "1 year")
ICD9 = {"icd9-1": (1, "neoplasm"), "icd9-7": (7, "respiratory")}
TASKS = ("mortality", *ICD9)
SHUFFLE = 10


@register
@dataclass(frozen=True)
class Mimic:
    """Builds MIMIC-III from MultiBench's file.

    Attributes:
        seed: 0; nothing is drawn, the split is MultiBench's.
        task: `mortality`, `icd9-1` or `icd9-7`.
    """

    NAME: ClassVar[str] = "mimic"
    SUMMARY: ClassVar[str] = "MIMIC-III by MultiBench: a day of intensive care, mortality or ICD-9"
    MODALITIES: ClassVar[tuple[str, ...]] = ("series", "static")
    NEEDS_RAW: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    seed: int = 0
    task: str = "mortality"

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
        arrays = read_multibench(_located(raw))
        report(1, 2, "reading im.pk")
        rows, replaced = len(arrays["ep_tdata"]), 0
        about = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        with DatasetWriter(path, self.NAME, schema(self.task), rows, about) as writer:
            for name, source in (("series", "ep_tdata"), ("static", "adm_features_all")):
                replaced += finite(arrays[source], writer.arrays[name])
            writer.settings["not_finite"] = replaced
            writer.targets[:] = labels(arrays, self.task)
            writer.codes[:] = split_codes(rows)
        report(2, 2, "reading im.pk")


def read_multibench(path: Path) -> dict[str, np.ndarray]:
    """Read `im.pk`: arrays by name, `(N, ...)` as in `SHAPES`.

    Raises:
        DataError: it is no such file; every problem is listed.
    """
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not a dict of arrays")
    problems, arrays, rows = [], {}, None
    for name, shape in SHAPES.items():
        array = content.get(name)
        if not isinstance(array, np.ndarray):
            problems.append(f"{path} holds no array '{name}': it has {_some(content)}")
        elif array.dtype.kind not in "biuf":
            problems.append(f"{path}: '{name}' holds {array.dtype}, not numbers")
        elif array.shape[1:] != shape:
            expected = ", ".join(["N", *map(str, shape)])
            problems.append(f"{path}: '{name}' is of shape {array.shape}, not ({expected})")
        elif len(array) != (rows := len(array) if rows is None else rows):
            problems.append(f"{path}: '{name}' has {len(array)} rows, 'ep_tdata' {rows}")
        else:
            arrays[name] = array
    if not problems and (rows or 0) < 10:
        problems.append(f"{path} holds {rows} rows, too few to be split")
    if problems:
        raise DataError(problems)
    return arrays


def finite(values: np.ndarray, out: np.ndarray) -> int:
    """Write `values` as float32 into `out`, 0 for those that are not finite; count these."""
    with np.errstate(over="ignore"):
        out[:] = values.astype(np.float32)
    bad = ~np.isfinite(out)
    out[bad] = 0
    return int(bad.sum())


def labels(arrays: Mapping[str, np.ndarray], task: str) -> np.ndarray:
    """The rows' classes, `(N,)` int64."""
    if task in ICD9:
        return (arrays["y_icd9"][:, ICD9[task][0]] > 0).astype(np.int64)
    # Column 0 is death in hospital, which MultiBench leaves aside.
    within = arrays["adm_labels_all"][:, 1:] > 0
    return np.where(within.any(1), within.argmax(1) + 1, 0)


def split_codes(rows: int) -> np.ndarray:
    """MultiBench's split, `(rows,)` uint8."""
    order = list(range(rows))
    random.Random(SHUFFLE).shuffle(order)
    codes = np.full(rows, TRAIN, np.uint8)
    codes[order[: rows // 10]] = VAL
    codes[order[rows // 10 : rows // 5]] = TEST
    return codes


def schema(task: str) -> Schema:
    """The schema of a task."""
    if task in ICD9:
        name = ICD9[task][1]
        target = Target(name=name, task=Task.BINARY, classes=("no", "yes"))
    else:
        target = Target(name="mortality", task=Task.MULTICLASS, classes=MORTALITY)
    return Schema(
        modalities=(
            Modality(name="series", kind=Kind.TIMESERIES, shape=(24, 12), dtype="float32"),
            Modality(name="static", kind=Kind.TABULAR, shape=(5,), dtype="float32"),
        ),
        target=target,
    )


def _located(raw: Path | None) -> Path:
    if raw is None:
        raise UsageError("dataset 'mimic' is built from im.pk: name its folder, --raw DIR")
    if not (raw / FILE).is_file():
        raise DataError(
            f"{raw / FILE} is missing: put MultiBench's file there; it is given to those whom "
            "PhysioNet has credentialed for MIMIC-III"
        )
    return raw / FILE


def _some(content: dict[Any, Any]) -> str:
    names = [repr(name)[:40] for name in content]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"
