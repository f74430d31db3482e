"""A run is asked for once, and opened once: what costs time, or may disagree, is done once."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from polymix.cli import run as command
from polymix.errors import RunFolderError
from polymix.genotype import Block
from polymix.predictor import Predictor
from polymix.runs import checks, inference, options, session
from polymix.runs.open_run import OpenRun
from polymix.search.protocol import Strategy
from polymix.space.mix import MixGenotype
from polymix.store import integrity, run_folder
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder

from .common import dataset
from .common import run_folder as make_run

GENOTYPE = MixGenotype(
    encoders=(("photo", Block.of("mlp")), ("columns", Block.of("mlp"))), fusion="concat"
)


@pytest.fixture
def counted(monkeypatch):
    """Counts the calls of functions that are patched with it."""
    calls: Counter[str] = Counter()

    def count(owner, name, label=None):
        original = getattr(owner, name)

        def counting(*arguments, **keywords):
            calls[label(*arguments) if label else name] += 1
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, counting)

    return calls, count


def table(path, rows=60):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    frame.assign(y=np.where(frame.a > 0, "yes", "no")).to_csv(path, index=False)
    return path


def test_one_search_checks_and_builds_everything_once(tmp_path, monkeypatch, counted):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    calls, count = counted
    count(options.RunOptions, "model_validate")
    for module in (checks, session):
        count(module, "make_strategy")
        count(module, "check_device")
    count(Strategy, "fresh")
    count(integrity, "read")
    arguments = ["--target", "y", "--trials", "4", "--strategy", "mixmas", "-o", "epochs=1"]
    arguments += ["-o", "full_epochs=1", "-o", "encoders=[mlp]", "--run-dir", str(tmp_path / "run")]
    assert command(["search", str(table(tmp_path / "films.csv")), *arguments]) == 0
    assert calls == {
        "model_validate": 1,
        "make_strategy": 1,
        "check_device": 1,
        "fresh": 1,  # what may not go with the data is set up on a copy, before a folder is made
        "read": 2,  # by who made it, and by who shows the leaderboard
    }


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run", GENOTYPE, dataset("photo", "columns"))
    return tmp_path / "run"


def count_hashes(monkeypatch, calls):
    """Counts how often each content is hashed, by any of the ways that the folder has."""
    digest, whole = hashlib.file_digest, integrity.sha256

    def of_file(file, *arguments):
        calls[file.name.rpartition("/")[2]] += 1
        return digest(file, *arguments)

    def of_bytes(data):
        calls[whole(data)] += 1
        return whole(data)

    monkeypatch.setattr(integrity.hashlib, "file_digest", of_file)
    monkeypatch.setattr(integrity, "sha256", of_bytes)
    monkeypatch.setattr(run_folder, "sha256", of_bytes)


def test_one_prediction_opens_the_folder_and_hashes_each_file_once(
    run, tmp_path, monkeypatch, counted, capsys
):
    calls, count = counted
    given = tmp_path / "rows"
    data = dataset("photo", "columns", rows=12)
    monkeypatch.setattr("polymix.runs.predict.open_rows", lambda *_: data)
    count(integrity, "read")
    count(inference, "load_model")
    count_hashes(monkeypatch, calls)
    assert command(["predict", str(run), str(given)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13
    assert calls.pop("read") == calls.pop("load_model") == 1
    assert calls.pop("model.safetensors") == 1
    assert len(calls) == 5  # the seal, config, schema, genotype, metrics
    assert set(calls.values()) == {1}


def test_a_predictor_opens_a_finished_run_once(run, counted):
    calls, count = counted
    count(integrity, "read")
    count(inference, "load_model")
    Ledger.open(run / "ledger.sqlite").close()
    predictor, data = Predictor.load(run), dataset("photo", "columns")
    first = predictor.predict_proba(data)
    assert np.array_equal(predictor.predict_proba(data), first)
    predictor.explain(data)
    predictor.evaluate(data)
    assert calls == {"read": 1, "load_model": 1}
    assert (run / "evaluation.json").is_file()


def test_a_run_that_goes_on_is_opened_each_time(run):
    with RunFolder.open(run, write=True) as folder:
        folder.update_description(status="running")
    predictor = Predictor.load(run)
    assert predictor.leaderboard_json()["status"] == "running"
    with RunFolder.open(run, write=True) as folder:
        folder.update_description(status="finished")
    assert predictor.leaderboard_json()["status"] == "finished"


def test_weights_that_were_changed_since_are_refused(run):
    opened = OpenRun.open(run)
    weights = run / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(RunFolderError, match="changed since the run folder was opened"):
        opened.served  # noqa: B018


def test_who_writes_holds_the_folder_and_lets_it_go(run):
    opened, other = OpenRun.open(run), OpenRun.open(run)
    with (
        opened.folder.hold(),
        pytest.raises(RunFolderError, match="another polymix process is using it"),
    ):
        other.folder.hold()
    with other.folder.hold():
        other.folder.update_description(note="x")
    with opened.folder.hold():
        assert opened.folder.description["note"] == "x"


def test_no_model_yet(tmp_path):
    data = dataset("photo", "columns")
    make_run(tmp_path / "run", GENOTYPE, data)
    config = OpenRun.open(tmp_path / "run").config.model_dump(mode="json")
    RunFolder.create(tmp_path / "new", config, data.schema, {"data": {}}).close()
    opened = OpenRun.open(tmp_path / "new")
    for ask in (lambda: opened.served, lambda: opened.target):
        with pytest.raises(RunFolderError, match="holds no model yet: `polymix resume"):
            ask()
    with pytest.raises(RunFolderError, match="no finalists yet"):
        opened.metrics  # noqa: B018
