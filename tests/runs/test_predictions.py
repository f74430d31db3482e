"""Predictions as the person's own table would have them."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from polymix import Predictor
from polymix.cli import run
from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe
from polymix.errors import UsageError
from polymix.runs.predictions import csv_text, own_classes, predictions_frame, predictions_json
from polymix.scoring.calibration import decode_predictions

OPTIONS = {"epochs": 1, "full_epochs": 1, "encoders": ["mlp"], "networks": ["none"]}
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": RNG.normal(size=40), "b": RNG.normal(size=40)})
LABELS = {
    "int": np.array([0, 1] * 20), "bool": np.array([False, True] * 20),
    "float": np.array([1.0, 2.0] * 20), "str": np.array(["0", "1"] * 20, object),
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))


def target_of(source):
    recipe = read_recipe(open_table_dataset(source, TableOptions(target="Liked It?")))
    assert recipe is not None
    return recipe.target


@pytest.mark.parametrize("dtype", LABELS)
def test_the_type_of_labels_is_kept(dtype):
    assert target_of(FRAME.assign(**{"Liked It?": LABELS[dtype]})).dtype == dtype


@pytest.mark.parametrize(("cells", "dtype", "own"), [
    (["0", "1"], "int", [0, 1]), (["0.5", "1.5"], "float", [0.5, 1.5]),
    (["False", "True"], "bool", [False, True]), (["false", "true"], "str", ["false", "true"]),
    (["00", "01"], "str", ["00", "01"]), (["1", "x"], "str", ["1", "x"]),
    (["1.50", "2.50"], "str", ["1.50", "2.50"]),
])  # fmt: skip
def test_labels_of_a_text_file_are_what_they_would_be_read_again_as(cells, dtype, own, tmp_path):
    FRAME.assign(**{"Liked It?": cells * 20}).to_csv(tmp_path / "t.csv", index=False)
    target = target_of(tmp_path / "t.csv")
    assert target.dtype == dtype
    assert [target.own(name) for name in target.classes] == own


SPELLED = {
    "ints": pd.Series([0, 1] * 20),
    "negative ints": pd.Series([-1, 1, 2, -1] * 10),
    "floats that are ints": pd.Series([1.0, 2.0] * 20),
    "floats with gaps": pd.Series([0.0, 1.0, np.nan, 1.0] * 10),
    "floats": pd.Series([0.5, 1.5] * 20),
    "bools": pd.Series([False, True] * 20),
    "words": pd.Series(["very good", "not so good", "fair enough", "fair enough"] * 10),
    "codes": pd.Series(["001", "010", "100", "010"] * 10),
    "nullable": pd.Series([1, 2, 3, 1] * 10, dtype="Int64"),
    "categorical": pd.Series(["low cost", "high cost"] * 20, dtype="category"),
}


@pytest.mark.parametrize("kind", SPELLED)
def test_right_predictions_equal_the_labels_as_the_person_has_them(kind):
    labels = SPELLED[kind]
    dataset = open_table_dataset(FRAME.assign(y=labels), TableOptions(target="y"))
    recipe = read_recipe(dataset)
    assert recipe is not None
    target, known = dataset.schema.target, labels.dropna()
    right = np.eye(len(target.classes))[np.asarray(dataset.targets)]
    said = own_classes(recipe.target, decode_predictions(target, right))
    assert (said == known.to_numpy()).mean() == 1
    if kind != "floats":  # to scikit-learn, numbers with fractions are no classes
        assert accuracy_score(known.to_numpy(), said) == 1
    frame = predictions_frame(target, said, right, recipe.target)
    assert next(iter(frame)) == "y"
    assert frame["y"].tolist() == known.tolist()
    written = pd.read_csv(io.StringIO(csv_text(frame)), dtype={"y": str})["y"]
    assert written.tolist() == [str(label) for label in known.tolist()]
    rows = json.loads(json.dumps(predictions_json(frame, None)))["rows"]
    assert [row[0] for row in rows] == known.tolist()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A table of whole-number labels with an id, and a run on it."""
    base = tmp_path_factory.mktemp("own")
    table = base / "t.csv"
    frame = FRAME.assign(**{"Recommended IND": LABELS["int"]})
    frame.insert(0, "Clothing ID", [f"c-{i}" for i in range(40)])
    frame.to_csv(table, index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMIX_CACHE", str(base / "cache"))
        predictor = Predictor("Recommended IND", path=base / "run", device="cpu")
        yield predictor.fit(table, trials=3, strategy="mixmas", options=OPTIONS), table


def test_predictions_are_called_and_typed_as_the_target_is(fitted):
    predictor, table = fitted
    frame = predictor.predictions(table)
    assert list(frame) == ["Recommended IND", "p(0)", "p(1)"]
    assert frame["Recommended IND"].dtype == np.int64
    said = predictor.predict(pd.read_csv(table))
    assert said.dtype == np.int64
    assert predictor.classes_.tolist() == [0, 1]
    right = pd.read_csv(table)["Recommended IND"]
    shares = [predictor.score(open_table_dataset(table, TableOptions(target="Recommended IND")))]
    assert 0 <= shares[0] <= 1
    assert set(said) <= set(right)


def test_ids_stand_beside_the_predictions(fitted, tmp_path, capsys):
    predictor, table = fitted
    frame = predictor.predictions(table, keep=["Clothing ID"])
    assert list(frame)[:2] == ["Clothing ID", "Recommended IND"]
    assert frame["Clothing ID"].tolist() == [f"c-{i}" for i in range(40)]
    arguments = ["predict", str(predictor.path), str(table), "--id", "Clothing ID"]
    assert run([*arguments, "--out", str(tmp_path / "out.csv")]) == 0
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written)[:2] == ["Clothing ID", "Recommended IND"]
    assert written["Recommended IND"].tolist() == frame["Recommended IND"].tolist()
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"][0][:2] == ["c-0", int(frame["Recommended IND"][0])]
    with pytest.raises(UsageError, match="no such column, did you mean 'Clothing ID'"):
        predictor.predictions(table, keep=["Clothing Id"])


def test_labels_of_several_are_joined_as_they_were():
    frame = FRAME.assign(**{"Liked It?": ["x|y", "y", "z|x", "y|z"] * 10})
    dataset = open_table_dataset(frame, TableOptions(target="Liked It?"))
    recipe = read_recipe(dataset)
    assert recipe is not None
    said = np.array([[True, True, False], [False, False, False]])
    found = predictions_frame(dataset.schema.target, said, said * 0.9, recipe.target)
    assert list(found) == ["Liked It?", "p(x)", "p(y)", "p(z)"]
    assert found["Liked It?"].tolist() == ["x|y", ""]


def test_a_lost_column_is_told_of_at_the_end_of_a_run(tmp_path, capsys):
    table = tmp_path / "t.csv"
    photos = [f"{i}.png" for i in range(40)]
    FRAME.assign(photo=photos, y=LABELS["int"]).to_csv(table, index=False)
    arguments = ["search", str(table), "--target", "y", "--trials", "3", "-o", "epochs=1", "-o",
                 "full_epochs=1", "-o", "encoders=[mlp]", "--strategy", "mixmas"]  # fmt: skip
    assert run([*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "warning: column 'photo' was lost: no training row has an image" in said.out
    assert "warning: column 'photo' was lost" in said.err
    assert list(json.loads((tmp_path / "run" / "data_report.json").read_text())["lost"]) == [
        "photo"
    ]
    assert run([*arguments, "--strict", "--run-dir", str(tmp_path / "strict")]) == 2
    assert "column 'photo': left out" in capsys.readouterr().err
