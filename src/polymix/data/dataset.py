"""The rows on disk: one memory-mapped array per modality, presence masks, targets, the split.

    <folder>/
      dataset.json      format, name, rows, how it was built, the fingerprint of all bytes
      schema.json
      <modality>.npy    (N, *shape), raw dtype
      present.npy       (N, k) bool
      target.npy        (N,) or (N, L)
      split.npy         (N,) uint8: 0 train, 1 validation, 2 test

A dataset is written beside its place and moved there when whole, so that a folder that
exists is a dataset that is complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.lib.format import open_memmap

from polymix.data.sample import draw_sample
from polymix.data.schema import Kind, Modality, Schema, Statistics, Target, Task
from polymix.data.split import Split
from polymix.errors import DataError

FORMAT = 1
CHUNK = 2048


@dataclass(frozen=True)
class Dataset:
    """Rows as arrays; nothing is in memory until it is read.

    Attributes:
        name: what the user calls it.
        schema: the modalities and the target.
        arrays: one `(N, *shape)` array per modality, in its raw dtype.
        present: `(N, k)` bool, columns in the schema's order.
        targets: `(N,)` int64 classes, `(N, L)` float32 label sets or `(N,)` float32 numbers.
        split: which rows are for what.
        fingerprint: sixteen hex digits that stand for every byte.
        path: the folder it was opened from, if any.
    """

    name: str
    schema: Schema
    arrays: Mapping[str, np.ndarray]
    present: np.ndarray
    targets: np.ndarray
    split: Split
    fingerprint: str
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Open a dataset's folder.

        Raises:
            DataError: it is not a dataset, is of a newer format, or its arrays disagree with
                its schema; every problem is listed.
        """
        try:
            about = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a dataset: {error}") from None
        if about.get("format") != FORMAT:
            raise DataError(
                f"{path} has dataset format {about.get('format')!r}, this version reads {FORMAT}: "
                "build it again, or update polymix"
            )
        schema = Schema.load(path / "schema.json")
        rows = int(about["rows"])
        expected = {m.name: ((rows, *m.shape), m.dtype) for m in schema.modalities}
        arrays = {n: _map(path / f"{n}.npy", *expected[n]) for n in schema.names}
        present = np.array(_map(path / "present.npy", (rows, len(schema.names)), "bool"))
        shape, dtype = target_layout(schema.target, rows)
        targets = np.array(_map(path / "target.npy", shape, dtype))
        codes = np.array(_map(path / "split.npy", (rows,), "uint8"))
        return cls(
            name=str(about["name"]),
            schema=schema,
            arrays=arrays,
            present=present,
            targets=targets,
            split=Split.from_codes(codes),
            fingerprint=str(about["fingerprint"]),
            path=path,
        )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        schema: Schema,
        arrays: Mapping[str, np.ndarray],
        targets: np.ndarray,
        codes: np.ndarray,
        present: np.ndarray | None = None,
    ) -> Dataset:
        """A dataset in memory, its statistics fitted on the training rows.

        Args:
            name: what to call it.
            schema: the modalities and the target; statistics in it are replaced.
            arrays: one `(N, *shape)` array per modality.
            targets: see the class.
            codes: split codes, `(N,)`.
            present: `(N, k)` bool; all present where not given.

        Raises:
            DataError: the shapes disagree; every problem is listed.
        """
        rows = len(targets)
        mask = np.ones((rows, len(schema.names)), bool) if present is None else present
        shape, dtype = target_layout(schema.target, rows)
        problems = [
            f"modality '{m.name}': the schema says {(rows, *m.shape)} {m.dtype}, "
            f"but got {arrays[m.name].shape} {arrays[m.name].dtype}"
            if m.name in arrays
            else f"modality '{m.name}': no array"
            for m in schema.modalities
            if m.name not in arrays
            or arrays[m.name].shape != (rows, *m.shape)
            or arrays[m.name].dtype != np.dtype(m.dtype)
        ]
        if targets.shape != shape:
            problems.append(f"target: {shape} expected, but got {targets.shape}")
        if mask.shape != (rows, len(schema.names)):
            problems.append(f"present: {(rows, len(schema.names))} expected, got {mask.shape}")
        if problems:
            raise DataError(problems)
        split = Split.from_codes(codes)
        schema = with_statistics(schema, arrays, mask, targets, split.train)
        parts = [*(arrays[n] for n in schema.names), mask, targets.astype(dtype), codes]
        return cls(
            name=name,
            schema=schema,
            arrays=dict(arrays),
            present=mask,
            targets=targets.astype(dtype),
            split=split,
            fingerprint=_fingerprint(schema, parts),
        )

    def with_train_rows(self, rows: int, seed: int) -> Dataset:
        """The same data with `rows` of its training rows; validation and test are untouched.

        The statistics are those of the rows that stay.

        Raises:
            DataError: there are fewer training rows than `rows`.
        """
        train = self.split.train
        if rows > len(train):
            raise DataError(
                f"--rows {rows}: '{self.name}' has {len(train)} training rows; "
                f"leave the option out to use all"
            )
        if rows == len(train):
            return self
        chosen = draw_sample(self.targets, train, rows, seed).rows
        schema = with_statistics(self.schema, self.arrays, self.present, self.targets, chosen)
        return replace(self, split=replace(self.split, train=chosen), schema=schema)


