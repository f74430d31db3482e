"""The Python front door, on data of every kind of target."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, r2_score

import polymix
from cli_support import LEARNS, TINY, StopAfter, rows_of, synthetic
from polymix import PolymixError, Predictor
from polymix.data.schema import Task
from polymix.errors import RunFolderError, UsageError
from polymix.methods.mixmas.mixmas import MixMAS

pytestmark = pytest.mark.usefixtures("workplace")


TASKS = {
    Task.BINARY: ("accuracy", lambda y, p: accuracy_score(y, p == "yes"), 0.6),
    Task.MULTICLASS: ("accuracy", lambda y, p: accuracy_score(np.array([*"abcd"])[y], p), 0.5),
    Task.MULTILABEL: ("f1_weighted", lambda y, p: f1_score(y, p, average="weighted"), 0.6),
    Task.REGRESSION: ("r2", r2_score, 0.3),
}


@pytest.mark.parametrize("task", list(Task))
def test_a_whole_search_on_every_kind_of_target(task, workplace):
    metric, score, least = TASKS[task]
    data = synthetic(task, rows=240)
    predictor = Predictor(label="label", path="run").fit(data, options=LEARNS)
    board = predictor.leaderboard()
    assert isinstance(board, pd.DataFrame)
    assert board.score_val.max() > least
    found = predictor.evaluate()
    assert found["metric"] == metric
    test = data.split.test.open()
    predictions = predictor.predict(rows_of(data, test))
    assert len(predictions) == len(test)
    value = score(data.targets[test], predictions)
    assert value == pytest.approx(found["metrics"][metric]["value"], abs=1e-6)
    probabilities = predictor.predict_proba(rows_of(data, test))
    assert probabilities.shape == (len(test), data.schema.target.outputs)
    if task in (Task.BINARY, Task.MULTICLASS):
        assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    if task is Task.REGRESSION:
        assert 700 < predictions.mean() < 1300  # in the target's own units
    again = Predictor.load("run").predict_proba(rows_of(data, test))
    assert np.array_equal(again, probabilities)
    whole = predictor.predict_proba(data)
    assert whole.shape == (len(data), data.schema.target.outputs)
    assert whole[test] == pytest.approx(probabilities, abs=1e-5)


class TestRefusals:
    def test_another_label(self, workplace):
        with pytest.raises(UsageError, match="the label of 'toy' is 'label', not 'genre'"):
            Predictor(label="genre", path="run").fit(synthetic())
        assert not list(workplace.iterdir())

    def test_jobs(self):
        with pytest.raises(UsageError, match=r"^jobs must be at least 1, but got 0"):
            Predictor(jobs=0)

    @pytest.mark.parametrize("limit", [0, -1.5, float("nan"), float("inf"), "soon"])
    def test_time_limits(self, limit, workplace):
        with pytest.raises(UsageError, match=r"time.limit"):
            Predictor(path="run").fit(synthetic(), time_limit=limit)
        assert not list(workplace.iterdir())

    def test_what_is_wrong_is_named_as_it_was_written(self, workplace):
        with pytest.raises(UsageError) as error:
            Predictor(path="run", device="banana").fit(
                "demo", trials=0, time_limit="soon", reuse=["nowhere"], raw="nowhere"
            )
        assert [problem.split()[0] for problem in error.value.problems] == [
            "time_limit", "trials", "raw", "device", "reuse",
        ]  # fmt: skip
        assert "--" not in str(error.value)
        with pytest.raises(UsageError, match="fit has no option 'tials': did you mean 'trials'"):
            Predictor(path="run").fit("demo", tials=3)
        assert not list(workplace.iterdir())

    def test_options_of_a_strategy_object(self, workplace):
        with pytest.raises(UsageError, match="no encoder 'mpl': did you mean 'mlp'"):
            Predictor(path="run").fit(synthetic(), strategy=MixMAS(encoders=["mpl"]))
        assert not list(workplace.iterdir())

    def test_before_fitting(self):
        with pytest.raises(RunFolderError, match="nothing was fitted yet"):
            Predictor().predict({})

    def test_a_folder_that_exists_is_told_before_the_data_are_opened(self, finished):
        with pytest.raises(PolymixError, match="polymix resume") as error:
            Predictor(path=finished).fit("dmo")
        assert len(error.value.problems) == 2

    def test_an_attribute_that_is_not_there(self):
        with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
            polymix.Predicter  # noqa: B018


class TestResuming:
    def test_data_given_as_an_object_are_given_again(self, workplace):
        data = synthetic()
        with pytest.raises(KeyboardInterrupt):
            Predictor(path="run").fit(data, options=TINY, callbacks=[StopAfter(4)])
        with pytest.raises(UsageError, match="were an object: give them again"):
            Predictor.resume("run")
        with pytest.raises(RunFolderError, match="belongs to other data"):
            Predictor.resume("run", synthetic(rows=80))
        resumed = Predictor.resume("run", data).leaderboard()
        whole = Predictor(path="whole").fit(data, options=TINY).leaderboard()
        same = ["architecture", "score_val", "seeds", "params", "role", "rank"]
        assert resumed[same].equals(whole[same])

    def test_only_the_given_data_are_evaluated(self, workplace):
        data = synthetic()
        Predictor(path="run").fit(data, options=TINY)
        with pytest.raises(UsageError, match="give them again"):
            Predictor.load("run").evaluate()
        assert Predictor.load("run").evaluate(data)["n"] == len(data.split.test)


def test_a_time_limit_is_kept(workplace):
    start = time.monotonic()
    predictor = Predictor(path="run").fit(synthetic(rows=200), time_limit=5)
    taken = time.monotonic() - start
    assert taken < 9  # loading and the last trial's end included
    assert predictor.leaderboard_json()["status"] == "finished"
    assert predictor.predict({"table": np.zeros((2, 4), np.float32)}).shape == (2,)


def test_folders_are_named_after_the_data(workplace):
    runs = [Predictor().fit(synthetic(), options=TINY, trials=3).path for _ in range(2)]
    assert [str(path) for path in runs] == ["runs/toy", "runs/toy-2"]


def test_the_same_seed_makes_the_same_run(workplace):
    boards = [
        Predictor(path=f"run{k}").fit(synthetic(), options=TINY, seed=seed).leaderboard()
        for k, seed in enumerate((4, 4, 5))
    ]
    same = [board[["architecture", "score_val"]] for board in boards]
    assert same[0].equals(same[1])
    assert not same[0].equals(same[2])
