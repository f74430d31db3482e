"""Fitted models that are compared on validation rows, where rows are too many to fold."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from polymix import Predictor


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the portfolio on a table whose rows are not folded."""
    base = tmp_path_factory.mktemp("holdout")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=160), "b": rng.normal(size=160)})
    frame["y"] = frame.a + np.abs(frame.b) + 0.1 * rng.normal(size=160)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMIX_CACHE", str(base / "cache"))
        predictor = Predictor("y", path=base / "run", device="cpu")
        predictor.fit(frame, table={"folds": 0})
        yield predictor, json.loads((base / "run" / "metrics.json").read_text())


def test_members_are_scored_once_on_validation_rows_and_kept(run):
    predictor, metrics = run
    assert metrics["folds"] == 0
    winners = [f for f in metrics["finalists"] if "winner" in f["roles"]]
    assert len(winners) > 2
    for finalist in winners:
        (trial,) = finalist["trials"]  # other seeds of a fit say nothing new
        assert trial["key"] in metrics["search"]
        assert trial["weights"]
    rows = predictor.leaderboard_json()["rows"]
    assert {row["rows"] for row in rows if row.get("stage") == "portfolio"} <= {112}


def test_an_ensemble_of_all_members_stands_among_them(run):
    _, metrics = run
    (ensemble,) = [f for f in metrics["finalists"] if "ensemble" in f["roles"]]
    assert ensemble["score_val"] >= max(f["score_val"] for f in metrics["finalists"]) - 1e-9
    assert metrics["chosen"]["rank"] == ensemble["rank"] == 1


def test_what_ships_was_fitted_on_every_row_and_what_is_evaluated_was_not(run):
    predictor, metrics = run
    assert metrics["refit"] not in (None, metrics["chosen"]["key"])
    told = predictor.evaluate()
    assert told["split"] == "test"
    assert told["metrics"]["r2"]["value"] > 0.8
