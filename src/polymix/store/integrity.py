"""A run folder's sealed files, read and checked as one; what was changed by hand is refused.

`description.json` names the digest of each sealed file, and its `seal` is its own. The files of
a model are replaced together (see `stage`, `finish_interrupted_write`); one rename decides for all:

    .staging.tmp/   being written      a crash leaves the old model
    .staging/       written, counts    a crash leaves the new one, read from here first
    RUN/            moved, description last; then .staging/ is gone
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from polymix.data.schema import Schema
from polymix.errors import DataError, RunFolderError
from polymix.store.files import from_json, sha256, suspicious, sync_folder, to_json, write_synced

FORMAT = 1
"""The run folder's version; a newer one is not opened."""

MAX_TEXT = 100_000_000
"""Bytes a text of a run folder may have."""

DESCRIPTION, CONFIG, SCHEMA = "description.json", "config.yaml", "schema.json"
GENOTYPE, MODEL, METRICS = "genotype.json", "model.safetensors", "metrics.json"
EVALUATION, LEDGER = "evaluation.json", "ledger.sqlite"
ALWAYS = (CONFIG, SCHEMA)
OF_MODEL = (GENOTYPE, MODEL, METRICS)
TABLE, REPORT = "table.json", "data_report.json"
OF_TABLE = (TABLE, REPORT)
"""How a table was read, and what was found in it; in the folders of runs on tables."""

RESERVED = ("format", "files", "seal")

_STAGING, _UNFINISHED = ".staging", ".staging.tmp"


Stamp = tuple[int, ...]
"""Which file it was, and when it last changed; the system sets the last of the times itself."""


def stamp(file: BinaryIO) -> Stamp:
    """An open file's."""
    about = os.fstat(file.fileno())
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


@dataclass(frozen=True)
class Content:
    """What a run folder says, checked.

    `model_stamp` is that of the weights whose digest was taken, `seen` the folder's `state` then.
    """

    description: Mapping[str, Any]
    config: Mapping[str, Any]
    schema: Schema
    genotype_json: str | None
    metrics: Mapping[str, Any] | None
    evaluation: Mapping[str, Any] | None
    table_json: str | None = None
    report: Mapping[str, Any] | None = None
    model_stamp: Stamp | None = None
    seen: tuple[object, ...] = ()


def polymix_version() -> str:
    """The installed polymix's version."""
    try:
        return version("polymix")
    except PackageNotFoundError:  # pragma: no cover - run from a source tree
        return "unknown"


def sealed(description: Mapping[str, Any]) -> bytes:
    """The description as a file, its seal renewed.

    Raises:
        ValueError: it is not JSON.
    """
    fields = {name: value for name, value in description.items() if name != "seal"}
    plain = from_json(to_json(fields))
    return to_json(plain | {"seal": _seal(plain)})


def _seal(description: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in description.items() if name != "seal"}
    return sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


