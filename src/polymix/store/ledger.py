"""The ledger: every trial ever made for a run's data, what was decided, and checkpoints.

Asking for a trial that is there costs nothing, and that is how a run is resumed: the same seed
asks the same questions and finds the answers here. Everything is written in whole transactions,
so that a run killed at any moment leaves each cohort either there or not. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from polymix.errors import LedgerError
from polymix.records import EpochRecord, Proposal, Role, Status, Trial
from polymix.store.blobs import (
    blob_of,
    drop_blob,
    drop_checkpoint,
    has_blob,
    keep,
    packed,
    packed_array,
    read_array,
    read_blob,
    read_kept,
    to_tensors,
    traceback_of,
    write_blob,
    write_checkpoint,
)
from polymix.store.database import Database, connect
from polymix.store.rows import (
    OWN,
    REUSED,
    LedgerRow,
    clean,
    dump_pairs,
    from_row,
    load_pairs,
    now,
    to_ledger_row,
    to_row,
    with_digest,
    without_digest,
)
from polymix.store.tables import checkpoints, clock, decisions, epochs, meta, trials

JSON = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What a decision and a checkpoint's `meta` may be."""


class Ledger:
    """A run's ledger; several processes may have it open. Made by `Ledger.open`."""

    def __init__(self, database: Database, reuse: Sequence[Ledger] = ()) -> None:
        self._database = database
        self._reuse = tuple(reuse)

    @classmethod
    def open(
        cls,
        where: Path | str,
        reuse: Sequence[Path | str] = (),
        *,
        read_only: bool = False,
        run: str | None = None,
    ) -> Ledger:
        """Open a ledger, or make a new one.

        Args:
            where: a path to an SQLite file, or a database's URL (one database a run).
            reuse: ledgers, or run folders, of other runs whose trials may be taken over.
            read_only: it must be there, and nothing is written.
            run: what stands for the run; the ledger of another is refused. A new ledger, and one
                of before there were such, is then this run's.

        Raises:
            LedgerError: one of them is not a ledger, or a newer polymix's, or another run's.
        """
        with ExitStack() as undo:
            others = []
            for other in reuse:
                others.append(cls(connect(_ledger_of(other), read_only=True)))
                undo.callback(others[-1].close)
            database = connect(where, read_only=read_only)
            undo.callback(database.close)
            if run is not None:
                _bind(database, run, read_only)
            ledger = cls(database, others)
            undo.pop_all()
        return ledger

    def close(self) -> None:
        """Let go of the database, and of the reused ones."""
        self._database.close()
        for other in self._reuse:
            other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------ trials

    def get(self, key: str, proposal: Proposal, role: Role = Role.SEARCH) -> Trial | None:
        """The trial with that key, with its predictions; none if it was never made.

        A trial that only a reused ledger knows is copied here first, its weights included.

        Args:
            key: the question's key.
            proposal: the question; the trial's `proposal` is this very object.
            role: what the question is for, written down where a trial is taken over.
        """
        with self._database.read() as connection:
            row = _find(connection, key)
            if row is not None:
                return replace(
                    from_row(row, proposal), predictions=read_array(connection, row["predictions"])
                )
        for other in self._reuse:
            found = other._export(key)
            if found is None:
                continue
            row_there, kept = found
            if row_there["status"] != Status.DONE:
                continue  # what another run's clock or memory did not allow says nothing here
            columns = {name: row_there[name] for name in row_there if name != "id"}
            columns |= {"origin": REUSED, "role": role.value, "stage": clean(proposal.stage)}
            with self._database.write() as connection:
                if _find(connection, key) is None:  # another process may have been faster
                    _insert(connection, [columns], kept)
            return self.get(key, proposal, role)
        return None

    def put(
        self,
        entries: Sequence[tuple[Trial, Mapping[str, torch.Tensor] | None]],
        role: Role = Role.SEARCH,
    ) -> list[Trial]:
        """Write down trials made together, all or none, and drop their checkpoints.

        One that was lost to the system gives its place to the same trial made again.

        Args:
            entries: the trials, each with its trained weights if they are kept.
            role: what the trials were made for.

        Returns:
            The trials, their `weights` naming what was kept.

        Raises:
            LedgerError: a trial with one of the keys is there already.
        """
        kept: dict[str, bytes] = {}
        rows, done = [], []
        for trial, tensors in entries:
            predictions = None
            if trial.error is not None:
                trial = replace(trial, error=clean(trial.error))
            if tensors is not None:
                trial = replace(trial, weights=keep(kept, packed(tensors)))
            if trial.predictions is not None:
                predictions = keep(kept, packed_array(trial.predictions))
            rows.append(to_row(trial, role, predictions))
            done.append(trial)
        keys = [trial.key for trial in done]
        try:
            with self._database.write() as connection:
                found = {key: _find(connection, key) for key in keys}
                lost = {k for k, row in found.items() if row and row["status"] == Status.LOST}
                there = [key for key, row in found.items() if row is not None and key not in lost]
                twice = sorted({key for key in keys if keys.count(key) > 1})
                if there or twice:
                    raise LedgerError(
                        [f"trial {key!r} is in the ledger already" for key in there]
                        + [f"trial {key!r} was given twice" for key in twice]
                    )
                _insert(connection, [row for row in rows if row["key"] not in lost], kept)
                for row in rows:
                    if row["key"] in lost:
                        connection.execute(update(trials).where(trials.c.key == row["key"]), row)
                        drop_blob(connection, traceback_of(row["key"]))
                for trial in done:
                    drop_checkpoint(connection, trial.key)
                    if trial.traceback is not None:
                        write_blob(connection, traceback_of(trial.key), _bytes(trial.traceback))
        except LedgerError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise LedgerError(f"one of the trials {keys} is in the ledger already") from error
            raise
        return done

    def rows(self) -> list[LedgerRow]:
        """All trials with how they came here, in the order in which they were written down."""
        with self._database.read() as connection:
            found = connection.execute(select(trials).order_by(trials.c.id)).mappings().all()
        return [to_ledger_row(row) for row in found]

    def trials(self) -> list[Trial]:
        """All trials, without predictions, in the order in which they were written down."""
        return [row.trial for row in self.rows()]

    def predictions(self, key: str) -> np.ndarray | None:
        """A trial's predictions on the validation rows, if it is there and has any."""
        with self._database.read() as connection:
            row = _find(connection, key)
            return read_array(connection, row["predictions"]) if row is not None else None

    def traceback(self, key: str) -> str | None:
        """The traceback of a failed trial, if it is there and raised an exception."""
        with self._database.read() as connection:
            data = read_blob(connection, traceback_of(key))
        return None if data is None else data.decode("utf-8", "replace")

    def weights(self, digest: str) -> dict[str, torch.Tensor]:
        """The kept weights of that digest.

        Raises:
            LedgerError: they are not there, or not what they were.
        """
        with self._database.read() as connection:
            return to_tensors(read_kept(connection, digest), digest)

    def keep_weights(self, tensors: Mapping[str, torch.Tensor]) -> str:
        """Keep weights that no trial made, e.g. a supernet's; once, however often asked.

        Returns:
            Their digest, for `Proposal.init`.
        """
        kept: dict[str, bytes] = {}
        name = keep(kept, packed(tensors))
        with self._database.write() as connection:
            _insert(connection, [], kept)
        return name

    def spent_cpu_s(self) -> float:
        """CPU seconds of the trials made here; reused ones cost nothing."""
        asked = select(func.sum(trials.c.cpu_s)).where(trials.c.origin == OWN)
        with self._database.read() as connection:
            return float(connection.execute(asked).scalar() or 0.0)

    def _export(self, key: str) -> tuple[RowMapping, dict[str, bytes]] | None:
        """A trial's row and its blobs, for another ledger."""
        with self._database.read() as connection:
            row = _find(connection, key)
            if row is None:
                return None
            names = [row[name] for name in ("weights", "predictions") if row[name] is not None]
            return row, {name: read_kept(connection, name) for name in names}

    # --------------------------------------------------------------- decisions

    def record_decision(self, name: str, value: JSON) -> Any:
        """Record a decision once; what was recorded first is returned ever after."""
        text = _dump(value, f"decision '{name}'")
        asked = select(decisions.c.value).where(decisions.c.name == name)
        try:
            with self._database.write() as connection:
                found = connection.execute(asked).scalar()
                if found is None:
                    kept = with_digest(text, f"{name}\n{text}")
                    row = {"name": name, "value": kept, "created_at": now()}
                    connection.execute(insert(decisions), row)
        except LedgerError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            with self._database.read() as connection:  # another process was faster
                found = connection.execute(asked).scalar_one()
        return _load(text, f"decision '{name}'") if found is None else _decided(name, found)

    def decision(self, name: str) -> Any:
        """The decision recorded under that name, if any."""
        asked = select(decisions.c.value).where(decisions.c.name == name)
        with self._database.read() as connection:
            found = connection.execute(asked).scalar()
        return None if found is None else _decided(name, found)

    # ------------------------------------------------------------- checkpoints

    def save_checkpoint(
        self, name: str, tensors: Mapping[str, torch.Tensor], meta: JSON = None
    ) -> None:
        """Keep a state under a name, in place of the one that was there."""
        data, text = packed(tensors), _dump(meta, f"checkpoint '{name}'")
        with self._database.write() as connection:
            write_checkpoint(connection, name, data, text)

    def load_checkpoint(self, name: str) -> tuple[dict[str, torch.Tensor], Any] | None:
        """The state kept under that name, if any.

        Raises:
            LedgerError: it is not what it was.
        """
        asked = select(checkpoints).where(checkpoints.c.name == name)
        with self._database.read() as connection:
            row = connection.execute(asked).mappings().first()
            if row is None:
                return None
            data = read_kept(connection, blob_of(name), row["digest"])
        return to_tensors(data, name), _load(row["meta"], f"checkpoint '{name}'")

    def drop_checkpoint(self, name: str) -> None:
        """Forget the state kept under that name, if any."""
        with self._database.write() as connection:
            drop_checkpoint(connection, name)

    def put_epoch(
        self,
        name: str,
        record: EpochRecord,
        tensors: Mapping[str, torch.Tensor],
        meta: JSON = None,
    ) -> None:
        """Write down an epoch of a one-shot strategy, and its state with it.

        Raises:
            LedgerError: that epoch is there already.
        """
        data, text = packed(tensors), _dump(meta, f"checkpoint '{name}'")
        numbers = dump_pairs(record.numbers)
        numbers = with_digest(numbers, f"{name} {record.epoch}\n{numbers}")
        row = {"name": name, "epoch": record.epoch, "numbers": numbers}
        same = (epochs.c.name == name) & (epochs.c.epoch == record.epoch)
        with self._database.write() as connection:
            if connection.execute(select(epochs.c.epoch).where(same)).first() is not None:
                raise LedgerError(f"epoch {record.epoch} of '{name}' is in the ledger already")
            connection.execute(insert(epochs), row)
            write_checkpoint(connection, name, data, text)

    def epochs(self, name: str) -> list[EpochRecord]:
        """The epochs written down under that name, in order."""
        asked = select(epochs).where(epochs.c.name == name).order_by(epochs.c.epoch)
        with self._database.read() as connection:
            found = connection.execute(asked).mappings().all()
        try:
            return [_epoch(row) for row in found]
        except (ValueError, TypeError) as error:
            raise LedgerError(f"ledger: epochs of '{name}' cannot be read: {error}") from error

    # ------------------------------------------------------------------- clock

    def used_seconds(self) -> float:
        """Seconds on the clock that the run has used, over all its resumptions."""
        with self._database.read() as connection:
            return float(connection.execute(select(func.sum(clock.c.seconds))).scalar() or 0.0)

    def add_used(self, seconds: float) -> None:
        """Count further seconds as used."""
        with self._database.write() as connection:
            connection.execute(insert(clock), {"seconds": float(seconds)})


