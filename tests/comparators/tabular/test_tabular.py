"""Fitted models: no leak, the same bits, what rows lack, stacks, transforms, and the graph."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymix.comparators.tabular.portfolio import alone, portfolio
from polymix.comparators.tabular.stack import crossed
from polymix.comparators.tabular.target import TargetTransform
from polymix.comparators.tabular.views import Codes
from polymix.data.schema import Task
from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype
from polymix.nn.build import build, fit_seconds
from polymix.nn.views import fit_views
from polymix.runs.export import TOLERANCE, export_onnx
from polymix.runs.inference import Served
from polymix.runs.rows import GivenRows
from polymix.tables.parts import CategoryPart, NumberPart
from polymix.tables.recipe import TabularRecipe
from polymix.tables.tabular import fit_category

from .common import CPU, EVERY, FOREST, STACKED, TABLE, TREES, VECTORS, bits, fitted, made

from .common import rows_of, said  # isort: skip


@pytest.mark.parametrize("name", EVERY)
def test_validation_rows_are_not_looked_at_and_seeds_decide(name):
    data = rows_of(Task.BINARY if name == "squares" else Task.REGRESSION)
    first, source, whole = fitted(data, EVERY[name])
    assert whole
    targets = data.targets.copy()
    targets[data.split.val] = 1 - targets[data.split.val] % 2
    none = np.array([], np.int64)
    assert bits(first) == bits(fitted(replace(data, targets=targets), EVERY[name])[0])
    assert bits(first) == bits(fitted(data, EVERY[name], val=none)[0])
    assert np.isfinite(said(first, source, data.split.val)).all()


@pytest.mark.parametrize("name", ["linear", "kernel", "forest", "boosted"])
def test_noise_out_of_fold_is_noise(name):
    data = rows_of(rows=200)
    noise = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    arrays = {**data.arrays, "t": data.arrays["t"].copy()}
    arrays["t"][:, 0] = np.arange(200)  # a row's number tells every target that was seen
    data = replace(data, targets=noise, arrays=arrays)
    model, source, _ = fitted(data, EVERY[name])
    sample, y = model.gathered(source, data.split.train)
    column, whole = crossed(model.head, sample, y, 0, None)
    assert whole
    z = column[:, 0].numpy() * y.std() + y.mean()
    assert 1 - ((z - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() < 0.05


@pytest.mark.parametrize("name", EVERY)
def test_what_a_row_lacks_is_never_read(name):
    data = rows_of(Task.MULTICLASS, absent=0.3)
    model, source, _ = fitted(data, EVERY[name])
    batch = source.batch(np.arange(20))
    none = torch.ones((20, 3), dtype=torch.bool)
    none[:, 1] = False
    inputs = dict(batch.inputs)
    with torch.no_grad():
        hidden = model(inputs, none).fused
        inputs["t"] = torch.full_like(inputs["t"], 1e6)
        torch.testing.assert_close(model(inputs, none).fused, hidden)
        assert torch.isfinite(model(inputs, torch.zeros_like(none)).fused).all()


def test_a_deadline_leaves_something_usable():
    data = rows_of()
    for name in EVERY:
        model, source, whole = fitted(data, EVERY[name], deadline=time.monotonic() - 1)
        assert np.isfinite(said(model, source, data.split.val)).all(), name
        assert not whole or name in ("kernel", "forest")  # few rows are quick in any case


@pytest.mark.parametrize("kind", ["none", "log", "normal"])
def test_transforms_are_undone(kind):
    y = np.exp(np.random.default_rng(0).standard_normal(300))
    transform = TargetTransform(kind)
    z = transform.fit(y)
    assert abs(z.mean()) < 1e-9
    assert z.std() == pytest.approx(1)
    back = transform.inverse(torch.from_numpy(z)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(back, y, rtol=1e-9 if kind != "normal" else 0.05)
    beyond = float(transform.inverse(torch.full((1, 1), 1e3, dtype=torch.float64)))
    assert kind == "none" or beyond == pytest.approx(y.max())


def in_logs(genotype):
    base = tuple(one.model_copy(update={"transform": "log"}) for one in genotype.base)
    return genotype.model_copy(update={"transform": "log", "base": base})


def test_a_stack_is_better_than_trees_without_a_base():
    """On the mean of six draws: sixty rows of one say less than the two differ by."""
    errors = {"forest": [], "stacked": []}
    for seed in range(6):
        data = rows_of(rows=300, seed=seed)
        val, statistics = data.split.val, data.schema.target.statistics
        for name, found in errors.items():
            model, source, _ = fitted(data, in_logs(EVERY[name]))
            values = said(model, source, val)[:, 0] * statistics.std[0] + statistics.mean[0]
            logs = np.log1p(values.clip(0)) - np.log1p(data.targets[val])
            found.append((logs**2).mean())
    assert np.mean(errors["stacked"]) < 0.9 * np.mean(errors["forest"])


@pytest.mark.parametrize("task", Task)
def test_what_a_kernel_says_of_a_row_without_it_is_told_for_every_row(task):
    data = rows_of(task, rows=60)
    model, source, _ = fitted(data, EVERY["kernel"])
    sample, y = model.gathered(source, data.split.train)
    stacked = model.head
    found, whole = stacked.fit_left_out(sample, y, 0, None)
    assert whole
    assert found.shape == (len(y), stacked.learner.sums)
    assert torch.isfinite(found).all()
    own = stacked.column(sample)
    # A row's own target draws what is said of it: without it, the two lie apart.
    assert (found - own).abs().mean() > 1e-3


def test_a_stack_names_its_base():
    assert parse_genotype(STACKED.to_json()) == STACKED
    assert str(STACKED).count("(words:token-ids + t:columns + s:summary → ") == 2


@pytest.mark.parametrize(("name", "transform"), [("stacked", "log"), ("boosted", "normal")])
def test_the_graph_predicts_what_the_model_predicts(name, transform, tmp_path):
    pytest.importorskip("onnxruntime")
    data = rows_of()
    model, _, _ = fitted(data, EVERY[name].model_copy(update={"transform": transform}))
    rows = GivenRows(data, np.arange(len(data)), "given", len(data))
    found = export_onnx(Served(model, data.schema, CPU), tmp_path / "m.onnx", rows)
    assert found["largest_difference"] <= TOLERANCE


def test_categories_are_codes():
    view = Codes(TABLE)
    x = torch.zeros(4, 7)
    x[[0, 1, 2, 3], [2, 2, 3, 5]] = 1
    view.fit(x, 0)
    expected = [[0, 0.5], [0, 0.5], [1, 0.25], [3, 0.25]]
    np.testing.assert_allclose(view.columns(x)[:, 3:].numpy(), expected)
    part = fit_category("c", np.array(["b", "b", "a", "a", "b", None], object))
    assert part.levels == ("b", "a")
    number = NumberPart(column="n", centre=0, scale=1, indicator=True)
    assert isinstance(part, CategoryPart)
    modality = TabularRecipe(name="t", parts=(number, part)).modality
    assert modality.categories == ((2, 4),)
    with pytest.raises(ValueError, match="spans of a table's columns"):
        type(TABLE)(**{**TABLE.model_dump(), "categories": ((5, 4),)})


def test_views_are_fitted_once():
    data = rows_of()
    model, source, _ = fitted(data, made(TREES, FOREST))
    before = bits(model)
    fit_views(model, source, data.split.val, 7)
    assert bits(model) == before


def test_the_portfolio():
    data = rows_of()
    found = portfolio(data.schema, 150, data.targets)
    assert 6 <= len(found) <= 13
    fusions = [
        dict(one.learner.options)["fusion"] for one in found if one.learner.name == "network"
    ]
    assert fusions == ["mean", "gated"]
    assert {one.learner.name for one in found[:3]} == {"linear", "kernel", "extra-trees"}
    assert len(set(found)) == len(found)
    assert {one.transform for one in found} == {"log", "none"}
    assert {one.transform for one in portfolio(data.schema, 150)} == {"none"}
    names = [one.learner.name for one in portfolio(data.schema, 10_000)]
    assert "kernel" not in names
    for one in found:
        assert 0 < fit_seconds(one, data.schema, 100) < fit_seconds(one, data.schema, 5000)
        for single in alone(one):
            assert len(single.modalities) == 1
            assert build(single, data.schema).fitted
    assert [one.modalities for one in alone(STACKED)] == [("words",), ("t",), ("s",)]


@pytest.mark.parametrize(
    ("views", "learner", "told"),
    [
        (VECTORS, FOREST, "reads no token ids"),
        (TREES, Block.of("kernel", row=3), "no option 'row'"),
        (TREES, Block.of("linear", loss="cubes"), "loss must be"),
        ((("s", Block.of("codes")),), FOREST, "takes no modality of kind timeseries"),
        ((("x", Block.of("codes")),), FOREST, "no modality 'x'"),
    ],
)
def test_what_cannot_be_built(views, learner, told):
    with pytest.raises(GenotypeError, match=told):
        build(made(views, learner), rows_of().schema)
