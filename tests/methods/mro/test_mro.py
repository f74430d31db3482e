"""MRO: the graph, the ranks, the scores of masks, the search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import stratified_codes
from polymix.errors import UsageError
from polymix.methods.mro.graph import (
    ModalRelationGraph,
    hard_ranks,
    hinge_term,
    rank_term,
    soft_ranks,
    spearman,
    standardised,
)
from polymix.methods.mro.mro import MRO
from polymix.methods.mro.scores import MaskScores, attention_variance
from polymix.methods.strategies import make_strategy
from polymix.nn.build import build
from polymix.nn.model import load_matching
from polymix.scoring.metrics import metric_for
from polymix.testing import run_strategy, toy_dataset
from polymix.testing.toy_data import MODALITIES
from polymix.train.learner import SingleLearner
from polymix.train.objective import Objective
from polymix.train.validate import validate
from search.common import task

TINY = {
    "dim": 8, "heads": 2, "ff": 1, "horizon": 2, "masks": 3, "probe_epochs": 1, "full_epochs": 1,
}  # fmt: skip


def searched(dataset, folder, **options):
    strategy = MRO(**{**TINY, **options})
    return strategy, run_strategy(strategy, dataset, folder, trials=6)


def of_modalities(k):
    """A dataset of k modalities: three of the toy's, and one of them again."""
    names = ("series", "table", "image")[:k]
    dataset = toy_dataset(60, names, absent=0.3)
    if k < 4:
        return dataset
    again = MODALITIES["table"].model_copy(update={"name": "again", "optional": True})
    schema = dataset.schema.model_copy(update={"modalities": (*dataset.schema.modalities, again)})
    arrays = {**dataset.arrays, "again": dataset.arrays["table"][::-1].copy()}
    present = np.concatenate([dataset.present, dataset.present[:, -1:]], 1)
    return replace(dataset, schema=schema, arrays=arrays, present=present)


# The graph and the ranks.


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_graph_scores_every_edge_and_learns_any_order(k):
    torch.manual_seed(0)
    graph = ModalRelationGraph(k)
    measures = torch.rand(3, k * (k - 1))
    scores = graph(measures)
    shares = graph.shares(scores).reshape(k, k - 1)
    assert scores.shape == (k * (k - 1),)
    assert torch.allclose(shares.sum(1), torch.ones(k))
    # One edge from each end of a pair: (0, 1) above, (1, 0) below, whatever was measured.
    optimizer = torch.optim.Adam(graph.parameters(), 0.05)
    wanted = torch.zeros(k * (k - 1))
    wanted[0], wanted[k - 1] = 1, -1
    for _ in range(150):
        optimizer.zero_grad()
        ((graph(measures) - wanted) ** 2).sum().backward()
        optimizer.step()
    if k > 2:  # of one neighbour there is no share to learn
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in graph.parameters())
    assert torch.allclose(graph(measures), wanted, atol=0.15)


def test_without_the_graph_scores_are_free():
    graph = ModalRelationGraph(3, graph=False)
    assert torch.equal(graph(torch.rand(3, 6)), torch.zeros(6))
    assert sum(p.numel() for p in graph.parameters()) == 6


def test_measurements_are_standardised_across_edges():
    found = standardised(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.0, 0.0, 1.0]]))
    assert torch.allclose(found.mean(1), torch.zeros(3), atol=1e-6)
    assert torch.allclose(found.square().mean(1), torch.tensor([1.0, 0.0, 1.0]))


def test_ranks():
    scores = torch.tensor([3.0, 1.0, 3.0, 7.0])
    assert hard_ranks(scores).tolist() == [2.5, 4, 2.5, 1]
    assert torch.allclose(soft_ranks(100 * scores), hard_ranks(scores))
    assert spearman(scores, scores) == pytest.approx(1)
    assert spearman(scores, -scores) == pytest.approx(-1)
    assert spearman(scores, torch.ones(4)) == 0


