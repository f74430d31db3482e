"""Shapley values that are Shapley's, and explanations of models whose workings are known."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli_support import LEARNS, synthetic
from polymix import Predictor
from polymix.cli.reports import show_explanation
from polymix.data.schema import Task
from polymix.data.split import SealedRows, Split
from polymix.errors import DataError, RunFolderError, UsageError
from polymix.genotype import Block
from polymix.runs.explain import sampled_shares, shapley_shares
from polymix.space.mix import MixGenotype
from polymix.store.run_folder import RunFolder

from .common import dataset, run_folder

GENOTYPE = MixGenotype(
    encoders=(("photo", Block.of("mlp")), ("columns", Block.of("mlp"))), fusion="concat"
)


def value(shares, worth):
    return sum(share * worth[coalition] for coalition, share in shares.items())


@st.composite
def games(draw):
    """Players, and the worth of every coalition."""
    players = tuple("abcde"[: draw(st.integers(1, 5))])
    number = st.floats(-10, 10)
    return players, {
        frozenset(p for i, p in enumerate(players) if code >> i & 1): draw(number)
        for code in range(2 ** len(players))
    }


@given(games())
def test_the_values_add_up(game):
    players, worth = game
    gained = worth[frozenset(players)] - worth[frozenset()]
    exact = [value(shapley_shares(p, players), worth) for p in players]
    assert sum(exact) == pytest.approx(gained, abs=1e-9)
    drawn = [value(shares, worth) for shares in sampled_shares(players, 8).values()]
    assert sum(drawn) == pytest.approx(gained, abs=1e-9)


@given(games(), st.floats(-3, 3))
def test_a_player_that_only_adds_has_what_it_adds(game, added):
    players, worth = game
    whole = worth | {c | {"z"}: v + added for c, v in worth.items()}
    assert value(shapley_shares("z", (*players, "z")), whole) == pytest.approx(added, abs=1e-9)


def test_a_game_of_three_by_hand():
    # A glove game: a has the left glove, b and c each a right one (Shapley: 2/3, 1/6, 1/6).
    players = ("a", "b", "c")
    worth = {
        frozenset(c): float("a" in c and len(c) > 1)
        for c in ("", "a", "b", "c", "ab", "ac", "bc", "abc")
    }
    found = [value(shapley_shares(p, players), worth) for p in players]
    assert found == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    drawn = sampled_shares(players, 4000)
    assert [value(drawn[p], worth) for p in players] == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.REGRESSION])
def test_an_explanation(task, tmp_path):
    data = dataset("photo", "columns", rows=60, task=task)
    run_folder(tmp_path / "run", GENOTYPE, data)
    found = Predictor.load(tmp_path / "run").explain(data)
    assert (found["schema_version"], found["split"], found["n"]) == (1, "validation", 21)
    assert found["exact"]
    assert found["fusion"] is None
    assert found["fusion_missing"] == "there is no single modality to compare with"
    assert {m["name"] for m in found["modalities"]} == {"photo", "columns"}
    total = sum(m["shapley"]["value"] for m in found["modalities"])
    gained = found["score"]["value"] - found["nothing"]["value"]
    assert total == pytest.approx(gained, abs=1e-6)
    for modality in found["modalities"]:
        low, high = modality["shapley"]["ci"]
        assert low <= modality["shapley"]["value"] <= high
        assert 0 < modality["present"] < 1
    few = Predictor.load(tmp_path / "run").explain(data, rows=5)
    assert (few["n"], few["of"]) == (5, 21)
    with pytest.raises(UsageError, match=r"^rows must be at least 1, but got 0"):
        Predictor.load(tmp_path / "run").explain(data, rows=0)


def test_one_row_says_what_can_be_said(tmp_path):
    """R² of one row is undefined: so is every share of it, and nothing breaks."""
    data = dataset("photo", "columns", rows=60, task=Task.REGRESSION)
    run_folder(tmp_path / "run", GENOTYPE, data)
    found = Predictor.load(tmp_path / "run").explain(data, rows=1)
    assert found["n"] == 1
    assert [m["shapley"]["value"] for m in found["modalities"]] == [None, None]
    show_explanation(Console(file=io.StringIO()), found)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    data = dataset("photo", "columns", rows=60, task=Task.REGRESSION)
    model = run_folder(tmp_path / "run", GENOTYPE, data).model
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with RunFolder.open(tmp_path / "run", write=True) as folder:
        folder.finish_model(folder.genotype_json, model.state_dict(), folder.metrics)
    for ask in ("explain", "predict_proba", "robustness", "evaluate"):
        with pytest.raises(RunFolderError, match=r"not all weights are numbers \(head.weight\)"):
            getattr(Predictor.load(tmp_path / "run"), ask)(data)


def test_a_modality_that_the_head_does_not_hear_matters_nothing(tmp_path):
    data = dataset("photo", "columns", rows=60)
    path = tmp_path / "run"
    model = run_folder(tmp_path / "draft", GENOTYPE, data).model
    width = model.encoders["photo"].channels
    with torch.no_grad():
        model.head.weight[:, :width] = 0
    with RunFolder.open(tmp_path / "draft", write=True) as folder:
        folder.finish_model(folder.genotype_json, model.state_dict(), folder.metrics)
    (tmp_path / "draft").rename(path)
    found = {m["name"]: m for m in Predictor.load(path).explain(data)["modalities"]}
    for what in ("shapley", "ablation"):
        assert found["photo"][what]["value"] == pytest.approx(0, abs=1e-9)
        assert found["photo"][what]["ci"] == pytest.approx([0, 0], abs=1e-9)


def test_rows_of_ones_own(tmp_path):
    run_folder(tmp_path / "run", GENOTYPE, dataset("photo", "columns", rows=60))
    predictor = Predictor.load(tmp_path / "run")
    other = dataset("photo", "columns", rows=30, task=Task.MULTICLASS, seed=1)
    assert predictor.explain(other)["split"] == "given"
    assert predictor.explain(other)["n"] == 30
    other.targets[:] = -1
    with pytest.raises(DataError, match="no row has a label in 'y'"):
        predictor.explain(other)
    other.targets[:4] = 0
    assert predictor.robustness(other)["n"] == 4
    assert len(predictor.predictions(other)) == 30
    assert not np.array_equal(predictor.predict_proba(other)[0], predictor.predict_proba(other)[1])


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTILABEL])
def test_what_fusion_gained_on_rows_that_are_not_the_runs(task, tmp_path):
    data = synthetic(task)
    predictor = Predictor(path=tmp_path / "run").fit(data, options=LEARNS, strategy="mixmas")
    own, other = predictor.explain(data), predictor.explain(replace(data, fingerprint="other"))
    assert (own["split"], own["n"], other["split"]) == ("validation", 30, "given")
    for found in (own, other):
        assert found["fusion_missing"] is None
        gain = found["score"]["value"] - found["fusion"]["score"]["value"]
        assert found["fusion"]["gain"]["value"] == pytest.approx(gain, abs=1e-9)
        assert found["fusion"]["modality"] in ("picture", "table")
    # What was decided on validation rows is what is said of the same rows as anybody's.
    val = data.split.val
    nobody = np.zeros(0, np.int64)
    same = replace(
        data, fingerprint="other", present=data.present[val], targets=data.targets[val],
        arrays={name: array[val] for name, array in data.arrays.items()},
        split=Split(nobody, nobody, SealedRows(np.arange(len(val)))),
    )  # fmt: skip
    again = predictor.explain(same)
    assert again["n"] == own["n"]
    assert again["fusion"]["score"]["value"] == pytest.approx(own["fusion"]["score"]["value"])


def test_a_model_of_one_modality_fuses_nothing(tmp_path):
    data = dataset("photo", "columns", rows=60)
    alone = MixGenotype(encoders=(("columns", Block.of("mlp")),))
    run_folder(tmp_path / "run", alone, data)
    found = Predictor.load(tmp_path / "run").explain(data)
    assert (found["fusion"], found["fusion_missing"]) == (None, "the model reads columns alone")
    console = Console(record=True, width=100, file=io.StringIO())
    show_explanation(console, found)
    assert "did fusion help: the model reads columns alone" in console.export_text()


def test_weights_of_folds_are_not_kept(tmp_path):
    data = synthetic(Task.BINARY)
    folds = np.arange(len(data.split.development)) % 3
    data = replace(data, split=replace(data.split, folds=folds))
    predictor = Predictor(path=tmp_path / "run").fit(data, options=LEARNS, strategy="mixmas")
    found = predictor.explain(data)
    assert predictor.leaderboard_json()["fusion_gain"] is not None
    assert found["fusion"] is None
    assert found["fusion_missing"] == (
        "the weights of table alone were not kept: see the leaderboard"
    )
