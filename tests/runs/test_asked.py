"""No report asks a model of rows that it was fitted on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cli_support import LEARNS, synthetic
from polymix import Predictor
from polymix.comparators.tabular.model import TabularModel
from polymix.data.schema import Task
from polymix.data.split import SealedRows
from polymix.errors import RunFolderError
from polymix.runs.asked import asked_of
from polymix.runs.open_run import OpenRun
from polymix.train.evaluate import Evaluator


def noise(rows=90, features=40):
    """Numbers that tell a class by heart, and not at all."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, features))).rename(columns="n{}".format)
    return frame.assign(y=rng.permutation(np.arange(rows) % 2))


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    noise().to_csv(tmp_path / "noise.csv", index=False)

    def fitted(trials=6, strategy="auto", options=None, **table):
        predictor = Predictor("y", path=tmp_path / "run", device="cpu")
        return predictor.fit(
            tmp_path / "noise.csv", trials=trials, strategy=strategy, options=options or {},
            table=table,
        )  # fmt: skip

    return fitted


def test_sealed_rows_are_asked_of_the_model_that_did_not_see_them(fit):
    predictor = fit(test_share=0.3)
    for found in (predictor.explain(), predictor.robustness()):
        assert (found["split"], found["n"]) == ("test", 27)
        assert found["model"] == "the model that ships, as fitted without these rows"
        # What ships was fitted on them, too, and knows them by heart.
        assert found["score"]["value"] < 0.7
    assert found["score"]["value"] == pytest.approx(
        predictor.evaluate()["metrics"]["accuracy"]["value"]
    )
    frame = pd.read_csv(predictor.path.parent / "noise.csv")
    assert predictor.score(frame, frame["y"].to_numpy()) > 0.8


def test_without_sealed_rows_each_row_is_asked_of_a_model_without_its_fold(fit, monkeypatch):
    predictor = fit(test_share=0.0)
    run = OpenRun.open(predictor.path, device="cpu")
    split, seen, told = run.data().split, [], []
    learn = TabularModel.fit

    def watching(self, source, train, val, seed, deadline):
        seen.append(frozenset(train.tolist()))
        return learn(self, source, train, val, seed, deadline)

    monkeypatch.setattr(TabularModel, "fit", watching)
    asked = asked_of(run, None, lambda done, total, what: told.append((done, total, what)), 1000)
    assert (asked.rows.split, len(asked.rows.index)) == ("out-of-fold", 90)
    folds = int(split.folds.max()) + 1
    assert asked.told == f"{folds} models, each fitted without the rows that it is asked of"
    rows = split.development
    assert set(seen) == {frozenset(rows[split.folds != k].tolist()) for k in range(folds)}
    fitting = [what for _, total, what in told if "fitted again" in what]
    assert len(fitting) == folds
    found = predictor.explain()
    assert found["score"]["value"] < 0.7
    # They say what the trial that was chosen said out of fold.
    key = json.loads((predictor.path / "metrics.json").read_text())["chosen"]["key"]
    with run.ledger() as ledger:
        said = ledger.predictions(key)
    again = asked.predict(asked.rows.dataset, asked.rows.index)
    odds, scaled = (np.log(p[:, 1] / p[:, 0]) for p in (said, again))
    temperature = predictor._run.target.decision.temperature
    np.testing.assert_allclose(scaled, odds / temperature, atol=1e-3)
    worse = predictor.robustness(rows=20)
    assert (worse["split"], worse["n"], worse["of"]) == ("out-of-fold", 20, 90)


def test_rows_of_another_table_are_asked_of_what_ships(fit):
    found = fit(test_share=0.3).explain(noise(30))
    assert (found["split"], found["n"]) == ("given", 30)
    assert found["model"] == "the model that ships"


def test_a_network_is_trained_again_without_a_fold(tmp_path):
    data = synthetic(Task.BINARY)
    data = replace(data, split=replace(data.split, test=SealedRows(np.zeros(0, np.int64))))
    folds = np.arange(len(data.split.development)) % 3
    data = replace(data, split=replace(data.split, folds=folds), fingerprint="0" * 16)
    predictor = Predictor(path=tmp_path / "run", device="cpu")
    predictor.fit(data, options=LEARNS, strategy="mixmas")
    found = predictor.explain()
    assert (found["split"], found["n"]) == ("out-of-fold", len(data.split.development))
    run = OpenRun.open(tmp_path / "run", device="cpu", own=data)
    chosen = json.loads((tmp_path / "run" / "metrics.json").read_text())["chosen"]
    board = predictor.leaderboard_json()["rows"]
    (row,) = [r for r in board if r["rank"] == chosen["rank"]]
    assert found["score"]["value"] == pytest.approx(row["score_val"], abs=0.1)
    assert asked_of(run, None, None, 5).reads == tuple(row["modalities"])


def test_sealed_rows_stay_sealed_until_the_choice_is_made(fit, monkeypatch):
    predictor = fit(test_share=0.3)
    monkeypatch.setattr(OpenRun, "finished", False)
    with pytest.raises(RunFolderError, match="the test rows stay sealed until it is"):
        predictor.explain()


def test_an_unfolded_refit_is_asked_neither_of_sealed_rows_nor_of_validation_rows(fit, monkeypatch):
    predictor = fit(folds=0, test_share=0.3, strategy="mixmas", options=LEARNS, trials=8)
    metrics = json.loads((predictor.path / "metrics.json").read_text())
    assert metrics["refit"] not in (None, metrics["chosen"]["key"])
    trained, asked = Evaluator.trained, []

    def watching(self, trial):
        asked.append(trial)
        return trained(self, trial)

    monkeypatch.setattr(Evaluator, "trained", watching)
    assert predictor.explain()["model"] == "the model that ships, as fitted without these rows"
    predictor.evaluate()
    assert [t.key for t in asked[:2]] == [metrics["chosen"]["key"]] * 2
    assert not any(t.proposal.recipe.refit for t in asked)
