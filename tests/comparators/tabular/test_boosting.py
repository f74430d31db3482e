"""Gradient boosting as tensors: what scikit-learn fitted, to the last rounding; rows that lack."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfTransformer

from polymix.comparators.tabular.boosting import ROUNDS, boosting_genotype, rounds_of, within
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.trees import Trees
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype
from polymix.nn.build import build, build_seeded, fit_seconds, versions
from polymix.nn.descriptions import Summary, TfIdf, describers_for, make_description
from polymix.records import Fidelity, Proposal, Role, Status
from polymix.scoring.metrics import metric_for
from polymix.store.ledger import Ledger
from polymix.testing import toy_dataset
from polymix.train.evaluate import Evaluator
from polymix.train.objective import Objective

CPU = torch.device("cpu")
SMALL = {"rounds": 12, "leaves": 7, "depth": 4, "least": 5}


def genotype(schema, **changes):
    described = tuple((m.name, b) for m in schema.modalities
                      for b in describers_for(m))  # fmt: skip
    learner = Block.of("gradient-boosting", **{**SMALL, **changes})
    return TabularGenotype(views=described, learner=learner)


def fitted(data, asked=None, deadline=None):
    model = build_seeded(asked or genotype(data.schema), data.schema, 0).eval()
    source = RowSource(data, CPU)
    whole = model.fit(source, data.split.train, data.split.val, 0, deadline)
    return model, source, whole


@settings(max_examples=12)
@given(
    rows=st.integers(20, 120), columns=st.integers(1, 5), seed=st.integers(0, 99),
    holes=st.sampled_from([0.0, 0.3]), classes=st.integers(2, 4), leaves=st.integers(2, 9),
)  # fmt: skip
def test_trees_are_scikit_learns(rows, columns, seed, holes, classes, leaves):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 30, (rows, columns)) / rng.integers(3, 9)
    y = rng.integers(0, classes, rows)
    y[:classes] = range(classes)
    x[rng.random(x.shape) < holes] = np.nan
    model = HistGradientBoostingClassifier(
        max_iter=6, max_leaf_nodes=leaves, max_depth=5, min_samples_leaf=3, early_stopping=False
    ).fit(x, y)
    outputs = 1 if classes == 2 else classes
    trees = Trees(outputs, 8, leaves, 5)
    for k in range(outputs):
        nodes = [every[k].nodes for every in model._predictors]
        trees.load(k, float(np.ravel(model._baseline_prediction)[k]), nodes)
    seen = np.concatenate([x, x + 0.01, np.full((1, columns), np.nan)])
    expected = model.decision_function(seen).reshape(len(seen), outputs)
    np.testing.assert_allclose(trees(torch.from_numpy(seen)).numpy(), expected, atol=1e-12)


def test_infinite_thresholds_part_the_missing():
    x = np.array([[1.0], [np.nan]] * 30)
    y = np.array([0.0, 5.0] * 30)
    model = HistGradientBoostingRegressor(max_iter=3, early_stopping=False).fit(x, y)
    trees = Trees(1, 3, 31, 6)
    nodes = [every[0].nodes for every in model._predictors]
    trees.load(0, float(np.ravel(model._baseline_prediction)[0]), nodes)
    found = trees(torch.from_numpy(x)).numpy()[:, 0]
    np.testing.assert_allclose(found, model.predict(x), atol=1e-12)


@pytest.mark.parametrize("task", Task)
def test_a_model_is_its_estimators(task):
    classes = {Task.BINARY: 2, Task.REGRESSION: 1}.get(task, 3)
    data = toy_dataset(150, task=task, classes=classes)
    model, source, whole = fitted(data)
    assert whole
    batch = source.batch(np.arange(40))
    logits = model(batch.inputs, batch.present).fused
    assert logits.shape == (40, data.schema.target.outputs)
    assert logits.dtype == torch.float32
    if task is Task.BINARY:
        assert (logits[:, 0] == 0).all()
    metric = metric_for(task)
    rows = source.batch(data.split.val)
    said = Objective(data.schema).predict(model(rows.inputs, rows.present).fused).numpy()
    floor = {Task.REGRESSION: 0.3, Task.MULTILABEL: 0.6}.get(task, 0.6)
    assert metric(data.targets[data.split.val], said) > floor
    assert len(model.gathered(source, data.split.val)[0]) == len(data.split.val)


def test_what_a_row_lacks_is_missing_to_the_trees():
    data = toy_dataset(150)
    model, source, _ = fitted(data)
    batch = source.batch(np.arange(20))
    inputs = dict(batch.inputs)
    none = torch.ones((20, 3), dtype=torch.bool)
    none[:, 0] = False
    table = model.head.learner.table(model.sample(model.encode(inputs), none))
    width = model.encoders["image"].channels
    assert torch.isnan(table[:, :width]).all()
    assert not torch.isnan(table[:, width:]).any()
    hidden = model(inputs, none).fused
    inputs["image"] = torch.full_like(inputs["image"], 1e6)
    torch.testing.assert_close(model(inputs, none).fused, hidden)
    assert not torch.equal(model(inputs, None).fused, hidden)
    assert torch.isfinite(model(inputs, torch.zeros_like(none)).fused).all()


def text_data(rows=120, length=12, vocabulary=40):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, rows)
    ids = rng.integers(1, vocabulary, (rows, length)).astype(np.int32)
    ids[np.arange(rows), rng.integers(0, length, rows)] = 7 + targets
    ids[rng.random(ids.shape) < 0.2] = 0
    text = Modality(name="text", kind=Kind.TEXT, shape=(length,), dtype="int32",
                    vocabulary=vocabulary)  # fmt: skip
    schema = Schema(modalities=(text,), target=Target(name="y", task=Task.BINARY,
                                                      classes=("a", "b")))  # fmt: skip
    codes = np.arange(rows) % 5 % 3
    return Dataset.from_arrays("text", schema, {"text": ids}, targets, codes.astype(np.uint8))


def test_tf_idf_is_scikit_learns():
    data = text_data()
    ids = data.arrays["text"]
    encoder = TfIdf(data.schema["text"], dims=6)
    encoder.fit(torch.from_numpy(ids).long(), 0)
    counts = np.stack([np.bincount(row, minlength=40) for row in ids])
    counts[:, 0] = 0
    tfidf = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    expected = TruncatedSVD(6, random_state=0).fit(tfidf).transform(tfidf)
    found = encoder.columns(torch.from_numpy(ids).long()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert not encoder.columns(torch.zeros((2, 12), dtype=torch.long)).any()


def test_a_summary_is_a_pca_of_pictures_averaged_down():
    image = Modality(name="a", kind=Kind.IMAGE, shape=(2, 24, 36), dtype="float32")
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 2, 24, 36))).float()
    encoder = Summary(image, dims=5)
    encoder.fit(x, 0)
    small = torch.nn.functional.adaptive_avg_pool2d(x.double(), 12).flatten(1).numpy()
    scaled = (small - small.mean(0)) / small.std(0)
    expected = PCA(5, svd_solver="randomized", random_state=0).fit(scaled).transform(scaled)
    np.testing.assert_allclose(encoder.columns(x).numpy(), expected, atol=1e-9)


def test_a_short_series_is_columns():
    short = Modality(name="s", kind=Kind.TIMESERIES, shape=(8, 8), dtype="float32")
    x = torch.randn(5, 8, 8)
    encoder = Summary(short, dims=10)
    encoder.fit(x, 0)  # nothing is projected: a step means the same in every row
    np.testing.assert_array_equal(encoder.columns(x).numpy(), x.flatten(1).double().numpy())
    for other in ({"shape": (90, 3)}, {"padded": True}):
        assert Summary(short.model_copy(update=other), dims=10).widths == (10,)


@pytest.mark.parametrize("padded", [False, True])
def test_a_sequences_moments(padded):
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((4, 90, 3))
    kind = Modality(name="s", kind=Kind.TIMESERIES, shape=(90, 3), dtype="float32", padded=padded)
    there = np.ones((4, 90), bool)
    if padded:
        there[1, 4:] = there[2] = False
        steps[..., 0] = there
        steps[~there] = 0
    found = Summary(kind).columns(torch.from_numpy(steps)).numpy()
    for row, mask, out in zip(steps, there, found, strict=True):
        x = row[mask][:, 1:] if padded else row[mask]
        parts = [x.mean(0), x.std(0), x.min(0), x.max(0), x[-1]] if len(x) else [np.zeros(10)]
        np.testing.assert_allclose(out, np.concatenate(parts), atol=1e-12)


def test_a_class_without_training_rows():
    data = toy_dataset(120, ("table",), classes=3)
    targets = data.targets.copy()
    targets[data.split.train] = np.minimum(targets[data.split.train], 1)
    model, source, _ = fitted(replace(data, targets=targets))
    batch = source.batch(data.split.train)
    p = torch.softmax(model(batch.inputs, batch.present).fused, 1)
    assert p[:, 2].max() < 1e-4
    right = (p.argmax(1) == batch.target).double().mean()
    assert right > 0.8
    targets[:] = 1
    alone, source, _ = fitted(replace(data, targets=targets))
    batch = source.batch(data.split.val)
    assert (torch.softmax(alone(batch.inputs).fused, 1)[:, 1] > 0.99).all()


def test_class_weights_move_it():
    data = toy_dataset(200, ("table",), classes=2, task=Task.BINARY, noise=4.0)
    weighed = replace(data, schema=data.schema.model_copy(update={
        "target": data.schema.target.model_copy(update={"weights": (1.0, 20.0)})}))  # fmt: skip
    means = []
    for one in (data, weighed):
        model, source, _ = fitted(one)
        means.append(model(source.batch(data.split.val).inputs).fused[:, 1].mean())
    assert means[1] > means[0] + 1


def test_a_deadline_leaves_fewer_rounds():
    data = toy_dataset(150, ("table",))
    _, _, whole = fitted(data, deadline=time.monotonic() - 1)
    assert not whole
    _, _, whole = fitted(data, deadline=time.monotonic() + 600)
    assert whole


def test_the_genotype():
    asked = genotype(toy_dataset(60).schema)
    assert parse_genotype(asked.to_json()) == asked
    assert str(asked) == (
        "image:summary + series:summary + table:summary → "
        "gradient-boosting(depth=4, least=5, leaves=7, rounds=12)"
    )
    with pytest.raises(ValueError, match="used once"):
        TabularGenotype(views=(("a", Block.of("summary")),) * 2, learner=asked.learner)
    with pytest.raises(ValueError, match="no learner 'forest'"):
        TabularGenotype(views=asked.views, learner=Block.of("forest"))
    stacked = asked.model_copy(update={"base": (asked,)})
    with pytest.raises(ValueError, match="no base models of its own"):
        TabularGenotype(views=asked.views, learner=asked.learner, base=(stacked,))
    assert versions(asked) == {"tabular": 2, "gradient-boosting": 2, "summary": 2}


@pytest.mark.parametrize(
    ("name", "block", "said"),
    [
        ("series", "tf-idf", "describes no modality of kind timeseries"),
        ("sries", "summary", "did you mean 'series'"),
        ("series", "mlp", "describes no modality"),
    ],
)
def test_what_cannot_be_built(name, block, said):
    schema = toy_dataset(60).schema
    with pytest.raises(GenotypeError, match=said):
        build(
            TabularGenotype(
                views=((name, Block.of(block)),), learner=Block.of("gradient-boosting")
            ),
            schema,
        )


def test_a_description_with_a_wrong_option():
    with pytest.raises(GenotypeError, match="no option 'dim'"):
        make_description(Block.of("summary", dim=3), toy_dataset(60).schema["table"])


def test_as_a_trial(tmp_path):
    data = toy_dataset(150)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, metric_for(Task.MULTICLASS), ledger, tmp_path / "bank")
        proposal = Proposal(genotype(data.schema), Fidelity(10**6, 1), keep=True)
        (group,) = evaluator.groups([proposal])
        ((trial, state),) = evaluator.run(group)
        assert trial.status is Status.DONE
        assert trial.cost.flops > 0
        assert trial.cost.params == sum(t.numel() for t in state.values())
        (kept,) = ledger.put([(trial, state)], Role.BOOSTING)
        model = evaluator.trained(kept)
        batch = RowSource(data, CPU).batch(data.split.val)
        said = torch.softmax(model(batch.inputs, batch.present).fused, 1).detach().numpy()
        np.testing.assert_array_equal(said, trial.predictions)
        ((again, _),) = evaluator.run(group)
        np.testing.assert_array_equal(again.predictions, trial.predictions)


def test_when_it_is_a_finalist():
    schema = toy_dataset(60).schema
    found = boosting_genotype(schema)
    assert found.modalities == ("series", "table")  # a picture averaged down only drowns them
    assert rounds_of(found) == ROUNDS
    assert boosting_genotype(toy_dataset(60, ("image", "series")).schema) is not None
    assert boosting_genotype(toy_dataset(60, ("image",)).schema) is None
    many = toy_dataset(60).schema
    target = many.target.model_copy(update={"classes": tuple(map(str, range(100)))})
    assert rounds_of(boosting_genotype(many.model_copy(update={"target": target}))) == 50


def test_rounds_fit_the_time():
    schema = toy_dataset(60).schema
    asked = boosting_genotype(schema)
    assert within(asked, 10.0, 20.0) == ROUNDS
    assert within(asked, 10.0, 5.0) == ROUNDS // 2
    assert within(asked, 10.0, 0.0) == 5
    few, many = (fit_seconds(asked, schema, rows) for rows in (100, 100_000))
    assert 0 < few < many


def test_it_reads_texts():
    data = text_data(rows=300)
    ids = data.arrays["text"].copy()
    half = np.where(data.targets[:, None] > 0, 20, 1)  # each class has words of its own
    ids[:, :6] = ids[:, :6] % 19 + half
    data = replace(data, arrays={"text": ids})
    model, source, _ = fitted(data, genotype(data.schema, rounds=60))
    batch = source.batch(data.split.val)
    right = (model(batch.inputs).fused.argmax(1) == batch.target).double().mean()
    assert right > 0.75
