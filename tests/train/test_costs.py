"""Parameters and FLOPs of what is proposed."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from polymix.errors import CostError, GenotypeError, MissingExtraError
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.encoders.mlp import MLPEncoder
from polymix.nn.model import MixModel, blank
from polymix.records import Cost, Recipe
from polymix.space.mix import MixGenotype
from polymix.testing import toy_dataset
from train.common import MIX, MLP, proposal, run_all


def test_cost_is_the_flop_counters(evaluator, dataset):
    model = MixModel(MIX, dataset.schema).eval()
    inputs = {name: blank(dataset.schema, name) for name in ("series", "table")}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    parameters = sum(p.numel() for p in model.parameters())
    assert evaluator.cost(MIX) == Cost(parameters, counter.get_total_flops())
    ((trial, _),) = run_all(evaluator, proposal(MIX, 1))
    assert (trial.cost.params, trial.cost.flops) == (parameters, counter.get_total_flops())


def test_cost_by_hand(evaluator):
    cost = evaluator.cost(MixGenotype.single("series", Block.of("mlp", channels=8, layers=2)))
    sizes = [(18, 8), (8, 8), (8, 3)]
    assert cost.flops == sum(2 * a * b for a, b in sizes)
    assert cost.params == sum(a * b + b for a, b in sizes)


def test_what_a_candidate_raises_is_a_cost_error_and_logged_once(evaluator, monkeypatch, caplog):
    def broken(self, x):
        raise raised

    monkeypatch.setattr(MLPEncoder, "features", broken)
    genotype = MixGenotype.single("series", Block.of("mlp", channels=7))
    raised: Exception = ZeroDivisionError("no rows")
    with caplog.at_level(logging.DEBUG, "polymix"):
        for _ in range(2):
            with pytest.raises(CostError, match="ZeroDivisionError: no rows") as caught:
                evaluator.costs.trained(genotype, Recipe())
            assert caught.value.__cause__ is raised
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.exc_info
    assert record.exc_info[1] is raised
    raised = GenotypeError(["one", "two"])
    with pytest.raises(CostError) as caught:
        evaluator.costs.trained(genotype, Recipe())
    assert caught.value.problems == ("one", "two")
    raised = MissingExtraError("no fault of the candidate")
    with pytest.raises(MissingExtraError):
        evaluator.costs.of(genotype)
    monkeypatch.setattr(catalog, "make_encoder", lambda *_: 1 / 0)
    with pytest.raises(CostError, match="division by zero"):
        evaluator.costs.of(genotype)


def test_cost_knows_of_absent_tokens(evaluator):
    image = Block.of("mlp", channels=4)
    genotype = MixGenotype(encoders=(("table", MLP), ("image", image)), fusion="concat")
    plain = evaluator.cost(genotype, Recipe())
    assert evaluator.cost(genotype, Recipe(modality_dropout=0.1)).params == plain.params + 4


def test_cost_where_the_first_modality_is_optional(make_evaluator):
    data = toy_dataset(150, ("series", "table"))
    turned = toy_dataset(150, ("table", "series"))
    for dataset in (data, turned):  # the last modality is the optional one
        first = replace(dataset, schema=dataset.schema.model_copy(update={"modalities": tuple(
            m.model_copy(update={"optional": i == 0})
            for i, m in enumerate(dataset.schema.modalities))}))  # fmt: skip
        evaluator = make_evaluator(first)
        plain = evaluator.cost(MIX, Recipe())
        assert evaluator.cost(MIX, Recipe(modality_dropout=0.1)).params == plain.params + 8
