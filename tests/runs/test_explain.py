"""Shapley values that are Shapley's, and explanations of models whose workings are known."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from polymix import Predictor
from polymix.cli.reports import show_explanation
from polymix.data.schema import Task
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
    assert found["model"] == "the model that ships"
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
