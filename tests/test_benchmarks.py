"""The benchmark of tables: its standings, and that an interrupted one goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.standings import means, normalised, ranks
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "tables.py"
SCORES = st.dictionaries(
    st.text(min_size=1), st.none() | st.floats(-1e6, 1e6, allow_nan=False), min_size=1
)


def test_the_worst_has_nothing_and_the_best_one():
    scores = {"a": 0.5, "b": 0.75, "c": 1.0}
    assert normalised(scores) == {"a": 0.0, "b": 0.5, "c": 1.0}
    assert ranks(scores) == {"a": 3.0, "b": 2.0, "c": 1.0}


def test_a_failure_is_last_and_equals_share_their_rank():
    scores = {"a": None, "b": 0.5, "c": 0.5}
    assert ranks(scores) == {"a": 3.0, "b": 1.5, "c": 1.5}
    assert normalised(scores) == {"a": 0.0, "b": 1.0, "c": 1.0}
    assert normalised({"a": None}) == {"a": 0.0}


@given(SCORES)
def test_standings_keep_the_order_of_scores(scores):
    places, shares = ranks(scores), normalised(scores)
    assert sum(places.values()) == pytest.approx(len(scores) * (len(scores) + 1) / 2)
    assert all(0 <= share <= 1 for share in shares.values())
    known = {name: score for name, score in scores.items() if score is not None}
    for one, score in known.items():
        for other, theirs in known.items():
            assert (score > theirs) == (places[one] < places[other])
            assert score <= theirs or shares[one] >= shares[other]


def test_means_are_over_tables_of_the_same_systems():
    found = means({"x": {"a": 1.0, "b": 0.0}, "y": {"a": 1.0, "b": 3.0}, "z": {"a": 2.0, "b": 1.0}})
    assert found == {"a": pytest.approx((4 / 3, 2 / 3)), "b": pytest.approx((5 / 3, 1 / 3))}
    assert means({}) == {}
    with pytest.raises(ValueError, match="'y' and others differ in b"):
        means({"x": {"a": 1.0, "b": 0.0}, "y": {"a": 1.0}})


def run(*arguments: str | Path, here: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, SCRIPT, "--tables", here, "--out", here / "results.json", *arguments],
        cwd=here, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    x = rng.standard_normal((90, 2))
    frame = pd.DataFrame({"x": x[:, 0], "z": x[:, 1], "y": np.where(x[:, 0] > 0, "up", "down")})
    frame[:60].to_csv(folder / "train.csv", index=False)
    frame[60:].to_csv(folder / "test.csv", index=False)
    (folder / "task.json").write_text(json.dumps({"target": "y", "metric": "accuracy"}))


def test_an_interrupted_benchmark_goes_on(tmp_path):
    write_table(tmp_path / "signs")
    asked = "--systems", "plain", "--time-limit", "20s", "--seeds", "1"
    first = run(*asked, here=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "signs plain seed 0: accuracy" in first.stdout
    kept = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(e["table"], e["system"], e["seed"], e["limit"]) for e in kept] == [
        ("signs", "plain", 0, 20.0)
    ]
    assert kept[0]["score"] > 0.8
    assert np.shape(kept[0]["predictions"]) == (30, 2)

    again = run(*asked, here=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "seed 0:" not in again.stdout
    assert "means over 1 of 1 tables" in again.stdout
    assert json.loads((tmp_path / "results.json").read_text())["results"] == kept


def test_all_that_is_wrong_with_tables_is_told_at_once(tmp_path):
    write_table(tmp_path / "signs")
    (tmp_path / "signs" / "task.json").write_text('{"target": "y", "metric": "luck"}')
    (tmp_path / "empty").mkdir()
    done = run("--only", "signs", "empty", here=tmp_path)
    assert done.returncode == 2
    assert "metric of r2, roc_auc, accuracy" in done.stderr
    assert "empty has no train.csv, test.csv, task.json" in done.stderr
