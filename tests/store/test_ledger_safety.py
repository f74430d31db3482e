from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from polymix.errors import LedgerError, MissingExtraError
from polymix.records import EpochRecord
from polymix.store import Ledger
from polymix.store.database import public_address
from polymix.store.tables import metadata

from .killing import die, survives
from .test_ledger import proposal, trial

COHORT = [(trial(f"new{i}"), {"w": torch.full((1000,), float(i))}) for i in range(3)]


def with_old(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.put([(trial("old"), {"w": torch.ones(2)})])
        ledger.save_checkpoint("new1", {"w": torch.ones(2)}, "state")


def die_at(statement: int) -> None:
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            die()

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)


def test_a_killed_put_leaves_all_of_a_cohort_or_nothing(path: Path) -> None:
    with_old(path)
    outcomes = []
    for statement in range(1, 200):

        def work(statement: int = statement) -> None:
            ledger = Ledger.open(path)
            die_at(statement)
            ledger.put(COHORT)

        ended = survives(work)
        with Ledger.open(path) as ledger:
            keys = [t.key for t in ledger.trials()]
            outcomes.append(keys)
            if ended:
                break
            assert keys == ["old"]
            assert ledger.load_checkpoint("new1") is not None
    assert len(outcomes) > 10
    assert outcomes[-1] == ["old", "new0", "new1", "new2"]
    with Ledger.open(path) as ledger:
        assert ledger.load_checkpoint("new1") is None
        for i, done in enumerate(ledger.trials()[1:]):
            assert torch.equal(ledger.weights(str(done.weights))["w"], torch.full((1000,), i))


def test_a_ledger_killed_at_any_moment_can_be_read(path: Path) -> None:
    """Killed from outside, by the clock: cohorts are whole, and each epoch has its state."""

    def work() -> None:
        ledger = Ledger.open(path)
        for start in range(0, 100_000, 2):
            ledger.put(
                [(trial(f"{start + i}"), {"w": torch.full((5000,), start + i)}) for i in (0, 1)]
            )
            ledger.put_epoch("s", EpochRecord(start, ()), {"w": torch.full((9,), start)}, start)

    for round_ in range(4):
        path.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            work()
            os._exit(1)
        time.sleep(0.25 + 0.03 * round_)
        os.kill(child, 9)
        os.waitpid(child, 0)
        with Ledger.open(path) as ledger:
            made = ledger.trials()
            assert len(made) % 2 == 0
            for done in made:
                assert ledger.weights(str(done.weights))["w"][0] == int(done.key)
            epochs, state = ledger.epochs("s"), ledger.load_checkpoint("s")
            if epochs:
                assert state is not None
                assert state[1] == epochs[-1].epoch
            ledger.add_used(1)
        for beside in path.parent.glob("ledger.sqlite-*"):
            beside.unlink()


def test_several_processes_write_at_once(path: Path) -> None:
    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            with Ledger.open(path) as ledger:
                for i in range(15):
                    ledger.put([(trial(f"{name}{i}"), {"w": torch.ones(100)})])
                    ledger.record_decision(f"who{i}", name)
                    ledger.add_used(0.5)

        return run

    children = []
    for name in "abc":
        child = os.fork()
        if child == 0:
            try:
                work(name)()
            except BaseException as error:
                print(error)
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with Ledger.open(path) as ledger:
        assert len(ledger.trials()) == 45
        assert ledger.used_seconds() == 22.5
        assert {ledger.decision(f"who{i}") for i in range(15)} <= set("abc")


# ----------------------------------------------------------------------- what is not a ledger