@pytest.mark.parametrize(("power", "value"), [("0", 2 / 3), ("1", 4 / 3), ("2", 8 / 3), ("inf", 2)])
def test_the_rank_term(power, value):
    prior = torch.tensor([0.0, 100.0, 200.0], requires_grad=True)  # ranks 3, 2, 1
    term = rank_term(prior, torch.tensor([9.0, 5.0, 1.0]), power)  # ranks 1, 2, 3
    assert float(term.detach()) == pytest.approx(value, rel=0.01)
    near = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    term = rank_term(near, torch.tensor([9.0, 5.0, 1.0]), power)
    assert term.requires_grad == (power != "0")
    if power != "0":
        term.backward()
        assert near.grad[0] < 0 < near.grad[2]


def test_the_hinge_asks_of_the_losses_that_they_follow_the_prior():
    losses = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    assert float(hinge_term(losses, torch.tensor([0.0, 2.0, 1.0])).detach()) == 0
    term = hinge_term(losses, torch.tensor([2.0, 1.0, 0.0]))
    assert float(term.detach()) == pytest.approx((2 + 1) / 3)
    term.backward()
    assert losses.grad.tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3])
    assert float(hinge_term(losses[:1], torch.ones(1)).detach()) == 0


def test_the_variance_of_attention_leaves_padding_out():
    weights = torch.tensor([0.5, 0.5, 0.0, 0.0]).reshape(1, 1, 1, 4)
    assert float(attention_variance(weights, None)) == pytest.approx(1 / 16)
    there = torch.tensor([[True, True, False, False]])
    assert float(attention_variance(weights, there)) == 0


# Scores.


def test_what_is_chosen_by_scores():
    masks = np.array([[0, 1], [1, 0], [1, 1]], np.uint8)
    found = MaskScores(
        masks, np.array([0.7, 0.6, 0.75]), np.array([0.5, 0.6, 0.4]), np.array([10, 8, 20])
    )
    assert found.order().tolist() == [2, 0, 1]
    assert found.order(0.2).tolist() == [0, 2, 1]
    assert found.front().tolist() == [1, 0, 2]
    assert found.regret(masks[:2]) == (pytest.approx(0.05), 2)
    assert found.regret(masks) == (0, 1)
    tied = replace(found, scores=np.ones(3))
    assert tied.order().tolist() == [1, 0, 2]
    assert tied.front().tolist() == [1]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_every_mask_scores_as_by_itself(k, tmp_path):
    dataset = of_modalities(k)
    strategy, record = searched(dataset, tmp_path)
    scores = strategy.scores
    assert len(scores.masks) == 2 ** (k * (k - 1)) - 1
    objective, metric = Objective(dataset.schema), metric_for(dataset.schema.target.task)
    source = RowSource(dataset, torch.device("cpu"))
    val = dataset.split.val
    for at in range(0, len(scores.masks), 1 if k < 4 else 400):
        genotype = strategy._space.genotype(scores.masks[at].tolist())
        alone = build(genotype, dataset.schema)
        load_matching(alone, strategy.supernet.state_dict())
        predictions, losses, _ = validate(SingleLearner(alone, False), source, val, objective)
        assert scores.losses[at] == pytest.approx(losses[0], abs=1e-5)
        assert scores.scores[at] == pytest.approx(metric(dataset.targets[val], predictions[0]))
        assert scores.flops[at] == strategy._task.cost(genotype, strategy._recipe()).flops
    numbers = dict(record.epochs[-1].numbers)
    assert numbers["regret"] >= 0
    assert 1 <= numbers["rank"] <= len(scores.masks)
    assert all(-1 <= dict(r.numbers)["rho"] <= 1 for r in record.epochs)
    best = scores.scores[scores.order()[0]]
    assert best == scores.scores.max()


@pytest.mark.parametrize(
    "options",
    [
        {"prior": False},
        {"graph": False},
        {"rank_term": "none"},
        {"rank_term": "hinge"},
        *({"p": p} for p in ("0", "2", "inf")),
        {"exhaustive": False},
        {"encoders": {"series": "mlp-mixer", "table": "mlp"}, "warmup": 0.0},
        {"init": "supernet", "flops_weight": 0.5, "top": 2},
    ],
    ids=str,
)
def test_every_variant_searches(options, tmp_path):
    strategy, record = searched(toy_dataset(60, ("series", "table")), tmp_path, **options)
    assert len(record.epochs) == 2
    sampled = len(strategy.scores.masks) if options.get("exhaustive") is False else None
    numbers = dict(record.epochs[-1].numbers)
    assert sampled in (None, numbers["sampled"])
    assert ("regret" in numbers) == ("exhaustive" not in options)
    winner = record.trials[-1]
    assert winner["status"] == "done"


