"""A ledger's database: opened only if it is one, read and written in transactions."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from polymix.errors import LedgerError, MissingExtraError
from polymix.store.tables import FORMAT, PART, meta, metadata

BUSY_S = 60
"""Seconds to wait for another process's transaction."""

_SECRET = re.compile("pass|pwd|secret|token|key|cred", re.IGNORECASE)

_COMPUTED = re.compile(r"\b(VIRTUAL|GENERATED|CHECK|DEFAULT|COLLATE|WHERE)\b|\bAS\s*\(")
"""What no column of ours has."""

_MAGIC = b"SQLite format 3\x00"


class Database:
    """Transactions on a ledger's database; whatever goes wrong in one is a `LedgerError`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self._reader = engine
        self._writer = engine.execution_options(polymix_writes=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent view."""
        with self._as_ledger_error(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed as a whole, or not at all."""
        with self._as_ledger_error(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of the database."""
        self._reader.dispose()

    @contextmanager
    def _as_ledger_error(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            reason = getattr(error, "orig", None) or error
            raise LedgerError(f"{self.name}: the ledger cannot be used: {reason}") from error
        except (OverflowError, UnicodeError) as error:
            raise LedgerError(f"{self.name}: the ledger cannot hold this: {error}") from error


def connect(where: Path | str, *, read_only: bool = False) -> Database:
    """Open a ledger's database; a new one is made unless `read_only`.

    Args:
        where: a path to an SQLite file, or a database's URL.
        read_only: another run's ledger: must exist and is never written.

    Raises:
        LedgerError: it is no ledger, or a newer version's; nothing was changed.
    """
    url = _url(where)
    name = public_address(str(where))
    if url.get_backend_name() == "sqlite":
        name = url.database or "memory"
        _check_file(url, read_only)
    engine = _engine(url, read_only)
    database = Database(engine, name)
    try:
        with database.read() as connection:
            new = _is_new(connection, name)
        if new and read_only:
            raise LedgerError(f"{name}: holds no ledger")
        if url.get_backend_name() == "sqlite" and not read_only:
            _use_wal(engine, name)
        if new:
            with database.write() as connection:
                if _is_new(connection, name):  # another process may have been faster
                    metadata.create_all(connection)
                    connection.execute(insert(meta), {"name": "format", "value": str(FORMAT)})
    except BaseException:
        database.close()
        raise
    return database


def public_address(where: str) -> str:
    """A database's address without its secrets, for files and messages.

    >>> public_address("postgresql://me:secret@host/db?sslpassword=x")
    'postgresql://me:***@host/db?sslpassword=hidden'

    Raises:
        LedgerError: it is no address.
    """
    if "://" not in where:
        return where
    url = _url(where)
    hidden = {name: "hidden" for name in url.query if _SECRET.search(name)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _url(where: Path | str) -> URL:
    if "\0" in str(where):
        raise LedgerError(f"{str(where)!r}: no file has such a name")
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        return make_url(where)
    except ArgumentError:
        raise LedgerError("the ledger's address is not a database URL") from None


def _check_file(url: URL, read_only: bool) -> None:
    """Refuse a file that is no SQLite database, which SQLite itself would overwrite if short."""
    if url.database in (None, "", ":memory:"):
        return
    path = Path(str(url.database))
    try:
        if path.is_dir():
            raise LedgerError(f"{path}: is a folder, not a ledger")
        if path.exists():
            with path.open("rb") as file:
                start = file.read(len(_MAGIC))
            if start and start != _MAGIC:
                raise LedgerError(f"{path}: is not an SQLite database")
        elif read_only:
            raise LedgerError(f"{path}: no such ledger")
        elif not path.parent.is_dir():
            raise LedgerError(f"{path}: its folder does not exist")
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}") from None


def _engine(url: URL, read_only: bool) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_S}} if sqlite else {}
    if sqlite and read_only:
        url = _read_only(Path(str(url.database)).absolute())
    try:
        engine = create_engine(url, **options)
    except (NoSuchModuleError, ImportError) as error:
        driver = getattr(error, "name", None) or url.drivername
        raise MissingExtraError(
            f"a ledger at {url.drivername}://... needs '{driver}': pip install {driver}"
        ) from None
    if sqlite:
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        if read_only:
            event.listen(engine, "connect", _forbid_writing)
    return engine


def _read_only(path: Path) -> URL:
    """An SQLite file that is read where it lies, whether or not its folder can be written.

    A reader, too, needs files beside the database, and removes them only if it might write; a
    folder that takes none is read as it stands, unless someone's files lie there already.
    """
    mode = {"mode": "rw"}
    if not os.access(path.parent, os.W_OK):
        in_use = path.with_name(path.name + "-wal").exists()
        mode = {"mode": "ro"} if in_use else {"mode": "ro", "immutable": "1"}
    name = quote(os.fsencode(path))
    return URL.create("sqlite", database=f"file:{name}", query=mode | {"uri": "true"})


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_on_begin` says, and only there
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * PART)
    # What a database that was made elsewhere has in its views and triggers is not to be run.
    connection.execute("PRAGMA trusted_schema=OFF")


def _forbid_writing(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only=ON")


def _on_begin(connection: Connection) -> None:
    # A writer locks at once: a reader that becomes a writer midway would fail instead of waiting.
    writes = connection.get_execution_options().get("polymix_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _use_wal(engine: Engine, name: str) -> None:
    """Readers and one writer at once; kept in the file, so set only once it is known as ours."""
    try:
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL").close()
        finally:
            raw.close()
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise LedgerError(f"{name}: the ledger cannot be written: {error}") from None


def _check_schema(connection: Connection, name: str) -> None:
    """Refuse what runs code of the database's own: triggers, views, virtual and computed columns.

    Of what SQLite keeps of its schema only tables with columns of data, and indexes, are ours.
    """
    asked = "SELECT type, name, sql FROM sqlite_master"
    for kind, entry, sql in connection.exec_driver_sql(asked):
        odd = kind not in ("table", "index") or _COMPUTED.search(str(sql or "").upper())
        if odd or (kind == "index" and sql is not None and not str(entry).startswith("ix_trials_")):
            raise LedgerError(
                f"{name}: is no polymix ledger: it has the {kind} '{str(entry)[:60]}', which would "
                "run whenever it is used"
            )


def _is_new(connection: Connection, name: str) -> bool:
    """Whether the database is empty; if it is neither that nor a ledger, it is refused."""
    if connection.dialect.name == "sqlite":
        _check_schema(connection, name)
    inspector = inspect(connection)
    found = {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
    }
    if not found:
        return True
    if found.get("meta") == {"name", "value"}:
        asked = select(meta.c.value).where(meta.c.name == "format")
        text = str(connection.execute(asked).scalar())
        if text.isdecimal() and text.isascii() and int(text[:9]) > FORMAT:
            raise LedgerError(
                f"{name}: this ledger has format {text[:9]}, and this polymix knows up to "
                f"{FORMAT}: update polymix"
            )
    else:
        text = ""
    ours = {table.name: set(table.columns.keys()) for table in metadata.sorted_tables}
    if found != ours or text != str(FORMAT):
        unlike = sorted(t for t in {*found, *ours} if found.get(t) != ours.get(t))
        what = f" (tables that differ: {', '.join(unlike[:9])})" if unlike else ""
        raise LedgerError(f"{name}: is a database, but no polymix ledger{what}; left as it was")
    return False