def stage(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that are to replace the folder's, `description.json` among them."""
    finish_interrupted_write(folder)
    unfinished = folder / _UNFINISHED
    unfinished.mkdir()
    for name, data in files.items():
        write_synced(unfinished / name, data)
    sync_folder(unfinished)
    unfinished.rename(folder / _STAGING)
    sync_folder(folder)


def finish_interrupted_write(folder: Path) -> None:
    """Move what `stage` wrote to its place, now or after a crash; drop what it left unfinished."""
    staging = folder / _STAGING
    for name in (*OF_MODEL, DESCRIPTION):
        if (staging / name).exists():
            (staging / name).replace(folder / name)
            sync_folder(folder)
    for leftover in (staging, folder / _UNFINISHED):
        if leftover.exists():
            shutil.rmtree(leftover)


def locate(folder: Path, name: str) -> Path:
    """Where a file's newest complete content lies."""
    staged = folder / _STAGING / name
    usable = staged.is_file() and not staged.parent.is_symlink()
    return staged if usable else folder / name


def read(folder: Path) -> Content:
    """All that a run folder says but its weights and its ledger.

    Raises:
        RunFolderError: with everything that is wrong.
    """
    for _ in range(20):
        before = state(folder)
        try:
            return replace(_read(folder), seen=before)
        except (RunFolderError, FileNotFoundError):
            if state(folder) == before:
                raise
        time.sleep(0.01)  # a writer is replacing the model right now
    return _read(folder)


def state(folder: Path) -> tuple[object, ...]:
    """What changes whenever a writer replaces something."""
    names = (DESCRIPTION, *OF_MODEL)
    found: list[object] = []
    for path in [folder / name for name in names] + [folder / _STAGING / name for name in names]:
        try:
            found.append((path.lstat().st_ino, path.lstat().st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def _read(folder: Path) -> Content:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such run folder"
        raise RunFolderError(f"{folder}: {what}")
    if not locate(folder, DESCRIPTION).is_file():
        raise RunFolderError(f"{folder}: is not a run folder (it has no {DESCRIPTION})")
    refused = suspicious(folder)
    problems = list(refused.values())
    description = _description(folder, refused, problems)
    digests = _digests(description, problems)
    texts: dict[str, bytes] = {}
    weights: Stamp | None = None
    for name, digest in digests.items():
        path = locate(folder, name)
        if path in refused:
            continue
        if not path.is_file():
            problems.append(f"{name} is missing, the folder is half-written: run again")
            continue
        if name == MODEL:
            with path.open("rb") as file:
                weights = stamp(file)
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    problems.append(_changed(name))
            continue
        data = _text(path, problems)
        if data is None:
            continue
        if sha256(data) != digest:
            problems.append(_changed(name))
        else:
            texts[name] = data
    parsed = {name: _parse(name, data, problems) for name, data in texts.items()}
    if problems:
        raise RunFolderError([f"{folder}: {problem}" for problem in problems])
    return Content(
        description=description,
        config=parsed[CONFIG],
        schema=parsed[SCHEMA],
        genotype_json=texts[GENOTYPE].decode() if GENOTYPE in texts else None,
        metrics=parsed.get(METRICS),
        evaluation=None if folder / EVALUATION in refused else _evaluation(folder / EVALUATION),
        table_json=texts[TABLE].decode() if TABLE in texts else None,
        report=parsed.get(REPORT),
        model_stamp=weights,
    )


def _evaluation(path: Path) -> Mapping[str, Any] | None:
    """What `evaluate` wrote; nothing where that is damaged, for it is made again by asking."""
    try:
        data = _text(path, [])
        return None if data is None else from_json(data)
    except (OSError, ValueError):
        return None


def _text(path: Path, problems: list[str]) -> bytes | None:
    """A text's bytes, unless there are more than any run writes."""
    size = path.stat().st_size
    if size > MAX_TEXT:
        problems.append(f"{path.name} has {size:,} bytes, more than any run writes: remove it")
        return None
    return path.read_bytes()


def _changed(name: str) -> str:
    return f"{name} was changed after the run wrote it: restore it, or run again"


def _description(folder: Path, refused: Mapping[Path, str], problems: list[str]) -> dict[str, Any]:
    path = locate(folder, DESCRIPTION)
    if path in refused:
        return {}
    data = _text(path, problems)
    if data is None:
        return {}
    try:
        description = from_json(data)
    except ValueError as error:
        problems.append(f"{DESCRIPTION} cannot be read ({error}): restore it, or run again")
        return {}
    found = description.get("format")
    if type(found) is int and found > FORMAT:
        raise RunFolderError(
            f"{folder}: was written by polymix {str(description.get('polymix'))[:20]}, "
            f"this is {polymix_version()}: update polymix"
        )
    if description.get("seal") != _seal(description):
        problems.append(_changed(DESCRIPTION))
        return {}
    if found != FORMAT or type(found) is not int:
        problems.append(f"{DESCRIPTION} names no format: restore it, or run again")
    return description


def _digests(description: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    """The sealed files' digests; the names are polymix's own, so that none leads elsewhere."""
    if not description:
        return {}
    files = description.get("files")
    named = set(files) if isinstance(files, dict) else set()
    named -= set(OF_TABLE) if named.issuperset(OF_TABLE) else set()
    if not isinstance(files, dict) or named not in (set(ALWAYS), {*ALWAYS, *OF_MODEL}):
        problems.append(f"{DESCRIPTION} does not name the files that belong to a run")
        return {}
    return {name: str(files[name]) for name in (*ALWAYS, *OF_MODEL, *OF_TABLE) if name in files}


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: of aliases, they unfold to more than any memory holds; we write none."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has YAML aliases")
        return super().compose_node(parent, index)


def _parse(name: str, data: bytes, problems: list[str]) -> Any:
    try:
        if name == CONFIG:
            config = yaml.load(data, _PlainLoader)
            if not isinstance(config, dict):
                raise ValueError("not a mapping")
            return config
        if name == SCHEMA:
            return Schema.from_json(data.decode(), SCHEMA)
        return from_json(data)
    except DataError as error:
        problems.extend(error.problems)
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        problems.append(f"{name} cannot be read ({reason}): restore it, or run again")
    return None
