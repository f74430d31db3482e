"""The network on views: it learns, in each task and by each fusion; its members; its time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from polymix.comparators.tabular import network as network_file
from polymix.comparators.tabular.inner import class_loss
from polymix.comparators.tabular.network_fusion import NETWORK_FUSIONS, Gated, LowRank
from polymix.comparators.tabular.network_module import Members, Part, PeriodicEmbedding, TabM
from polymix.comparators.tabular.network_table import EvenColumns, NetworkTable
from polymix.comparators.tabular.network_training import LEAST_BATCH, Schedule, member_loss, train
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.views import Layout
from polymix.data.batch import RowSource
from polymix.data.schema import Task
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.nn.build import build, build_seeded, fit_seconds, one_core
from polymix.runs.export import TOLERANCE, export_onnx
from polymix.runs.inference import Served
from polymix.runs.rows import GivenRows
from polymix.scoring.metrics import metric_for
from polymix.train.objective import Objective

from .common import CPU, DENSE, NETWORK, VECTORS, bits, fitted, made, rows_of, said

SIZES = {"channels": 16, "width": 32, "members": 4, "frequencies": 4}


def network(**options) -> Block:
    return Block.of("network", **{**SIZES, "epochs": 20, **options})


def score(model, source, data) -> float:
    rows = data.split.val
    batch = source.batch(rows)
    with torch.no_grad():
        found = Objective(data.schema).predict(model(batch.inputs, batch.present).fused)
    return metric_for(data.schema.target.task)(data.targets[rows], found.numpy())


@pytest.mark.parametrize("task", Task)
def test_it_learns(task):
    data = rows_of(task, rows=300, absent=0.05)
    model, source, whole = fitted(data, made(DENSE, network(), transform="log"))
    assert whole
    floor = {Task.REGRESSION: 0.5, Task.BINARY: 0.8, Task.MULTICLASS: 0.7, Task.MULTILABEL: 0.7}
    assert score(model, source, data) > floor[task]


@pytest.mark.parametrize("fusion", NETWORK_FUSIONS)
def test_every_fusion_learns(fusion):
    data = rows_of(Task.BINARY, rows=250, absent=0.1)
    model, source, whole = fitted(data, made(DENSE, network(fusion=fusion)))
    assert whole
    assert score(model, source, data) > 0.75


def test_the_same_seed_gives_the_same_network():
    data = rows_of(rows=100)
    asked = made(DENSE, network(epochs=3))
    first, _, _ = fitted(data, asked)
    torch.randn(5)  # what others draw is no matter
    assert bits(first) == bits(fitted(data, asked)[0])
    assert bits(first) != bits(fitted(data, asked, seed=1)[0])
    # Nor is what it was fitted to before.
    again, source, _ = fitted(data, asked)
    again.fit(source, data.split.val, data.split.val[:0], 3, None)
    again.fit(source, data.split.train, data.split.val[:0], 0, None)
    assert bits(first) == bits(again)


def test_fits_beside_each_other_are_those_alone():
    data = rows_of(rows=100)
    asked = made(DENSE, network(epochs=3))
    assert one_core(asked)
    alone = [bits(fitted(data, asked, seed=seed)[0]) for seed in range(3)]
    models = [build_seeded(asked, data.schema, seed).eval() for seed in range(3)]
    source = RowSource(data, CPU)

    def fit(seed):
        return models[seed].fit(source, data.split.train, data.split.val, seed, None)

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(fit, range(3)))
    assert [bits(one) for one in models] == alone


def test_an_absent_modality_is_its_learned_token():
    data = rows_of(rows=200, absent=0.3)
    model, source, _ = fitted(data, made(DENSE, network(epochs=5)))
    sample, _ = model.gathered(source, np.arange(20))
    learner = model.head.learner
    gone = Sample(sample.views, (sample.present[0], torch.zeros(20, dtype=torch.bool),
                                 sample.present[2]))  # fmt: skip
    view = torch.full_like(gone.views[1], 1e6)
    other = replace(gone, views=(gone.views[0], view, gone.views[2]))
    torch.testing.assert_close(learner(gone), learner(other))
    x = learner.table(gone)
    assert (x[:, -3:] == ~torch.stack(gone.present, 1)).all()
    token = learner.net.absent[1].token.clone()
    before = learner(gone)
    learner.net.absent[1].token.add_(1.0)
    assert not torch.equal(learner(gone), before)
    assert not torch.allclose(token, learner.net.encoded(x)[1].mean(0))  # trained, not set


def test_what_no_training_row_lacks_has_the_usual_token():
    data = rows_of(rows=100, absent=0.0)
    model, source, _ = fitted(data, made(DENSE, network(epochs=3)))
    learner = model.head.learner
    sample, _ = model.gathered(source, data.split.train)
    for token, channels in zip(
        learner.net.absent, learner.net.encoded(learner.table(sample)), strict=True
    ):
        torch.testing.assert_close(token.token, channels.mean(0))


def test_a_deadline_is_kept(monkeypatch):
    data = rows_of(rows=200)
    asked = made(DENSE, network(epochs=5))
    model, source, whole = fitted(data, asked, deadline=time.monotonic() - 1)
    assert not whole
    assert np.isfinite(said(model, source, data.split.val)).all()
    assert fitted(data, asked, deadline=time.monotonic() + 600)[2]
    # No time for a second training leaves the first one's.
    monkeypatch.setattr(network_file, "SPARED", 1e9)
    model, source, whole = fitted(data, asked, deadline=time.monotonic() + 600)
    assert not whole
    assert np.isfinite(said(model, source, data.split.val)).all()


@pytest.mark.parametrize("rows", [8, 30])
def test_few_rows(rows):
    data = rows_of(Task.MULTICLASS, rows=rows)
    model, source, whole = fitted(data, made(DENSE, network(epochs=2)))
    assert whole
    assert np.isfinite(said(model, source, np.arange(rows))).all()


def test_class_weights_move_it():
    means = []
    for weights in ((1.0, 1.0), (1.0, 20.0)):
        data = rows_of(Task.BINARY, rows=200, noise=4.0, weights=weights)
        model, source, _ = fitted(data, made(DENSE, network(epochs=5)))
        means.append(said(model, source, data.split.val)[:, 1].mean())
    assert means[1] > means[0] + 0.5


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.MULTILABEL])
def test_the_members_loss_is_the_loss_of_each(task):
    rng = np.random.default_rng(0)
    count = 1 if task is Task.BINARY else 3
    classes = 2 if task is Task.BINARY else 3
    y = rng.integers(0, classes, 20)
    y = (rng.random((20, 3)) < 0.5).astype(np.float32) if task is Task.MULTILABEL else y
    weights = rng.uniform(0.5, 3, classes)
    sums = torch.randn(4, 20, count)
    rows = torch.from_numpy(rng.permutation(20))
    found = member_loss(task, y, weights)(sums[:, rows], rows)
    each = [class_loss(one.double().numpy(), y, task, weights) for one in sums]
    assert float(found) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_prediction_is_the_members_mean():
    for task, outputs in ((Task.BINARY, 2), (Task.MULTILABEL, 3), (Task.MULTICLASS, 3)):
        model = build(made(DENSE, network()), rows_of(task).schema)
        sums = torch.randn(4, 6, 1 if task is Task.BINARY else outputs)
        joined = model.head.learner._joined(sums)
        if task is Task.MULTICLASS:
            found, expected = joined.exp(), sums.double().softmax(2).mean(0)
        else:
            found, expected = joined.sigmoid(), sums.double().sigmoid().mean(0)
        torch.testing.assert_close(found, expected)


def test_members_differ_in_scales_and_heads_alone():
    members = Members(5, 7, 2, 3, 2, 0.5).eval()
    x = torch.randn(4, 5)
    found = members(x)
    assert found.shape == (3, 4, 2)
    for k in range(3):
        hidden = x * members.scale[k]
        for layer in members.layers:
            hidden = functional.relu(layer(hidden))
        torch.testing.assert_close(found[k], hidden @ members.heads[k] + members.bias[k])
    assert set(members.scale.unique().tolist()) <= {-1.0, 1.0}
    assert not torch.equal(members.train()(x), members(x))  # dropout


def test_numbers_are_waves():
    embed = PeriodicEmbedding(2, 3, 0.5)
    x = torch.randn(4, 2)
    found = embed(x).reshape(4, 2, -1)
    angles = 2 * torch.pi * x[:, 1:] * embed.frequencies[1]
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    expected = torch.relu(waves @ embed.weight[1] + embed.bias[1])
    torch.testing.assert_close(found[:, 1], expected)


def test_fusions_are_their_papers():
    views = [torch.randn(4, 6) for _ in range(3)]
    gated = Gated(3, 6)
    gates = torch.sigmoid(gated.gates(torch.cat(views, 1)))
    hidden = torch.cat([torch.tanh(m(x)) for m, x in zip(gated.maps, views, strict=True)], 1)
    torch.testing.assert_close(gated(views), (gates * hidden).reshape(4, 3, 6).sum(1))
    low = LowRank(3, 6, rank=2)
    nn.init.normal_(low.bias)
    # The same weights as one tensor over every product of the views' channels and ones (Eq. 5).
    ones = [torch.cat([x, torch.ones(4, 1)], 1) for x in views]
    outer = torch.einsum("bi,bj,bk->bijk", *ones)
    factors = [torch.cat([f.weight, f.bias[:, None]], 1).reshape(2, 6, 7) for f in low.factors]
    tensor = torch.einsum("r,rci,rcj,rck->cijk", low.weights[:, 0], *factors)
    expected = torch.einsum("bijk,cijk->bc", outer, tensor) + low.bias
    torch.testing.assert_close(low(views), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    fusion=st.sampled_from(sorted(NETWORK_FUSIONS)), rows=st.integers(1, 5),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_row_does_not_depend_on_others(fusion, rows, widths, seed):
    torch.manual_seed(seed)
    parts = [Part(width, width // 2) for width in widths]
    net = TabM(parts, 2, fusion=fusion, channels=8, width=8, layers=1, members=3, dropout=0.1,
               frequencies=2, sigma=0.3).eval()  # fmt: skip
    x = torch.randn(rows, sum(widths) + len(widths))
    x[:, -len(widths) :] = torch.randint(0, 2, (rows, len(widths))).float()
    found = net(x)
    assert found.shape == (3, rows, 2)
    torch.testing.assert_close(net(x[:1])[:, 0], found[:, 0], rtol=1e-4, atol=1e-5)
    assert net.multiplications >= sum(p.numel() for p in net.encoders.parameters())


def test_views_come_at_one_scale():
    torch.manual_seed(0)
    layouts = [
        Layout("embedding", 50),
        Layout("dense", 4),
        Layout("columns", 3, categories=((1, 2),)),
    ]
    wide, few = 7 * torch.randn(300, 50).double(), 1e4 * torch.randn(300, 4).double() + 5
    numbers = torch.cat([torch.rand(300, 1).exp(), torch.zeros(300, 2)], 1).double()
    every = torch.ones(300, dtype=torch.bool)
    shown = Sample((wide, few, numbers), (torch.rand(300) < 0.8, every, every))
    table = NetworkTable(layouts, 10)
    assert table.parts == [Part(10, 0), Part(4, 0), Part(3, 1)]
    table.fit(shown, 0)
    x = table(shown)
    assert x.dtype == torch.float32
    assert x.shape == (300, 10 + 4 + 3 + 3)
    there = shown.present[0]
    assert (x[~there, :10] == 0).all()
    assert float((x[there, :10] ** 2).mean()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close((x[:, 10:14] ** 2).mean(0), torch.ones(4))
    assert float(x[:, 16].std()) == pytest.approx(1, abs=0.1)  # the number comes after its levels
    whole = EvenColumns(Layout("embedding", 50), 0)
    assert whole.project is None
    assert whole.width == 50


def test_training_stops_where_the_watched_loss_does():
    torch.manual_seed(0)
    x, told = torch.randn(64, 3), iter([5.0, 2.0, 3.0, *[4.0] * 50])
    seen = []

    def watch(net):
        seen.append({name: p.clone() for name, p in net.state_dict().items()})
        return next(told)

    def loss(sums, rows):
        return ((sums - x[rows, :1]) ** 2).mean()

    found = train(nn.Linear(3, 1), x, loss, Schedule(50, 16, 0.01, 0.0), 0, None, watch)
    assert found.best == 2
    assert len(seen) == found.epochs == 2 + 5
    for name, tensor in found.net.state_dict().items():
        assert torch.equal(tensor, seen[1][name])
    assert Schedule(1, 256, 0.1, 0.0).steps(100) == round(100 / LEAST_BATCH)
    assert Schedule(1, 256, 0.1, 0.0).steps(256_000) == 1000
    lost = train(nn.Linear(3, 1), x, loss, Schedule(9, 16, 0.1, 0.0), 0, None, lambda _: np.nan)
    assert (lost.best, lost.epochs) == (0, 5)


def test_averaged_weights_lag_behind():
    x = torch.zeros(8, 1)
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.bias)
    found = train(net, x, lambda sums, _: -sums.mean(), Schedule(200, 8, 0.01, 0.0), 0, None)
    # The bias grows by lr a step, and its average is what a ninth of the way lies behind.
    assert float(net.bias.detach()) == pytest.approx(2.0, rel=1e-3)
    assert float(found.net.bias) == pytest.approx(2.0 * 9 / 10, rel=0.02)


def test_the_graph_predicts_what_the_network_predicts(tmp_path):
    pytest.importorskip("onnxruntime")
    data = rows_of(Task.MULTICLASS, rows=80)
    model, _, _ = fitted(data, made(DENSE, network(fusion="attention", epochs=3)))
    rows = GivenRows(data, np.arange(len(data)), "given", len(data))
    found = export_onnx(Served(model, data.schema, CPU), tmp_path / "m.onnx", rows)
    assert found["largest_difference"] <= TOLERANCE


def test_kept_weights_are_the_model():
    data = rows_of(rows=80)
    asked = made(DENSE, network(epochs=2))
    model, source, _ = fitted(data, asked)
    other = build(asked, data.schema).eval()
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(
        said(other, source, data.split.val), said(model, source, data.split.val)
    )
    assert not any(p.requires_grad for p in model.parameters())


def test_it_is_expected_to_take_longer_with_more_to_do():
    schema = rows_of().schema
    asked = made(DENSE, network())
    few, many = (fit_seconds(asked, schema, rows) for rows in (100, 10_000))
    assert 0 < few < many
    assert fit_seconds(made(DENSE, network(width=512)), schema, 10_000) > many
    state = torch.random.get_rng_state()
    fit_seconds(asked, schema, 100)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fusion": "gate"}, "no fusion 'gate': did you mean 'gated'"),
        ({"width": 0}, "sizes >= 1"),
        ({"dropout": 1.0}, "dropout < 1"),
        ({"lr": 0.0}, "0 < lr <= 1"),
        ({"dims": -1}, "dims >= 0"),
        ({"widht": 3}, "no option 'widht'"),
        ({"lr": "fast"}, "option 'lr' is of type float"),
    ],
)
def test_options_that_are_refused(options, told):
    with pytest.raises(GenotypeError, match=told):
        build(made(DENSE, Block.of("network", **options)), rows_of().schema)


def test_it_reads_no_token_ids():
    with pytest.raises(GenotypeError, match="network reads no token ids"):
        build(made(VECTORS, NETWORK), rows_of().schema)
