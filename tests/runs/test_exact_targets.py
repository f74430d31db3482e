"""Times, money and large numbers are learned, scored and said as they are, not as float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score

from polymix import Predictor
from polymix.data.dataset import Dataset
from polymix.data.schema import Target, Task
from polymix.nn.tokens import Output
from polymix.runs.export import run_graph
from polymix.scoring.calibration import encode_targets
from polymix.tables.read import read_rows
from polymix.tables.recipe import TableRecipe
from polymix.testing import toy_dataset
from polymix.train.objective import Objective

SCALES = {
    "seconds since 1970": (1.7e9, 60.0),
    "milliseconds since 1970": (1.7e12, 90_000.0),
    "cents of a large account": (9.0e13, 5000.0),
    "small differences": (1.0, 1e-9),
    "tiny": (0.0, 1e-30),
    "huge": (0.0, 1e30),
}


def scaled(name: str) -> tuple[Dataset, Dataset]:
    """Rows whose targets are of order one, and the same rows with others of a scale."""
    shift, scale = SCALES[name]
    plain = toy_dataset(rows=120, task=Task.REGRESSION)
    wide = np.asarray(plain.targets, np.float64)
    wide = (wide - wide.mean()) / wide.std()
    codes = np.zeros(len(plain), np.uint8)
    codes[plain.split.val], codes[plain.split.test.open()] = 1, 2
    made = [
        Dataset.from_arrays("toy", plain.schema, plain.arrays, y, codes, plain.present)
        for y in (wide, shift + scale * wide)
    ]
    return made[0], made[1]


@pytest.mark.parametrize("name", SCALES)
def test_targets_keep_their_digits(name):
    shift, scale = SCALES[name]
    _, dataset = scaled(name)
    assert dataset.targets.dtype == np.float64
    assert len(np.unique(dataset.targets)) > 0.9 * len(dataset)
    objective = Objective(dataset.schema)
    targets = torch.from_numpy(dataset.targets)
    fitted = dataset.schema.target.statistics
    logits = ((targets - fitted.mean[0]) / fitted.std[0]).float()[:, None]
    assert float(objective.row_losses(logits, targets).max()) < 1e-9
    said = objective.predict(logits).numpy()[:, 0]
    assert said.dtype == np.float64
    assert np.abs(said - dataset.targets).max() <= 1e-6 * scale + 1e-15 * abs(shift)
    assert float(objective(Output(logits, {}), targets, None, (1.0, {}))) < 1e-9


@pytest.mark.parametrize("name", ["seconds since 1970", "cents of a large account"])
def test_a_shift_and_a_scale_change_no_score(name, tmp_path):
    """The score of what is learned is that of the same rows with targets of order one."""
    scores = []
    for place, dataset in zip("ab", scaled(name), strict=True):
        options = {"epochs": 2, "full_epochs": 4, "encoders": ["mlp"]}
        predictor = Predictor(path=tmp_path / place, device="cpu").fit(
            dataset, trials=1, strategy="mixmas", options=options
        )
        found = predictor.evaluate()["metrics"]["r2"]["value"]
        said = predictor.predict(dataset)
        rows = dataset.split.test.open()
        assert found == pytest.approx(r2_score(dataset.targets[rows], said[rows]), abs=1e-6)
        scores.append(found)
    assert scores[1] == pytest.approx(scores[0], abs=2e-3)


def test_a_table_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    y = np.round(1.7e9 + 60 * a + 40 * rng.normal(size=300), 3)
    table = pd.DataFrame({"a": a, "y": [f"{value:.3f}" for value in y]})
    table.to_csv(tmp_path / "t.csv", index=False)
    predictor = Predictor("y", path=tmp_path / "run").fit(tmp_path / "t.csv", trials=2)
    told = predictor.evaluate()["metrics"]
    assert 0.4 < told["r2"]["value"] < 0.85  # at best 60² of 60² + 40², and fewer than 50 rows
    frame = predictor.predictions(tmp_path / "t.csv")
    said = frame["y"].to_numpy()
    assert said.dtype == np.float64
    assert len(np.unique(said)) > 200
    rest = predictor.evaluate(tmp_path / "t.csv")
    assert rest["split"] == "test"
    assert predictor.score(tmp_path / "t.csv", y) == pytest.approx(r2_score(y, said))
    other = tmp_path / "other.csv"
    table.to_csv(other, index=False)
    scored = predictor.evaluate(other)["metrics"]
    assert scored["r2"]["value"] == pytest.approx(r2_score(y, said))
    error = -scored["neg_mean_absolute_error"]["value"]
    assert error == pytest.approx(mean_absolute_error(y, said))
    again = pd.read_csv(pd.io.common.StringIO(frame.to_csv(index=False)))
    assert (again["y"] == frame["y"]).all()


def test_the_graph_says_what_the_model_says(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    a = np.random.default_rng(0).normal(size=100)
    pd.DataFrame({"a": a, "y": 1.7e12 + 1000 * a}).to_csv(tmp_path / "t.csv", index=False)
    predictor = Predictor("y", path=tmp_path / "run").fit(tmp_path / "t.csv", trials=1)
    told = predictor.export_onnx(tmp_path / "m.onnx")
    assert told["largest_difference"] < 1e-4  # in standard deviations
    rows = read_rows(tmp_path / "t.csv", TableRecipe.load(tmp_path / "run" / "table.json"), jobs=1)
    present = dict(zip(rows.arrays, rows.present.T, strict=True))
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    theirs = run_graph(session, rows.arrays, present)[:, 0]
    assert np.abs(theirs - predictor.predict(tmp_path / "t.csv")).max() < 1


def test_what_is_right_is_taken_as_it_is():
    target = Target(name="y", task=Task.REGRESSION)
    assert encode_targets(target, np.array([1_700_000_001])).tolist() == [1_700_000_001.0]