class DatasetWriter:
    """Writes a dataset's folder, row by row or chunk by chunk; a failure leaves nothing.

    >>> with DatasetWriter(path, "digits", schema, rows) as writer:   # doctest: +SKIP
    ...     writer.arrays["image"][:] = images
    ...     writer.targets[:] = labels
    ...     writer.codes[:] = codes
    """

    def __init__(
        self,
        path: Path,
        name: str,
        schema: Schema,
        rows: int,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare to write.

        Args:
            path: the folder to make.
            name: what the user calls the dataset.
            schema: the modalities and the target; statistics are fitted at the end.
            rows: how many rows there will be.
            settings: how it was built, kept in `dataset.json`.

        Raises:
            DataError: `path` exists, or its disk is too full.
        """
        if path.exists():
            raise DataError(f"{path} exists: remove it to build the dataset again")
        self.path, self.name, self.schema, self.rows = path, name, schema, rows
        self.settings = dict(settings or {})
        path.parent.mkdir(parents=True, exist_ok=True)
        needed = rows * sum(
            math.prod(m.shape) * np.dtype(m.dtype).itemsize for m in schema.modalities
        )
        # A mapped file that outgrows the disk kills the process, so that it is asked beforehand.
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise DataError(f"{path} needs {needed:,} bytes, but its disk has {free:,}: free some")
        self._draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            self.arrays: dict[str, np.ndarray] = {
                m.name: self._make(m.name, (rows, *m.shape), m.dtype) for m in schema.modalities
            }
            self.present = self._make("present", (rows, len(schema.names)), "bool")
            self.present[:] = True
            self.targets = self._make("target", *target_layout(schema.target, rows))
            self.codes = self._make("split", (rows,), "uint8")
        except BaseException:
            shutil.rmtree(self._draft, ignore_errors=True)
            raise

    def _make(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        file = self._draft / f"{name}.npy"
        array: np.ndarray = open_memmap(file, "w+", np.dtype(dtype), shape)
        return array

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._draft, ignore_errors=True)

    def _finish(self) -> None:
        split = Split.from_codes(np.asarray(self.codes))
        schema = with_statistics(self.schema, self.arrays, self.present, self.targets, split.train)
        parts = [*self.arrays.values(), self.present, self.targets, self.codes]
        about = {
            "format": FORMAT,
            "name": self.name,
            "rows": self.rows,
            "settings": self.settings,
            "fingerprint": _fingerprint(schema, parts),
        }
        for part in parts:
            part.flush()  # type: ignore[attr-defined]
        (self._draft / "schema.json").write_text(schema.to_json(), encoding="utf-8")
        (self._draft / "dataset.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
        self._draft.chmod(0o755)
        try:
            self._draft.rename(self.path)
        except OSError:
            # Another process finished the same dataset first: theirs has the same bytes.
            if not (self.path / "dataset.json").is_file():
                raise


def target_layout(target: Target, rows: int) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of `rows` targets."""
    if target.task is Task.MULTILABEL:
        return (rows, target.outputs), "float32"
    return (rows,), "float32" if target.task is Task.REGRESSION else "int64"


def with_statistics(
    schema: Schema,
    arrays: Mapping[str, np.ndarray],
    present: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
) -> Schema:
    """The schema with statistics of the training rows, and which modalities they may lack."""
    modalities = []
    for column, modality in enumerate(schema.modalities):
        rows = train[present[train, column]]
        statistics = (
            _statistics(modality, arrays[modality.name], rows)
            if modality.kind is not Kind.TEXT and len(rows)
            else None
        )
        changes = {"statistics": statistics, "optional": len(rows) < len(train)}
        modalities.append(modality.model_copy(update=changes))
    target = schema.target
    if target.task is Task.REGRESSION:
        values = np.asarray(targets[train], np.float64)
        fitted = Statistics(mean=(float(values.mean()),), std=(float(values.std()) or 1.0,))
        target = target.model_copy(update={"statistics": fitted})
    return schema.model_copy(update={"modalities": tuple(modalities), "target": target})


def _statistics(modality: Modality, array: np.ndarray, rows: np.ndarray) -> Statistics:
    last = modality.kind not in (Kind.IMAGE, Kind.AUDIO)
    channels = modality.channels
    total, square, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(rows), CHUNK):
        chunk = array[rows[start : start + CHUNK]].astype(np.float64)
        flat = np.moveaxis(chunk, -1 if last else 1, -1).reshape(-1, channels)
        total += flat.sum(0)
        square += np.einsum("nc,nc->c", flat, flat)
        count += len(flat)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    std[std < 1e-6 * np.maximum(np.abs(mean), 1.0)] = 1.0
    return Statistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _map(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
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


def _fingerprint(schema: Schema, parts: list[np.ndarray]) -> str:
    digest = hashlib.sha256(schema.to_json().encode())
    for part in parts:
        digest.update(f"{part.dtype}{part.shape}".encode())
        for start in range(0, len(part), CHUNK):
            digest.update(np.ascontiguousarray(part[start : start + CHUNK]).tobytes())
    return digest.hexdigest()[:16]