def refused(path: Path, match: str) -> None:
    before = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    for where, reuse in ((path, []), ("sqlite://", [path])):
        with pytest.raises(LedgerError, match=match) as caught:
            Ledger.open(where, reuse)
        assert len(caught.value.problems) == 1
    assert {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("data", [b"x", b"text that is no database" * 99, b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    refused(path, "is not an SQLite database")


def test_a_damaged_database_is_refused(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 3000)
    refused(path, "cannot be used")


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_another_database_is_refused(path: Path) -> None:
    sql(path, "CREATE TABLE notes (id INTEGER)")
    refused(path, r"no polymix ledger \(tables that differ: blobs, ")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE notes (id INTEGER)",
        "ALTER TABLE trials ADD COLUMN more TEXT",
        "ALTER TABLE trials RENAME COLUMN wall_s TO wall",
        "DROP TABLE clock",
        "DELETE FROM meta",
        "UPDATE meta SET value = 'one'",
        "UPDATE meta SET value = '0'",
    ],
)
def test_a_changed_ledger_is_refused(path: Path, statement: str) -> None:
    with_old(path)
    sql(path, statement)
    refused(path, "no polymix ledger")


def test_a_newer_ledger_is_refused(path: Path) -> None:
    with_old(path)
    sql(path, "UPDATE meta SET value = '2'", "ALTER TABLE trials ADD COLUMN more TEXT")
    refused(path, "format 2.*update polymix")


def test_places_without_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is a folder"):
        Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match="its folder does not exist"):
        Ledger.open(tmp_path / "no" / "ledger.sqlite")
    with pytest.raises(LedgerError, match="not a database URL"):
        Ledger.open("://")
    with pytest.raises(MissingExtraError, match="pip install"):
        Ledger.open("nosuchdb://host/name")
    with pytest.raises(LedgerError):
        Ledger.open("a\0b")


