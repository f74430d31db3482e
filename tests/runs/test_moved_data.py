"""A run whose table was moved, whose cache was damaged, and rows that are not what they seem."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polymix import Predictor
from polymix.cli import run as command
from polymix.datasets import cache_folder
from polymix.errors import (
    DataError,
    PolymixError,
    PolymixWarning,
    RunFolderError,
    UsageError,
)

ROWS, NEW = 80, 30


def make_table(folder: Path, rows: int, seed: int) -> Path:
    """Rows of two numbers, a picture and what they say."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in range(rows):
        label = int(rng.integers(2))
        name = f"{seed}-{row}.png"
        pixels = rng.integers(0, 90, (12, 12)).astype(np.uint8) + 120 * label
        Image.fromarray(pixels).save(folder / name)
        a, b = rng.normal(label, 1), rng.normal()
        found.append({"photo": name, "a": round(a, 4), "b": round(b, 4), "y": "ny"[label]})
    path = folder / f"t{seed}.csv"
    pd.DataFrame(found).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a run on it, its cache, and a table of other rows."""
    base = tmp_path_factory.mktemp("moved")
    path = make_table(base / "data", ROWS, 0)
    make_table(base / "data", NEW, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMIX_CACHE", str(base / "cache"))
        Predictor("y", path=base / "run").fit(path, trials=2)
    return base


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it all, but the table is gone from where the run knows it."""
    shutil.copytree(made, tmp_path / "base")
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "base" / "cache"))
    hidden = made / "data" / "t0.csv"
    away = made / "t0.csv.away"
    hidden.rename(away)
    yield tmp_path / "base"
    away.rename(hidden)