def test_a_graph_that_no_rank_trains_stays_as_it_was(tmp_path):
    dataset = toy_dataset(60, ("series", "table"))
    kept = {}
    for name, options in (("still", {"rank_term": "none"}), ("moved", {})):
        strategy, _ = searched(dataset, tmp_path / name, **options)
        kept[name] = strategy._prior.graph.weights.detach()
    assert torch.equal(kept["still"], torch.full((3,), 1 / 3))
    assert not torch.equal(kept["moved"], kept["still"])


def test_finalists_start_from_the_supernet_where_asked(tmp_path):
    _, record = searched(toy_dataset(60, ("series", "table")), tmp_path, init="supernet")
    winner = next(t for t in record.trials if t["role"] == "winner")
    single = next(t for t in record.trials if t["role"] == "single")
    assert len(winner["init"]) == 1
    assert single["init"] == ()


def test_before_the_search_the_full_network_is_proposed():
    strategy = MRO(**TINY)
    strategy.setup(task(toy_dataset(60).schema))
    assert [p.genotype.mask for p in strategy.derive()] == [(1,) * 6]
    assert strategy.size() == 63


def planted(seed, rows=1000, keys=3):
    """Labels from text asking audio, and vision asking text, alone.

    Audio holds a number a key, and text says which of them counts; text holds a number a key, and
    vision says which of them counts. The label is the sign of the sum of both.
    """
    rng = np.random.default_rng(seed)
    of_audio, of_text = rng.integers(0, keys, (2, rows))
    audio, text = rng.standard_normal((2, rows, keys))
    asks = np.eye(keys)[of_audio][:, None].repeat(keys, 1)
    arrays = {
        "text": np.concatenate([text[..., None], asks], 2),
        "audio": audio[..., None],
        "vision": np.eye(keys)[of_text][:, None],
    }
    every = np.arange(rows)
    total = audio[every, of_audio] + text[every, of_text] + 0.1 * rng.standard_normal(rows)
    targets = (total > 0).astype(np.int64)
    schema = Schema(
        modalities=tuple(
            Modality(name=n, kind=Kind.FEATURES, shape=a.shape[1:], dtype="float32")
            for n, a in arrays.items()
        ),
        target=Target(name="y", task=Task.BINARY, classes=("no", "yes")),
    )
    codes = stratified_codes(targets, 0.3, 0.1, seed)
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return Dataset.from_arrays("planted", schema, floats, targets, codes)


@pytest.mark.slow
def test_planted_edges_are_found(tmp_path):
    both, above = 0, 0
    for seed in range(5):
        strategy = MRO(
            dim=16, heads=2, ff=2, horizon=20, masks=6, lr=5e-3, dropout=0.0, probe_epochs=1,
            full_epochs=1,
        )  # fmt: skip
        record = run_strategy(strategy, planted(seed), tmp_path / str(seed), trials=1, seed=seed)
        edges = {("text", "audio"), ("vision", "text")}
        both += edges <= set(strategy.chosen()[0].paths)
        numbers = dict(record.epochs[-1].numbers)
        scores = {path: numbers[f"s {path[0]}>{path[1]}"] for path in strategy.paths}
        above += edges == set(sorted(scores, key=scores.__getitem__)[-2:])
    assert both >= 4
    assert above >= 4


def test_options_that_cannot_be():
    schema = toy_dataset(60).schema
    strategy = make_strategy("mro", {"heads": 3, "encoders": {"tabel": "mlp", "series": "conf"}})
    with pytest.raises(UsageError) as caught:
        strategy.setup(task(schema))
    assert len(caught.value.problems) == 3
    with pytest.raises(UsageError, match="there is one: table"):
        MRO().setup(task(toy_dataset(60, ("table",)).schema))
    with pytest.raises(UsageError, match="-o p"):
        make_strategy("mro", {"p": "3"})