def _ledger_of(where: Path | str) -> Path | str:
    """The ledger of a run folder, or what was given."""
    if isinstance(where, str) and "://" in where:
        return where
    path = Path(where)
    return path / "ledger.sqlite" if path.is_dir() else path


def _bind(database: Database, run: str, read_only: bool) -> None:
    """Make sure that a ledger is a run's; from now on it is no other's."""
    asked = select(meta.c.value).where(meta.c.name == "run")
    with database.read() as connection:
        found = connection.execute(asked).scalar()
    if found is None and not read_only:
        with database.write() as connection:
            found = connection.execute(asked).scalar()
            if found is None:
                connection.execute(insert(meta), {"name": "run", "value": run})
    if found not in (None, run):
        raise LedgerError(
            f"{database.name}: is another run's ledger: bring back this run's, or take over the "
            "other's trials in a new run with --reuse"
        )


def _find(connection: Connection, key: str) -> RowMapping | None:
    return connection.execute(select(trials).where(trials.c.key == key)).mappings().first()


def _insert(
    connection: Connection, rows: Sequence[Mapping[str, Any]], kept: Mapping[str, bytes]
) -> None:
    for name, data in kept.items():
        if not has_blob(connection, name):
            write_blob(connection, name, data)
    if rows:
        connection.execute(insert(trials), [dict(row) for row in rows])


def _bytes(text: str) -> bytes:
    """A traceback as bytes, of which a blob has one at least."""
    return clean(text).encode() or b"\n"


def _dump(value: JSON, what: str) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerError(f"{what} is not JSON: {error}") from None


def _decided(name: str, kept: str) -> Any:
    """A decision from the text that is kept of it."""
    try:
        text = without_digest(kept, lambda plain: f"{name}\n{plain}")
    except ValueError as error:
        raise LedgerError(f"ledger: decision '{name}' cannot be read: {error}") from None
    return _load(text, f"decision '{name}'")


def _epoch(row: RowMapping) -> EpochRecord:
    """An epoch from its row."""
    text = without_digest(row["numbers"], lambda plain: f"{row['name']} {row['epoch']}\n{plain}")
    return EpochRecord(int(row["epoch"]), load_pairs(text))


def _load(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerError(f"ledger: {what} cannot be read: {error}") from None
