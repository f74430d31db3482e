"""The run folder: all that a run leaves; opened only when it is whole, never running its code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import torch
import yaml
from filelock import FileLock, Timeout

from polymix.data.schema import Schema
from polymix.errors import RunFolderError
from polymix.store import integrity as seals
from polymix.store import weights as codec
from polymix.store.files import (
    from_json,
    is_temporary,
    make_folder,
    sha256,
    to_json,
    write_atomic,
)
from polymix.store.integrity import CONFIG, DESCRIPTION, GENOTYPE, METRICS, MODEL, SCHEMA, Content

_LOCK = ".lock"


class RunFolder:
    """An open run folder; made by `create` and `open`, a context manager where it is written.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, content: Content, lock: FileLock | None) -> None:
        self.path = path
        self._content = content
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        schema: Schema,
        description: Mapping[str, Any],
        of_table: Mapping[str, bytes] | None = None,
    ) -> RunFolder:
        """Make a run folder, and hold it for writing.

        Args:
            path: where; must not exist, or be empty.
            config: everything resolved, plain values only.
            schema: the data's.
            description: versions, machine, seed, data fingerprint; `status` is set here.
            of_table: `seals.OF_TABLE` by name, where the data are a table.

        Raises:
            RunFolderError: there is something already, or it cannot be written.
        """
        path = Path(path)
        with _as_run_folder_error(path):
            if path.exists() and not path.is_dir():
                raise RunFolderError(
                    f"{path}: is a file, not a folder: name another with --run-dir"
                )
            if path.is_dir() and any(path.iterdir()):
                raise RunFolderError(
                    f"{path}: exists: `polymix resume {path}` goes on with it, or name another "
                    "with --run-dir"
                )
            files = {
                CONFIG: _yaml(config),
                SCHEMA: to_json(schema.model_dump(mode="json")),
                **(of_table or {}),
            }
            said = {
                "status": "running",
                "polymix": seals.polymix_version(),
                "run": uuid4().hex,
                **description,
                "format": seals.FORMAT,
                "files": {name: sha256(data) for name, data in files.items()},
            }
            files[DESCRIPTION] = seals.sealed(said)
            make_folder(path, files)
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: Path | str, *, write: bool = False) -> RunFolder:
        """Open a run folder, checked from end to end.

        Args:
            path: where it is.
            write: hold it, so that no other process writes; what a crash left is tidied up.

        Raises:
            RunFolderError: with everything that is wrong with it.
        """
        path = Path(path)
        with _as_run_folder_error(path):
            folder = cls(path, seals.read(path), None)
        return folder.hold() if write else folder

    def hold(self) -> Self:
        """Hold it until `close`, so that no other process writes; what a crash left is tidied up.

        Raises:
            RunFolderError: another process holds it, or it cannot be read any more.
        """
        path = self.path
        with _as_run_folder_error(path):
            lock = FileLock(path / _LOCK, thread_local=False)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise RunFolderError(f"{path}: another polymix process is using it") from None
            try:
                if seals.state(path) != self._content.seen:
                    self._content = seals.read(path)  # as it is now that nobody else writes
                seals.finish_interrupted_write(path)
                for leftover in filter(is_temporary, path.iterdir()):
                    leftover.unlink(missing_ok=True)
            except BaseException:
                lock.release()
                raise
            self._lock = lock
            return self

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ----------------------------------------------------------------- reading

    @property
    def config(self) -> Mapping[str, Any]:
        """Everything resolved, as the run was started."""
        return self._content.config

    @property
    def schema(self) -> Schema:
        """The data's schema."""
        return self._content.schema

    @property
    def description(self) -> Mapping[str, Any]:
        """Versions, machine, seed, data fingerprint, time used."""
        return self._content.description

    @property
    def status(self) -> str:
        """`running` or `finished`."""
        return str(self.description.get("status"))

    @property
    def run(self) -> str | None:
        """What stands for the run, and binds its ledger to it; none in folders of before."""
        found = self.description.get("run")
        return None if found is None else str(found)

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is, unless it is a database elsewhere."""
        return self.path / seals.LEDGER

    @property
    def has_model(self) -> bool:
        """Whether there is a trained model, the best so far."""
        return self._content.genotype_json is not None

    @property
    def genotype_json(self) -> str:
        """The model's genotype; for `parse_genotype`.

        Raises:
            RunFolderError: there is no model yet.
        """
        if self._content.genotype_json is None:
            raise RunFolderError(f"{self.path}: has no trained model yet")
        return self._content.genotype_json

    @property
    def table_json(self) -> str | None:
        """How the run's table was read, for `TableRecipe.from_json`; none where it had none."""
        return self._content.table_json

    @property
    def data_report(self) -> Mapping[str, Any] | None:
        """What was found in the run's table; none where it had none."""
        return self._content.report

    @property
    def metrics(self) -> Mapping[str, Any] | None:
        """The model's validation metrics; none before there is one."""
        return self._content.metrics

    @property
    def evaluation(self) -> Mapping[str, Any] | None:
        """What `evaluate` wrote, if it did."""
        return self._content.evaluation

    @property
    def tensor_count(self) -> int:
        """How many tensors the model's weights are, by their header.

        Raises:
            RunFolderError: there is no model, or its weights are not what they should be.
        """
        return len(self._header())

    def _header(
        self, expected: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Each tensor's shape, by the header alone."""
        if not self.has_model:
            raise RunFolderError(f"{self.path}: has no trained model yet")
        with _as_run_folder_error(self.path):
            path = seals.locate(self.path, MODEL)
            try:
                shapes = codec.header_shapes(path)
            except ValueError as error:
                raise RunFolderError(f"{path}: {error}") from None
            problems = [] if expected is None else codec.shape_problems(shapes, expected)
            if problems:
                raise RunFolderError([f"{path}: {problem}" for problem in problems])
            return shapes

    def weights(
        self, expected: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, torch.Tensor]:
        """The model's weights; their header is checked before any tensor is made.

        Args:
            expected: each tensor's shape, as the built model has them.

        Raises:
            RunFolderError: there is no model, or its weights are not what they should be.
        """
        self._header(expected)
        with _as_run_folder_error(self.path):
            path = seals.locate(self.path, MODEL)
            with path.open("rb") as file:
                known = seals.stamp(file) == self._content.model_stamp
                data = file.read()
            if not known and sha256(data) != self.description["files"][MODEL]:
                raise RunFolderError(f"{path}: was changed since the run folder was opened")
            return codec.unpack(data, expected)

    # ----------------------------------------------------------------- writing

    def finish_model(
        self,
        genotype_json: str,
        weights: Mapping[str, torch.Tensor],
        metrics: Mapping[str, Any],
        **fields: Any,
    ) -> None:
        """Put a trained model in place of the one that was there, all of it or nothing.

        Args:
            genotype_json: `Genotype.to_json()`.
            weights: the model's tensors.
            metrics: on validation rows.
            fields: of the description, changed in the same step.

        Raises:
            RunFolderError: it cannot be written; the model that was there still is.
        """
        self._writable(fields)
        with _as_run_folder_error(self.path):
            files = {
                GENOTYPE: to_json(from_json(genotype_json.encode())),
                MODEL: codec.pack(weights),
                METRICS: to_json(metrics),
            }
            digests = {name: sha256(data) for name, data in files.items()}
            said = {**self.description, **fields}
            said["files"] = {**self.description["files"], **digests}
            files[DESCRIPTION] = seals.sealed(said)
            seals.stage(self.path, files)
            seals.finish_interrupted_write(self.path)
            self._content = replace(
                self._content,
                description=from_json(files[DESCRIPTION]),
                genotype_json=files[GENOTYPE].decode(),
                metrics=from_json(files[METRICS]),
                model_stamp=None,
            )

    def update_description(self, **fields: Any) -> None:
        """Change fields of the description, e.g. `status="finished"`.

        Raises:
            RunFolderError: they cannot be written.
        """
        self._writable(fields)
        with _as_run_folder_error(self.path):
            seals.finish_interrupted_write(self.path)
            data = seals.sealed({**self.description, **fields})
            write_atomic(self.path / DESCRIPTION, data)
            self._content = replace(self._content, description=from_json(data))

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Write what `evaluate` found; needs no hold on the folder.

        Raises:
            RunFolderError: it cannot be written.
        """
        with _as_run_folder_error(self.path):
            data = to_json(evaluation)
            write_atomic(self.path / seals.EVALUATION, data)
            self._content = replace(self._content, evaluation=from_json(data))

    def _writable(self, fields: Mapping[str, Any]) -> None:
        if self._lock is None:
            raise RunFolderError(f"{self.path}: was opened for reading")
        reserved = [name for name in seals.RESERVED if name in fields]
        if reserved:
            raise RunFolderError(f"{self.path}: {', '.join(reserved)} cannot be set")


@contextmanager
def _as_run_folder_error(path: Path) -> Iterator[None]:
    """Tell what the system or a value refused as a `RunFolderError`."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{error.filename or path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}") from error


def _yaml(config: Mapping[str, Any]) -> bytes:
    """The configuration as YAML that reads back as it is."""
    try:
        plain = json.loads(json.dumps(dict(config)))
    except (TypeError, RecursionError) as error:
        raise ValueError(
            f"the configuration has something that is no plain value: {error}"
        ) from None
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode()
    if yaml.safe_load(text) != plain:
        raise ValueError("the configuration cannot be written as YAML")
    return text