COMMANDS = {
    "evaluate": [], "explain": ["--rows", "20"], "robustness": ["--rows", "20"],
    "export": ["--onnx", "m.onnx"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_other_rows_need_no_training_table(name, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shutil.rmtree(place / "cache")
    assert command([name, "run", "data/t1.csv", *COMMANDS[name]]) == 0
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [*COMMANDS, "linear-probe"])
def test_own_rows_are_asked_for_in_a_sentence_and_found_where_they_are_said_to_be(
    name, place, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    shutil.rmtree(place / "cache")
    arguments = [name, "run", *COMMANDS.get(name, [])]
    assert command(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert "which is not there any more: name its new place with --data PATH" in said
    (place / "data" / "t0.csv").rename(place / "data" / "films, renamed.csv")
    assert command([*arguments, "--data", "data/films, renamed.csv"]) == 0
    assert command([*arguments, "--data", "data/t1.csv"]) == 2
    assert "belongs to other data" in capsys.readouterr().err
    assert command([*arguments, "--data", "data/gone.csv"]) == 2
    assert "--data data/gone.csv: there is no such file" in capsys.readouterr().err


def test_what_the_cache_keeps_of_a_table_that_is_gone_is_enough(place):
    assert Predictor.load(place / "run").evaluate()["split"] == "test"


def test_in_python(place):
    shutil.rmtree(place / "cache")
    with pytest.raises(UsageError, match="not there any more"):
        Predictor.load(place / "run").evaluate()
    table = place / "data" / "t0.csv"
    told = Predictor.load(place / "run", data=table).evaluate()
    assert told["split"] == "test"
    assert Predictor.resume(place / "run", table).evaluate() == told
    text = table.read_text().replace("n\n", "y\n", 1)
    table.write_text(text)
    with pytest.raises(RunFolderError, match="belongs to other data"):
        Predictor.load(place / "run", data=table).evaluate()


def test_rows_that_it_was_fitted_on_are_counted(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POLYMIX_CACHE", str(made / "cache"))
    own, other = (pd.read_csv(made / "data" / f"t{i}.csv") for i in range(2))
    mixed = pd.concat([own.iloc[10:30], other.iloc[:10], own.iloc[40:45].assign(y="?")])
    flipped = own.iloc[50:55].assign(y=own["y"].iloc[50:55].map({"n": "y", "y": "n"}))
    path = made / "data" / "mixed.csv"
    pd.concat([mixed, flipped]).to_csv(path, index=False)
    told = Predictor.load(made / "run").evaluate(path)
    assert (told["n"], told["of"], told["fitted_rows"]) == (35, 40, 20)
    assert Predictor.load(made / "run").evaluate(made / "data" / "t1.csv")["fitted_rows"] == 0
    assert command(["evaluate", str(made / "run"), str(path)]) == 0
    assert "20 of these rows are among the rows that the model was fitted on" in (
        capsys.readouterr().out
    )
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "empty"))
    assert Predictor.load(made / "run").evaluate(path)["fitted_rows"] is None


def test_pictures_that_are_not_there_are_told(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POLYMIX_CACHE", str(made / "cache"))
    away = tmp_path / "away.csv"  # beside no picture
    shutil.copy(made / "data" / "t1.csv", away)
    predictor = Predictor.load(made / "run")
    with pytest.warns(PolymixWarning, match="30 of 30 cells in 'photo' cannot be used"):
        found = predictor.predictions(away)
    assert len(found) == NEW
    assert command(["predict", str(made / "run"), str(away)]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "warning: away: 30 of 30 cells in 'photo' cannot be used (30 no such file): their rows are "
        "predicted without them"
    ]
    assert len(told.out.splitlines()) == NEW + 1
    frame = pd.read_csv(made / "data" / "t1.csv", dtype=object).assign(photo="", a="")
    frame.loc[3, "b"] = "many"
    frame.to_csv(away, index=False)
    with pytest.warns(PolymixWarning) as caught:
        predictor.predict(away)
    assert [str(w.message).partition(": ")[2] for w in caught] == [
        "1 of 30 cells in 'b' cannot be used (1 not a number): their rows are predicted without "
        "them",
        "every cell is empty in 'a', 'photo': all 30 rows are predicted without them",
    ]


def test_rows_that_are_whole_are_predicted_silently(made, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(made / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Predictor.load(made / "run").predict(made / "data" / "t1.csv")


@pytest.mark.parametrize(
    "name", ["tabular.npy", "photo.npy", "target.npy", "present.npy", "split.npy", "folds.npy",
             "schema.json", "table.json", "dataset.json"],
)  # fmt: skip
def test_a_damaged_entry_of_the_cache_is_built_again_and_told(name, made, tmp_path, monkeypatch):
    shutil.copytree(made / "cache", tmp_path / "cache")
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    (entry,) = (p for p in (cache_folder() / "tables").iterdir() if p.name.startswith("v"))
    before = (entry / name).read_bytes()
    if name == "split.npy":
        codes = np.load(entry / name)
        np.save(entry / name, codes[::-1])
    else:
        at = len(before) // 2
        damaged = before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :]
        (entry / name).write_bytes(damaged)
    predictor = Predictor.load(made / "run")
    with pytest.warns(PolymixWarning, match=r"the cache holds of 'tables' cannot be used .*again"):
        told = predictor.evaluate()
    assert (entry / name).read_bytes() == before
    assert told == Predictor.load(made / "run").evaluate()
    assert sorted(p.name for p in entry.parent.iterdir()) == [entry.name]


def test_a_damaged_entry_of_a_table_that_is_gone(place):
    (entry,) = (p for p in (cache_folder() / "tables").iterdir() if p.name.startswith("v"))
    np.save(entry / "target.npy", np.load(entry / "target.npy")[::-1])
    with pytest.raises(PolymixError, match="name its new place with data"):
        Predictor.load(place / "run").evaluate()


def test_the_tables_of_validation_rows_are_gone_too(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    train, tune = make_table(tmp_path / "data", 40, 0), make_table(tmp_path / "data", 20, 1)
    Predictor("y", path=tmp_path / "run").fit(train, tune, trials=1)
    shutil.rmtree(tmp_path / "cache")
    tune.unlink()
    with pytest.raises(DataError, match=r"t1\.csv: there is no such file"):
        Predictor.load(tmp_path / "run").explain()
