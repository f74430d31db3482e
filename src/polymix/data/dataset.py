"""The rows on disk: one memory-mapped array per modality, presence masks, targets, the split.

    <folder>/
      dataset.json      format, name, rows, how it was built, the fingerprint of all bytes,
                        and the digest of every other file: none is believed that was changed
      schema.json
      <modality>.npy    (N, *shape), raw dtype
      present.npy       (N, k) bool
      target.npy        (N,) or (N, L)
      split.npy         (N,) uint8: 0 train, 1 validation, 2 test

A dataset is written beside its place and moved there when whole, so that a folder that
exists is a dataset that is complete.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np

from polymix.data.arrays import create_array
from polymix.data.check import row_problems
from polymix.data.digests import changed, digests_of
from polymix.data.folder import (
    FORMAT,
    array_layout,
    fingerprint,
    map_array,
    read_about,
    target_layout,
    write_about,
)
from polymix.data.sample import draw_sample
from polymix.data.schema import Schema
from polymix.data.split import Split
from polymix.data.statistics import balanced_weights, with_statistics
from polymix.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """Rows as arrays; nothing is in memory until it is read.

    Attributes:
        name: what the user calls it.
        schema: the modalities and the target.
        arrays: one `(N, *shape)` array per modality, in its raw dtype.
        present: `(N, k)` bool, columns in the schema's order.
        targets: `(N,)` int64 classes, `(N, L)` float32 label sets or `(N,)` float64 numbers.
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
            DataError: it is not a dataset, is of another format, its files are not those that
                were written, or disagree with its schema; every problem is listed.
        """
        about = read_about(path)
        if problems := changed(path, about["files"]):
            raise DataError(problems)
        try:
            schema = Schema.load(path / "schema.json")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path / 'schema.json'} cannot be read: {error}") from None
        rows = about["rows"]
        found: dict[str, np.ndarray] = {}
        for name, (shape, dtype) in array_layout(schema, rows).items():
            try:
                found[name] = map_array(path / f"{name}.npy", shape, dtype)
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError(problems)
        return cls(
            name=about["name"],
            schema=schema,
            arrays={name: found[name] for name in schema.names},
            present=np.array(found["present"]),
            targets=np.array(found["target"]),
            split=Split.from_codes(np.array(found["split"]), _folds_of(path, rows)),
            fingerprint=about["fingerprint"],
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
        folds: np.ndarray | None = None,
    ) -> Dataset:
        """A dataset in memory, its statistics fitted on the training rows.

        Args:
            name: what to call it.
            schema: the modalities and the target; statistics in it are replaced.
            arrays: one `(N, *shape)` array per modality.
            targets: see the class.
            codes: split codes, `(N,)`.
            present: `(N, k)` bool; all present where not given.
            folds: `(N,)` fold of each row, where rows that are not test rows are to be compared
                out of fold.

        Raises:
            DataError: shapes disagree, or rows hold what they cannot; every problem is listed.
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
        if mask.shape != (rows, len(schema.names)) or mask.dtype != np.bool_:
            problems.append(
                f"present: {(rows, len(schema.names))} bool expected, "
                f"but got {mask.shape} {mask.dtype}"
            )
        if codes.shape != (rows,):
            problems.append(f"split: {(rows,)} codes expected, but got {codes.shape}")
        problems = problems or row_problems(schema, arrays, mask, targets)
        if problems:
            raise DataError(problems)
        split = Split.from_codes(codes, folds)
        schema = with_statistics(schema, arrays, mask, targets, split.train)
        parts = [*(arrays[n] for n in schema.names), mask, targets.astype(dtype), codes]
        return cls(
            name=name,
            schema=schema,
            arrays=dict(arrays),
            present=mask,
            targets=targets.astype(dtype),
            split=split,
            fingerprint=fingerprint(schema, parts),
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
        folds = self.split.folds
        if folds is not None:
            folds = folds[np.isin(self.split.development, [*chosen, *self.split.val])]
        schema = with_statistics(self.schema, self.arrays, self.present, self.targets, chosen)
        return replace(self, split=replace(self.split, train=chosen, folds=folds), schema=schema)

    def without_folds(self) -> Dataset:
        """The same data, compared on validation rows."""
        return replace(self, split=replace(self.split, folds=None))

    def with_balanced_classes(self) -> Dataset:
        """The same data, every class weighed in the loss by how rare it is in training rows.

        Raises:
            UsageError: the target has no classes.
        """
        target = self.schema.target
        weights = balanced_weights(target, self.targets[self.split.train])
        weighed = target.model_copy(update={"weights": weights})
        return replace(self, schema=self.schema.model_copy(update={"target": weighed}))


FOLDS = "folds"


def _folds_of(path: Path, rows: int) -> np.ndarray | None:
    file = path / f"{FOLDS}.npy"
    return np.array(map_array(file, (rows,), "int64")) if file.is_file() else None


class DatasetWriter:
    """Writes a dataset's folder, row by row or chunk by chunk; a failure leaves nothing.

    Attributes:
        beside: texts by file name, written into the folder with the rows.
        folds: the fold of each row, `(N,)`, where they are to be compared out of fold.

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
        self.beside: dict[str, str] = {}
        self.folds: np.ndarray | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        layout = array_layout(schema, rows)
        needed = sum(math.prod(s) * np.dtype(dtype).itemsize for s, dtype in layout.values())
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise DataError(f"{path} needs {needed:,} bytes, but its disk has {free:,}: free some")
        # Not by `tempfile`, whose folders take no notice of the umask.
        self._draft = path.parent / f".{path.name}-{uuid4().hex[:12]}"
        self._draft.mkdir()
        try:
            made: dict[str, np.ndarray] = {
                name: create_array(self._draft / f"{name}.npy", dtype, shape)
                for name, (shape, dtype) in layout.items()
            }
        except OSError as error:
            shutil.rmtree(self._draft, ignore_errors=True)
            raise DataError(
                f"{path} needs {needed:,} bytes, and could not have them "
                f"({error.strerror or error}): free some"
            ) from None
        except BaseException:
            shutil.rmtree(self._draft, ignore_errors=True)
            raise
        self.arrays = {name: made[name] for name in schema.names}
        self.present, self.targets, self.codes = made["present"], made["target"], made["split"]
        self.present[:] = True

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
        split = Split.from_codes(np.asarray(self.codes), self.folds)
        problems = row_problems(self.schema, self.arrays, self.present, self.targets)
        if problems:
            raise DataError(problems)
        schema = with_statistics(self.schema, self.arrays, self.present, self.targets, split.train)
        parts = [*self.arrays.values(), self.present, self.targets, self.codes]
        about: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "rows": self.rows,
            "settings": self.settings,
            "fingerprint": fingerprint(schema, parts),
        }
        for part in parts:
            part.flush()  # type: ignore[attr-defined]
        if self.folds is not None:
            np.save(self._draft / f"{FOLDS}.npy", self.folds.astype(np.int64))
        for name, text in self.beside.items():
            (self._draft / name).write_text(text, encoding="utf-8")
        (self._draft / "schema.json").write_text(schema.to_json(), encoding="utf-8")
        about["files"] = digests_of(self._draft, sorted(p.name for p in self._draft.iterdir()))
        write_about(self._draft, about)
        try:
            self._draft.rename(self.path)
        except OSError:
            # Another process finished the same dataset first: theirs has the same bytes.
            if not (self.path / "dataset.json").is_file():
                raise