def test_a_folder_that_takes_no_files_can_be_reused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_old(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Ledger.open("sqlite://", reuse=[path]) as ledger:
        assert ledger.get("old", proposal("old")) is not None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_damaged_weights_are_told(path: Path) -> None:
    with_old(path)
    sql(path, "UPDATE blobs SET data = zeroblob(100)")
    with Ledger.open(path) as ledger:
        (old,) = ledger.trials()
        with pytest.raises(LedgerError, match="is damaged"):
            ledger.weights(str(old.weights))
        with pytest.raises(LedgerError, match="is damaged"):
            ledger.load_checkpoint("new1")


@pytest.mark.parametrize(
    "change",
    [
        "status = 'none such'",
        "role = 'none such'",
        "genotype = '{}'",
        "genotype = '['",
        'recipe = \'{"lr": "much"}\'',
        "recipe = '{\"other\": 1}'",
        "recipe = x'ff'",
        "\"rows\" = 'many'",
        '"rows" = 0',
        "init = '3'",
        "exact = '[]'",
        "exact = '[[1]]'",
        "unimodal = '{}x'",
        "curve = '[{}]'",
        "params = 'a'",
        "stage = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_changed_row_is_told(path: Path, change: str) -> None:
    with_old(path)
    sql(path, f"UPDATE trials SET {change}")
    with Ledger.open(path) as ledger, pytest.raises(LedgerError):
        ledger.trials()


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_random_damage_is_told(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "ledger.sqlite"
    try:
        shutil.copy(damaged_source(tmp_path_factory), path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + 4] = data.draw(st.binary(min_size=1, max_size=4))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.none())])
        try:
            with Ledger.open(path) as ledger:
                for done in ledger.trials():
                    ledger.get(done.key, done.proposal)
                    ledger.predictions(done.key)
                    if done.weights:
                        ledger.weights(done.weights)
                ledger.load_checkpoint("new1")
                ledger.record_decision("a", 1)
                ledger.epochs("s")
                ledger.add_used(ledger.used_seconds())
                ledger.put([(trial("fresh"), {"w": torch.ones(1)})])
        except LedgerError:
            pass
    finally:
        shutil.rmtree(folder)


_source: list[Path] = []


def damaged_source(factory: pytest.TempPathFactory) -> Path:
    if not _source:
        path = factory.mktemp("source") / "ledger.sqlite"
        with_old(path)
        with Ledger.open(path) as ledger:
            ledger.put_epoch("s", EpochRecord(0, (("x", 1.0),)), {"w": torch.ones(1)})
            ledger.record_decision("a", 1)
        _source.append(path)
    return _source[0]


def test_the_tables_are_no_dialect_s_own() -> None:
    for table in metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert f"CREATE TABLE {table.name}" in text
    text = str(CreateTable(metadata.tables["trials"]).compile(dialect=postgresql.dialect()))
    assert "id SERIAL NOT NULL" in text
    assert "score DOUBLE PRECISION" in text
    assert "flops BIGINT" in text


def written(path: Path) -> None:
    """A ledger with a trial, a decision and an epoch."""
    with Ledger.open(path, run="mine") as ledger:
        ledger.put([(trial("a"), None)])
        ledger.record_decision("horizon", {"epochs": 12})
        ledger.put_epoch("search", EpochRecord(0, (("score", 0.25),)), {"w": torch.ones(1)})


def everything(path: Path) -> list[object]:
    with Ledger.open(path, run="mine") as ledger:
        return [ledger.trials(), ledger.decision("horizon"), ledger.epochs("search")]


TEXTS = [
    ("trials", "exact"), ("trials", "curve"), ("trials", "genotype"), ("trials", "recipe"),
    ("trials", "unimodal"), ("decisions", "value"), ("epochs", "numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column"), TEXTS)
def test_a_flipped_digit_is_told(path: Path, table: str, column: str) -> None:
    """Whichever digit of a text it is, no other number comes out of it."""
    written(path)
    right = everything(path)
    (text,) = sqlite3.connect(path).execute(f"SELECT {column} FROM {table}").fetchone()
    places = [i for i, c in enumerate(text) if c.isdigit()]
    for place in places[:40]:
        other = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        sql(path, f"UPDATE {table} SET {column} = '{other}'")
        with pytest.raises(LedgerError, match="cannot be read"):
            everything(path)
    sql(path, f"UPDATE {table} SET {column} = '{text}'")
    assert everything(path) == right


@pytest.mark.parametrize("column", ["rows", "epochs", "seed", "params", "flops", "steps"])
def test_a_changed_number_is_told(path: Path, column: str) -> None:
    written(path)
    sql(path, f"UPDATE trials SET {column} = {column} + 1")
    with pytest.raises(LedgerError, match="was changed after it was written"):
        everything(path)


def test_a_ledger_of_before_there_were_digests_opens(path: Path) -> None:
    written(path)
    right = everything(path)
    for table, column in (("trials", "exact"), ("decisions", "value"), ("epochs", "numbers")):
        sql(path, f"UPDATE {table} SET {column} = substr({column}, 1, instr({column}, char(10))-1)")
    sql(path, "DELETE FROM meta WHERE name = 'run'")
    assert everything(path) == right


def test_a_ledger_belongs_to_its_run(path: Path) -> None:
    written(path)
    for read_only in (False, True):
        with pytest.raises(LedgerError, match="is another run's ledger"):
            Ledger.open(path, run="yours", read_only=read_only)
    with Ledger.open(path.with_name("new.sqlite"), [path], run="yours") as ledger:
        assert ledger.trials() == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON clock BEGIN DELETE FROM trials; END",
        "CREATE TRIGGER t BEFORE UPDATE ON trials BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE VIEW v AS SELECT * FROM trials",
        "CREATE INDEX i ON trials (abs(params))",
        "CREATE INDEX ix_trials_x ON trials (key) WHERE key > 'a'",
        "ALTER TABLE clock RENAME TO c; CREATE VIEW clock AS SELECT * FROM c",
        "DROP TABLE clock; CREATE TABLE clock (id INTEGER, seconds REAL AS (id * 2))",
        "DROP TABLE clock; CREATE TABLE clock (id INTEGER, seconds REAL CHECK (abs(seconds)))",
        "DROP TABLE clock; CREATE VIRTUAL TABLE clock USING fts5(id, seconds)",
    ],
)
def test_what_would_run_with_a_ledger_is_refused(path: Path, statement: str) -> None:
    written(path)
    raw = sqlite3.connect(path)
    raw.executescript(statement)
    raw.close()
    for read_only in (False, True):
        with pytest.raises(LedgerError, match=r"would run whenever it is used|no polymix ledger"):
            Ledger.open(path, run="mine", read_only=read_only)


def test_an_address_is_shown_without_its_secrets(path: Path) -> None:
    shown = public_address("postgresql://me:s3cret@host/db?sslpassword=x&application_name=y")
    assert shown == "postgresql://me:***@host/db?application_name=y&sslpassword=hidden"
    assert public_address("runs/a/ledger.sqlite") == "runs/a/ledger.sqlite"
    for address in ("postgresql+nodriver://me:s3cret@host/db", "nothing://me:s3cret@host/db"):
        with pytest.raises((LedgerError, MissingExtraError)) as caught:
            Ledger.open(address)
        assert "s3cret" not in str(caught.value)
