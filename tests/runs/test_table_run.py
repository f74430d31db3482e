"""A run on a table: alike wherever it predicts, whatever a row lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polymix import Predictor
from polymix.data.recipe import TableRecipe
from polymix.data.table import read_rows
from polymix.errors import DataError
from polymix.runs.export import TOLERANCE, run_graph
from tables import damaged_table

onnxruntime = pytest.importorskip("onnxruntime")

OPTIONS = {"epochs": 2, "full_epochs": 12, "encoders": ["mlp"], "networks": ["none"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A damaged table and a run on it."""
    base = tmp_path_factory.mktemp("films")
    path, _, _ = damaged_table(base / "table", rows=90)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    frame = frame[["photo", "review", "price", "liked"]]
    frame.loc[[1, 2, 3], ["photo", "review", "price"]] = ""
    frame.to_csv(path, index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMIX_CACHE", str(base / "cache"))
        predictor = Predictor("liked", path=base / "run").fit(
            path, trials=14, strategy="mixmas", options=OPTIONS
        )
        yield predictor, path


def chances(frame: pd.DataFrame) -> np.ndarray:
    return frame[["p(no)", "p(yes)"]].to_numpy(float)


def test_every_row_is_predicted_alike_here_after_a_copy_and_through_onnx(run, tmp_path):
    predictor, path = run
    here = predictor.predictions(path)
    assert len(here) == 90
    predictor.save(tmp_path / "copy")
    copy = Predictor.load(tmp_path / "copy")
    there = copy.predictions(path)
    assert there["liked"].tolist() == here["liked"].tolist()
    assert chances(there) == pytest.approx(chances(here), abs=TOLERANCE)
    told = copy.export_onnx(tmp_path / "m.onnx", path)
    assert told["n"] == 90  # rows without a label, too
    recipe = TableRecipe.load(tmp_path / "copy" / "table.json")
    rows = read_rows(path, recipe, jobs=1)
    present = dict(zip(recipe.row_schema.names, rows.present.T, strict=True))
    assert not rows.present[[1, 2, 3]].any()
    assert any(0 < mask.sum() < 90 for mask in present.values())
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    assert run_graph(session, rows.arrays, present) == pytest.approx(chances(here), abs=TOLERANCE)


def test_a_row_without_a_photo_is_not_a_row_with_a_black_one(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    path, _, _ = damaged_table(tmp_path / "table", rows=70)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    predictor = Predictor("liked", path=tmp_path / "run").fit(
        frame[["photo", "liked"]].assign(photo=[str(path.parent / p) for p in frame["photo"]]),
        trials=4, strategy="mixmas", options=OPTIONS,
    )  # fmt: skip
    Image.new("RGB", (50, 40)).save(path.parent / "black.png")
    photos = ["black.png", "", "nowhere.jpg", "files/folder.jpg"]
    new = path.parent / "new.csv"
    pd.DataFrame({"photo": photos}).to_csv(new, index=False)
    black, *missing = chances(predictor.predictions(new))
    assert all(row == pytest.approx(missing[0], abs=1e-7) for row in missing)
    assert abs(black - missing[0]).max() > 1e-3


def test_rows_are_predicted_in_the_tables_order(run):
    predictor, path = run
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    order = np.random.default_rng(0).permutation(len(frame))
    mixed = path.parent / "mixed.csv"
    frame.iloc[order].drop(columns="liked").to_csv(mixed, index=False)
    whole = chances(predictor.predictions(path))
    assert chances(predictor.predictions(mixed)) == pytest.approx(whole[order], abs=TOLERANCE)


def test_its_own_table_is_scored_on_its_test_rows_and_any_other_on_all_that_have_a_label(run):
    predictor, path = run
    own = predictor.evaluate(path)
    assert own["split"] == "test"
    assert own["finalists"]
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    other = path.parent / "other.csv"
    frame.iloc[5:45].to_csv(other, index=False)
    found = predictor.evaluate(other)
    unlabelled = int((frame["liked"].iloc[5:45] == "").sum())
    assert unlabelled
    assert (found["split"], found["n"], found["of"]) == ("given", 40 - unlabelled, 40)
    nobody = path.parent / "nobody.csv"
    frame.drop(columns="liked").to_csv(nobody, index=False)
    with pytest.raises(DataError, match="no row has a label in 'liked'"):
        predictor.evaluate(nobody)


def test_a_table_moved_with_its_files_is_read_from_where_it_is(run, tmp_path):
    import shutil

    predictor, path = run
    shutil.copytree(path.parent, tmp_path / "moved")
    moved = predictor.predictions(tmp_path / "moved" / path.name)
    assert chances(moved) == pytest.approx(chances(predictor.predictions(path)), abs=TOLERANCE)


def test_without_the_columns_it_says_which(run, tmp_path):
    predictor, _ = run
    lacking = Path(tmp_path / "lacking.csv")
    pd.DataFrame({"revew": ["a film"], "photo": ["x.png"]}).to_csv(lacking, index=False)
    with pytest.raises(DataError, match="'review'") as error:
        predictor.predictions(lacking)
    assert len(error.value.problems) == 2
