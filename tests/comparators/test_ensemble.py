"""Ensembles: greedy weights, the mean as a model, and its place among the finalists."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymix.comparators.ensemble.genotype import EnsembleGenotype, Member
from polymix.data.batch import RowSource
from polymix.data.schema import Task
from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.nn.build import build_seeded, versions
from polymix.predictor import Predictor
from polymix.scoring.greedy import greedy_weights
from polymix.scoring.metrics import METRICS
from polymix.space.mix import MixGenotype
from polymix.testing import toy_dataset
from polymix.testing.strategies import Watch
from polymix.train.objective import Objective

MLP = Block.of("mlp", channels=8, layers=1)
ALONE = [MixGenotype.single(name, MLP) for name in ("series", "table")]
PAIR = EnsembleGenotype(
    members=(Member(genotype=ALONE[0], weight=0.25), Member(genotype=ALONE[1], weight=0.75))
)


@settings(max_examples=25)
@given(models=st.integers(1, 5), rows=st.integers(5, 40), seed=st.integers(0, 99))
def test_greedy_weights_are_shares_and_no_worse_than_the_best(models, rows, seed):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, rows)
    predictions = [rng.dirichlet(np.ones(3), rows) for _ in range(models)]
    metric = METRICS["accuracy"]
    weights = greedy_weights(metric, targets, predictions)
    assert sum(weights.values()) == pytest.approx(1)
    assert list(weights) == sorted(weights)
    mean = sum(w * predictions[i] for i, w in weights.items())
    assert metric(targets, mean) >= max(metric(targets, p) for p in predictions) - 1e-12
    assert greedy_weights(metric, targets, predictions, steps=1).keys() <= set(range(models))


def test_two_that_err_apart_are_joined():
    targets = np.array([0, 0, 1, 1])
    one = np.array([[0.9, 0.1], [0.45, 0.55], [0.1, 0.9], [0.1, 0.9]])
    other = np.array([[0.45, 0.55], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    assert greedy_weights(METRICS["accuracy"], targets, [one, other, other[::-1]]) == {
        0: 0.5, 1: 0.5
    }  # fmt: skip


@pytest.mark.parametrize("task", Task)
def test_it_is_the_mean_of_what_its_members_predict(task):
    classes = {Task.BINARY: 2, Task.REGRESSION: 1}.get(task, 3)
    data = toy_dataset(60, ("series", "table"), task=task, classes=classes)
    members = [build_seeded(g, data.schema, 0).eval() for g in ALONE]
    model = build_seeded(PAIR, data.schema, 1).eval()
    for position, member in enumerate(members):
        model.take(position, member.state_dict())
    batch = RowSource(data, torch.device("cpu")).batch(np.arange(20))
    objective = Objective(data.schema)
    with torch.no_grad():
        parts = [
            objective.predict(m({n: batch.inputs[n] for n in m.encoders}, batch.present).fused)
            for m in members
        ]
        found = objective.predict(model(batch.inputs, batch.present).fused)
    torch.testing.assert_close(found, 0.25 * parts[0] + 0.75 * parts[1], atol=1e-6, rtol=1e-5)
    assert list(model.encoders) == ["series", "table"]


def test_the_genotype():
    again = parse_genotype(PAIR.to_json())
    assert again == PAIR
    assert hash(again) == hash(PAIR)
    assert str(PAIR).startswith("0.25 (")
    assert versions(PAIR).keys() == {"ensemble", "mlp"}
    told = json.loads(PAIR.to_json())
    for change, said in (
        ({"members": []}, "at least 1"),
        ({"members": told["members"][:1]}, "must sum to 1"),
        ({"members": [{"genotype": told, "weight": 1.0}]}, "no ensembles"),
        ({"members": [{"genotype": {"kind": "mixx"}, "weight": 1.0}]}, "no genotype of kind"),
    ):
        with pytest.raises(GenotypeError, match=said):
            parse_genotype(json.dumps({**told, **change}))


def quick():
    return MixMAS(
        encoders={"series": ["mlp", "mlp-mixer"]}, epochs=1, full_epochs=3, networks=["none"]
    )


def test_it_stands_among_the_finalists(tmp_path):
    data = toy_dataset(120, ("series", "table"))
    watch = Watch()
    predictor = Predictor(path=tmp_path / "run", device="cpu")
    predictor.fit(data, strategy=quick(), trials=40, ensemble=True, callbacks=[watch])
    board = predictor.leaderboard_json()
    (row,) = [r for r in board["rows"] if r["role"] == "ensemble" and "roles" in r]
    assert row["seeds"] == 3
    assert row["label"] == "ensemble"
    rest = [r for r in board["rows"] if "roles" in r and r is not row]
    seeds = range(3)
    # No worse on validation rows, seed by seed, than the best of what it was made of.
    for seed in seeds:
        assert row["trials"][seed]["score_val"] >= max(
            r["trials"][seed]["score_val"] for r in rest
        ) - 1e-9  # fmt: skip
    found = predictor.evaluate(data)
    assert "ensemble" in {f["role"] for f in found["finalists"]}
    plain = Predictor(path=tmp_path / "plain", device="cpu")
    plain.fit(data, strategy=quick(), trials=40, reuse=[tmp_path / "run"])
    assert "ensemble" not in {r["role"] for r in plain.leaderboard_json()["rows"]}


def test_a_run_that_ships_it_is_used_like_any_other(tmp_path, monkeypatch):
    data = toy_dataset(120, ("series", "table"))
    from polymix.search import standings as s

    cost = s._cost

    def free(finalist):
        found = cost(finalist)
        return replace(found, flops=0) if finalist.label == "ensemble" else found

    monkeypatch.setattr(s, "_cost", free)  # of those that tie, the cheapest is shipped
    predictor = Predictor(path=tmp_path / "run", device="cpu")
    predictor.fit(data, strategy=quick(), trials=20, ensemble=True)
    genotype = json.loads((tmp_path / "run" / "genotype.json").read_text())
    assert genotype["kind"] == "ensemble"
    predictor.save(tmp_path / "copy")
    rows = {name: array[:10] for name, array in data.arrays.items()}
    one = predictor.predict_proba(rows)
    np.testing.assert_array_equal(one, Predictor.load(tmp_path / "copy").predict_proba(rows))
    np.testing.assert_allclose(one.sum(1), 1, atol=1e-5)
    assert predictor.evaluate(data)["n"] == len(data.split.test)
