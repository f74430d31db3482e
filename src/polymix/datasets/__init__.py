"""The datasets polymix knows by name: a row in the table below, a file each.

`demo` is built from installed packages; the others from raw files that the user brings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from polymix.data.dataset import Dataset
from polymix.datasets.avmnist.builder import AvMnist
from polymix.datasets.builder import DATASETS, Builder, Progress
from polymix.datasets.cache import built, cache_folder, find_built, open_built
from polymix.datasets.demo import Demo
from polymix.datasets.meld.builder import Meld
from polymix.datasets.mimic import Mimic
from polymix.datasets.mmimdb.builder import MmImdb
from polymix.datasets.mosei import Mosei
from polymix.datasets.mosi.builder import Mosi
from polymix.errors import UsageError, describe, did_you_mean

__all__ = [
    "DATASETS",
    "AvMnist",
    "Builder",
    "Demo",
    "Entry",
    "Meld",
    "Mimic",
    "MmImdb",
    "Mosei",
    "Mosi",
    "Progress",
    "cache_folder",
    "list_datasets",
    "open_built",
    "open_dataset",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """A dataset in the list.

    Attributes:
        name: what the user calls it.
        summary: one line.
        modalities: their names.
        needs_raw: whether the user must bring raw files.
        built: whether the cache holds it, with whatever settings.
    """

    name: str
    summary: str
    modalities: tuple[str, ...]
    needs_raw: bool
    built: bool


def list_datasets() -> list[Entry]:
    """Every dataset known by name."""
    return [
        Entry(
            name=name,
            summary=builder.SUMMARY,
            modalities=builder.MODALITIES,
            needs_raw=builder.NEEDS_RAW,
            built=bool(built(name, f"v{builder.VERSION},")),
        )
        for name, builder in DATASETS.items()
    ]


def open_dataset(
    name: str,
    *,
    raw: Path | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    fingerprint: str | None = None,
) -> Dataset:
    """Open a dataset by name, building it into the cache where it is not there.

    Args:
        name: one of `DATASETS`.
        raw: the folder of its raw files. Only a build needs it; without it, the newest one
            built with the same settings is opened.
        seed: of everything drawn in the build.
        options: the dataset's other settings by name, e.g. `{"snr_db": -4}` for `avmnist`.
        progress: told how far a build is.
        fingerprint: of the dataset that is looked for: where the cache holds it, no raw file is
            read again.

    Raises:
        UsageError: no such dataset or setting, or raw files are needed and none were named.
        DataError: the raw files cannot be used; every problem is listed.
        MissingExtraError: a package that the build needs is not installed.
    """
    if name not in DATASETS:
        raise UsageError(DATASETS.unknown(name))
    builder = make_builder(name, {"seed": seed, **(options or {})})
    found = None if fingerprint is None else find_built(builder, fingerprint)
    return found or open_built(builder, raw, progress)


def make_builder(name: str, options: Mapping[str, Any]) -> Builder:
    """A dataset's builder with its settings.

    Raises:
        UsageError: no such setting, or a value that is not one; all problems at once.
    """
    kind: Any = DATASETS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    problems = [
        f"dataset '{name}' has no setting '{key}': {did_you_mean(key, known)}"
        for key in sorted(set(options) - known)
    ]
    if problems:
        raise UsageError(problems)
    try:
        return TypeAdapter[Builder](kind).validate_python(dict(options))
    except ValidationError as error:
        raise UsageError(
            [f"dataset '{name}': {describe(dict(p))}" for p in error.errors()]
        ) from None
