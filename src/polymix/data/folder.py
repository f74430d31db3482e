"""A dataset's files: what they must hold, read with care."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polymix.data.check import CHUNK
from polymix.data.schema import Schema, Target, Task
from polymix.errors import DataError

FORMAT = 2


def read_about(path: Path) -> dict[str, Any]:
    """What `dataset.json` says.

    Raises:
        DataError: it is missing, is no dataset's, was changed, or is of another format.
    """
    try:
        about = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a dataset: {error}") from None
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{path} has dataset format {found!r}, this version reads {FORMAT}: "
            "build it again, or update polymix"
        )
    kinds = {"name": str, "rows": int, "fingerprint": str, "files": dict}
    problems = [
        f"{path / 'dataset.json'}: '{key}' is missing, or no {kind.__name__}"
        for key, kind in kinds.items()
        if type(about.get(key)) is not kind
    ]
    if not problems and any(Path(name).name != name for name in about["files"]):
        problems = [f"{path / 'dataset.json'} names files outside of its folder"]
    if not problems and about.get("seal") != _seal(about):
        problems = [f"{path / 'dataset.json'} is not what was written: it was changed since"]
    if problems:
        raise DataError(problems)
    return dict(about)


def write_about(path: Path, about: Mapping[str, Any]) -> None:
    """Write `dataset.json`, with a digest of its own."""
    text = json.dumps({**about, "seal": _seal(about)}, indent=2)
    (path / "dataset.json").write_text(text, encoding="utf-8")


def _seal(about: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in about.items() if name != "seal"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def target_layout(target: Target, rows: int) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of `rows` targets."""
    if target.task is Task.MULTILABEL:
        return (rows, target.outputs), "float32"
    # A time or an amount of money has more digits than float32 holds.
    return (rows,), "float64" if target.task is Task.REGRESSION else "int64"


def array_layout(schema: Schema, rows: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every array of so many rows, by its file's name."""
    return {
        **{m.name: ((rows, *m.shape), str(m.dtype)) for m in schema.modalities},
        "present": ((rows, len(schema.names)), "bool"),
        "target": target_layout(schema.target, rows),
        "split": ((rows,), "uint8"),
    }


def map_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Map an array copy-on-write (torch wants writable memory; the file never changes)."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}") from None
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise DataError(
            f"{path}: the schema says {shape} {dtype}, the file holds {array.shape} {array.dtype}"
        )
    return array


def fingerprint(schema: Schema, parts: list[np.ndarray]) -> str:
    """Sixteen hex digits that stand for a schema and every byte of the arrays."""
    digest = hashlib.sha256(schema.to_json().encode())
    for part in parts:
        digest.update(f"{part.dtype}{part.shape}".encode())
        for start in range(0, len(part), CHUNK):
            digest.update(np.ascontiguousarray(part[start : start + CHUNK]).tobytes())
    return digest.hexdigest()[:16]
