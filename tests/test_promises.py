"""Promises that cross the parts: absence, strategy objects, finished runs, reuse, new data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polymix.data.dataset import Dataset
from polymix.errors import DataError, UsageError
from polymix.methods.m2_mixer.m2_mixer import M2Mixer
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.predictor import Predictor
from polymix.records import Role
from polymix.search.callbacks import Callback
from polymix.testing import toy_dataset

QUICK = {"encoders": ["mlp"], "networks": ["none"], "fusions": ["concat"], "epochs": 1,
         "full_epochs": 1}  # fmt: skip


class Fresh(Callback):
    """Counts what is trained."""

    def __init__(self) -> None:
        self.made: list[tuple[Role, str]] = []

    def on_trial_end(self, trial, role, fresh):
        if fresh:
            self.made.append((role, str(trial.proposal.genotype)))


def with_holes(value: float) -> Dataset:
    """Rows of which a tenth lack the table, with `value` where it would be."""
    data = toy_dataset(absent=0.1)
    name = data.schema.names[-1]
    array = data.arrays[name].copy()
    array[~data.present[:, -1]] = value
    return replace(data, arrays={**data.arrays, name: array})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_lies_in_an_absent_cell_changes_nothing(tmp_path, value):
    runs = []
    for i, spoilt in enumerate((0.0, value)):
        predictor = Predictor(path=tmp_path / str(i), device="cpu")
        predictor.fit(with_holes(spoilt), options=QUICK, trials=12)
        rows = predictor.leaderboard()
        assert set(rows["status"]) == {"done"}
        runs.append(rows[["architecture", "score_val"]].values.tolist())
    assert runs[0] == runs[1]


def test_absent_cells_of_new_rows_change_nothing(tmp_path):
    data = toy_dataset(absent=0.1)
    predictor = Predictor(path=tmp_path / "run", device="cpu").fit(data, options=QUICK, trials=8)
    arrays = {name: np.asarray(a[:4]).copy() for name, a in data.arrays.items()}
    last = data.schema.names[-1]
    present = {last: np.array([True, False, True, False])}
    plain = predictor.predict_proba(arrays, present)
    arrays[last][[1, 3]] = np.nan
    assert np.array_equal(plain, predictor.predict_proba(arrays, present))


@pytest.mark.parametrize("strategy", [MixMAS(**QUICK), M2Mixer(epochs=1)])
def test_a_strategy_object_serves_any_number_of_runs(tmp_path, strategy):
    data = toy_dataset()
    boards = []
    for i in range(2):
        predictor = Predictor(path=tmp_path / str(i), device="cpu")
        predictor.fit(data, strategy=strategy, trials=10)
        boards.append(predictor.leaderboard()[["architecture", "score_val"]].values.tolist())
    assert boards[0] == boards[1]


def test_a_finished_run_stays_as_it_is(tmp_path):
    data = toy_dataset()
    path = tmp_path / "run"
    Predictor(path=path, device="cpu").fit(data, options=QUICK, trials=8)
    before = {
        p.name: p.read_bytes() for p in path.iterdir() if p.is_file() and "lock" not in p.name
    }
    watch = Fresh()
    Predictor.resume(path, callbacks=[watch])  # without its data: there is nothing to do
    assert watch.made == []
    after = {p.name: p.read_bytes() for p in path.iterdir() if p.is_file() and "lock" not in p.name}
    assert before.keys() == after.keys()
    assert all(before[n] == after[n] for n in before if "sqlite" not in n)


def test_one_more_encoder_costs_its_trials_and_what_follows(tmp_path):
    data = toy_dataset()
    few = {**QUICK, "encoders": ["mlp", "mlp-mixer"], "networks": ["none", "mlp-mixer"]}
    more = {**few, "encoders": ["mlp", "mlp-mixer", "hyper-mixer"]}
    first = Predictor(path=tmp_path / "first", device="cpu").fit(data, options=few)
    watch = Fresh()
    second = Predictor(path=tmp_path / "second", device="cpu")
    second.fit(data, options=more, reuse=[tmp_path / "first"], callbacks=[watch])
    chosen = [
        dict(r["genotype"]["encoders"])
        for p in (first, second)
        for r in p.leaderboard_json()["rows"]
        if r["role"] == "winner"
    ]
    probes = [g for role, g in watch.made if role is Role.SEARCH and " + " not in g]
    assert probes
    assert all("hyper-mixer" in g for g in probes)
    if chosen[0] == chosen[1]:
        # The choice stood: nothing is new but the newcomer, and random draws that it won.
        assert all("hyper-mixer" in g for _, g in watch.made)


def test_new_data_are_normalised_as_the_training_rows_were(tmp_path):
    data = toy_dataset()
    predictor = Predictor(path=tmp_path / "run", device="cpu").fit(data, options=QUICK, trials=8)
    shifted = {
        m.name: m.model_copy(
            update={
                "statistics": m.statistics.model_copy(
                    update={"mean": (9.0,) * len(m.statistics.mean)}
                )
            }
        )
        for m in data.schema.modalities
    }
    schema = data.schema.model_copy(update={"modalities": tuple(shifted.values())})
    other = replace(data, schema=schema)
    assert np.array_equal(predictor.predict_proba(data), predictor.predict_proba(other))


def test_data_of_another_shape_are_refused(tmp_path):
    data = toy_dataset()
    predictor = Predictor(path=tmp_path / "run", device="cpu").fit(data, options=QUICK, trials=8)
    with pytest.raises(DataError, match="expected, but"):
        predictor.predict_proba(toy_dataset(modalities=("series",)))


def test_a_metric_without_meaning_is_refused_before_anything_is_written(tmp_path):
    data = toy_dataset(classes=3)
    targets = data.targets.copy()
    targets[data.split.val] = 0
    path = tmp_path / "run"
    with pytest.raises(UsageError, match="undefined on the validation rows"):
        Predictor(path=path, eval_metric="roc_auc", device="cpu").fit(
            replace(data, targets=targets), options=QUICK
        )
    assert not path.exists()


def test_a_run_that_ships_trees_is_used_like_any_other(tmp_path):
    data = toy_dataset(240, ("table",), noise=0.3)
    arrays = {"table": np.abs(data.arrays["table"]).astype(np.float32)}
    targets = (arrays["table"][:, 0] > 1).astype(np.int64) + (arrays["table"][:, 1] > 1)
    data = replace(data, arrays=arrays, targets=targets)  # steps, which trees are made for
    predictor = Predictor(path=tmp_path / "run", device="cpu").fit(data, options=QUICK, trials=20)
    board = predictor.leaderboard()
    best = board[board["rank"] == 1].iloc[0]
    assert best["role"] == "gradient boosting"
    assert board[board["label"] == "gradient boosting"].iloc[0]["seeds"] == 3
    assert predictor.leaderboard_json()["chosen"]["rank"] == 1
    predictor.save(tmp_path / "copy")
    rows = {"table": arrays["table"][:30]}
    present = {"table": np.arange(30) % 2 == 0}
    one = predictor.predict_proba(rows, present)
    other = Predictor.load(tmp_path / "copy").predict_proba(rows, present)
    np.testing.assert_array_equal(one, other)
    assert len({row.tobytes() for row in one[1::2]}) == 1  # nothing there: all alike
    assert predictor.evaluate(data)["metrics"]["accuracy"]["value"] > 0.9
