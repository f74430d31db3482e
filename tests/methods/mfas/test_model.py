"""MFAS's fusion network computes Eq. 1 on standardised features, alone as in a stack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polymix import seeds
from polymix.data.batch import Batch, RowSource
from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.methods.mfas.space import MFASGenotype
from polymix.nn import catalog
from polymix.nn.build import build_seeded, stack_key, versions
from polymix.nn.model import load_matching
from polymix.nn.tokens import Tokens
from polymix.records import Recipe
from polymix.space.mix import MixGenotype
from polymix.testing import toy_dataset
from polymix.train.feature_bank import FeatureBank
from polymix.train.learner import SingleLearner, StackLearner
from polymix.train.moments import moments_of
from polymix.train.objective import Objective
from polymix.train.optimizer import make_optimizer, step

CPU = torch.device("cpu")
BLOCKS = {
    "image": Block.of("conv", channels=8, least=4),  # features of 8, 8, 8 and 8 channels
    "series": Block.of("conv", channels=20, least=2),  # of 8, 10, 20 and 20
    "table": Block.of("mlp", channels=5, layers=1),  # one feature
}


def genotype(*layers, names=("image", "series", "table"), **changes):
    pairs = tuple((name, BLOCKS[name]) for name in names)
    return MFASGenotype(backbones=pairs, layers=layers, **{"width": 6, **changes})


ONE = genotype(((0, 1, 0), "relu"))
TWO = genotype(((0, 1, 0), "relu"), ((3, 3, 0), "sigmoid"))


@pytest.fixture(scope="module")
def data():
    return toy_dataset(120, absent=0.1)


def calibrated(chosen, data, dtype=torch.float64):
    model = build_seeded(chosen, data.schema, 0)
    source = RowSource(data, CPU)
    columns = {n: i for i, n in enumerate(data.schema.names)}
    model.calibrate(moments_of(source, model.native, data.split.train, columns))
    return model.to(dtype)


def test_it_computes_the_papers_equation(data):
    model = calibrated(TWO, data, torch.float32)
    batch = RowSource(data, CPU).batch(data.split.train)
    native = model.native(batch.inputs)
    means = {n: [t.pooled()[batch.present[:, i]].mean(0) for t in native[n]]
             for i, n in enumerate(data.schema.names)}  # fmt: skip
    stds = {n: [t.pooled()[batch.present[:, i]].std(0, correction=0) for t in native[n]]
            for i, n in enumerate(data.schema.names)}  # fmt: skip
    hidden = []
    for number, (features, activation) in enumerate(TWO.layers):
        parts = []
        for column, (name, index) in enumerate(zip(data.schema.names, features, strict=True)):
            x = (native[name][index].pooled() - means[name][index]) / stds[name][index]
            x = torch.where(
                batch.present[:, column, None], x, model.absent[name][0].token[index, : x.shape[1]]
            ) if not batch.present[:, column].all() else x  # fmt: skip
            wide = max(t.x.shape[2] for t in native[name])
            parts.append(torch.cat([x, torch.zeros(len(x), wide - x.shape[1])], 1))
        z = model.fusion[number](torch.cat([*parts, *hidden], 1))
        hidden = [torch.relu(z) if activation == "relu" else torch.sigmoid(z)]
    expected = model.classify["h2"](hidden[0])
    found = model(batch.inputs, batch.present).fused
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "leaky-relu"])
def test_activations(data, activation):
    model = build_seeded(genotype(((0, 0, 0), activation)), data.schema, 0)
    model.classify["h1"] = torch.nn.Identity()
    batch = RowSource(data, CPU).batch(data.split.val)
    hidden = model(batch.inputs).fused
    z = model.fusion[0](
        torch.cat([model.encode(batch.inputs)[n][0].x[:, 0] for n in data.schema.names], 1)
    )
    named = {
        "relu": torch.relu, "sigmoid": torch.sigmoid, "leaky-relu": torch.nn.functional.leaky_relu,
    }  # fmt: skip
    torch.testing.assert_close(hidden, named[activation](z))


def test_features_are_standardised_over_the_rows_that_have_them(data):
    model = calibrated(ONE, data)
    batch = RowSource(data, CPU).batch(data.split.train)
    inputs = {n: x.double() for n, x in batch.inputs.items()}
    for column, (table,) in enumerate(model.encode(inputs).values()):
        there = table.x[batch.present[:, column]]
        assert there.mean(0).abs().max() < 1e-5
        deviation = there.std(0, correction=0)
        flat = (deviation < 1e-6) | ((deviation - 1).abs() < 1e-3)
        assert flat.all()


def test_a_constant_channel_is_only_centred(data):
    model = build_seeded(ONE, data.schema, 0)
    widths = {n: e.widths for n, e in model.encoders.items()}
    model.calibrate({n: [(torch.full((w,), 3.0), torch.zeros(w)) for w in ws]
                     for n, ws in widths.items()})  # fmt: skip
    tables = model.pack({n: [Tokens(torch.full((2, 1, w), 3.0)) for w in ws]
                         for n, ws in widths.items()})  # fmt: skip
    assert all(not tokens[0].x.any() for tokens in tables.values())


@pytest.mark.parametrize("limit", [2**30, 0])
def test_the_bank_packs_as_the_model_does(data, tmp_path, limit, monkeypatch):
    monkeypatch.setattr("polymix.train.feature_bank.PACKED", limit)
    model = build_seeded(ONE, data.schema, 0)
    source = FeatureBank(tmp_path, data, CPU).source(model)
    rows = np.sort(np.r_[data.split.train, data.split.val])
    banked = source.batch(rows)
    direct = model.eval().encode(RowSource(data, CPU).batch(rows).inputs)
    for column, name in enumerate(data.schema.names):
        there = banked.present[:, column]
        (kept,), (fresh,) = banked.inputs[name], direct[name]
        assert kept.x.shape == fresh.x.shape
        # Features of float16, standardised: up to a thousandth of their largest deviations.
        torch.testing.assert_close(kept.x[there], fresh.x[there], rtol=2e-3, atol=2e-2)


def test_the_bank_is_read_once_for_all_candidates(data, tmp_path, monkeypatch):
    bank = FeatureBank(tmp_path, data, CPU)
    source = bank.source(build_seeded(ONE, data.schema, 0))
    other = build_seeded(TWO, data.schema, 0)
    other.encoders.load_state_dict(build_seeded(ONE, data.schema, 0).encoders.state_dict())
    monkeypatch.setattr(FeatureBank, "_features", None)
    assert bank.source(other) is source
    assert torch.equal(
        other.standards["series"].mean, other.standards["series"].mean.new_tensor(
            source_mean(source, "series", other)
        ),
    )  # fmt: skip


def source_mean(source, name, model):
    table = torch.zeros_like(model.standards[name].mean)
    for i, (mean, _) in enumerate(source.moments[name]):
        table[i, : len(mean)] = mean
    return table.tolist()


def test_the_papers_backbones():
    """Three stages for the image, five for the spectrogram, and two layers for text."""
    image = Modality(name="i", kind=Kind.IMAGE, shape=(1, 28, 28), dtype="uint8")
    sound = Modality(name="s", kind=Kind.AUDIO, shape=(1, 112, 112), dtype="uint8")
    words = Modality(name="w", kind=Kind.FEATURES, shape=(300,), dtype="float32")
    made = [catalog.make_encoder(Block.of("lenet"), m) for m in (image, sound)]
    assert [e.widths for e in made] == [(8, 16, 32), (8, 16, 32, 64, 128)]
    grids = [t.grid for t in made[1].features(torch.zeros(1, 1, 112, 112))]
    assert grids == [(112, 112), (56, 56), (28, 28), (14, 14), (7, 7)]
    maxout = catalog.make_encoder(Block.of("maxout", channels=4), words)
    x = torch.randn(3, 300)
    with torch.no_grad():
        pieces = maxout.layers[0](x)
        first, _ = maxout.features(x)
    torch.testing.assert_close(first.x[:, 0], torch.maximum(pieces[:, :4], pieces[:, 4:]))


@pytest.mark.parametrize("names", [("image", "series"), ("image", "series", "table")])
@pytest.mark.parametrize("multitask", [False, True])
def test_a_stack_trains_as_its_members_alone(data, names, multitask):
    """The cohort's promise: float64 logits within 1e-8 after 20 steps, rows absent among them."""
    schema = data.schema
    k = len(names)
    table = (0,) if k == 3 else ()
    layers = [
        (((0, 1, *table), "relu"), ((3, 3, *table), "sigmoid")),
        (((1, 0, *table), "leaky-relu"), ((0, 2, *table), "relu")),
        (((3, 3, *table), "sigmoid"), ((3, 3, *table), "sigmoid")),
    ]

    def models():
        made = []
        for pair in layers:
            model = calibrated(genotype(*pair, names=names, multitask=multitask), data)
            model.encoders = torch.nn.ModuleDict()
            made.append(model)
        return made

    # Tables as `pack` makes them: zeros behind a feature's own channels.
    real = {n: torch.tensor([[c < w for c in range(s.wide)] for w in s.widths])
            for n, s in models()[0].standards.items()}  # fmt: skip

    def batch(i):
        rng = seeds.stream(0, "banked", i)
        tables = {
            n: [Tokens(torch.from_numpy(rng.standard_normal((32, *there.shape))) * there)]
            for n, there in real.items()
        }
        present = torch.from_numpy(rng.random((32, len(schema.names))) < 0.9)
        return Batch(tables, present, torch.from_numpy(rng.integers(0, 3, 32)))

    def train(learner):
        objective = Objective(schema)
        optimizer = make_optimizer(learner.parameters(), Recipe(lr=0.01, weight_decay=1e-4))
        for i in range(20):
            step(learner.losses(batch(i), objective, 1).sum(), optimizer)
        learner.train(False)
        with torch.no_grad():
            return learner.outputs(batch(-1))

    together = train(StackLearner(models()))
    assert set(together.unimodal) == (set(names) if multitask else set())
    for i, model in enumerate(models()):
        alone = train(SingleLearner(model, frozen=True))
        assert (together.fused[i] - alone.fused[0]).abs().max() < 1e-8
        for name in alone.unimodal:
            assert (together.unimodal[name][i] - alone.unimodal[name][0]).abs().max() < 1e-8
    assert (together.fused[0] - together.fused[1]).abs().max() > 0.01


def test_stacking_is_by_shape_alone(data):
    key = stack_key(TWO, data.schema)
    same = genotype(((1, 1, 0), "sigmoid"), ((2, 0, 0), "relu"))
    assert stack_key(same, data.schema) == key
    different = [ONE, TWO.model_copy(update={"width": 7}),
                 TWO.model_copy(update={"multitask": True})]  # fmt: skip
    assert all(stack_key(other, data.schema) != key for other in different)
    assert versions(TWO)["mfas"] == 2


def test_w_is_inherited_by_layer_and_size_whatever_is_read(data):
    one, two = (build_seeded(g, data.schema, s) for g, s in ((ONE, 1), (TWO, 2)))
    other = genotype(((2, 2, 0), "sigmoid"), ((1, 0, 0), "relu"))
    heir = build_seeded(other, data.schema, 3)
    load_matching(heir, two.state_dict())
    load_matching(heir, one.state_dict())
    assert torch.equal(heir.fusion[0].weight, one.fusion[0].weight)  # the last trained W_1
    assert torch.equal(heir.fusion[1].weight, two.fusion[1].weight)
    assert torch.equal(heir.classify["h2"].weight, two.classify["h2"].weight)
    assert heir.layers == other.layers
    wide = build_seeded(TWO.model_copy(update={"width": 9}), data.schema, 4)
    before = {n: t.clone() for n, t in wide.fusion.state_dict().items()}
    load_matching(wide, two.state_dict())
    assert all(torch.equal(t, before[n]) for n, t in wide.fusion.state_dict().items())


def test_a_backbone_brings_its_encoder_and_nothing_else(data):
    # The same widths everywhere, so that shapes alone would not tell a head from a head.
    block = Block.of("mlp", channels=6, layers=2)
    single = build_seeded(MixGenotype.single("table", block), data.schema, 1)
    asked = MFASGenotype(backbones=(("table", block),), layers=(((1,), "relu"),), width=6)
    model = build_seeded(asked, data.schema, 2)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    load_matching(model, single.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.startswith("encoders."))


def test_an_untrained_token_is_the_mean(data):
    """Where no training row lacks a modality its token stays at zero: the standardised mean."""
    whole = toy_dataset(60, ("series",))
    model = calibrated(genotype(((0,), "relu"), names=("series",)), whole, torch.float32)
    batch = RowSource(whole, CPU).batch(whole.split.train)
    absent = torch.zeros((len(whole.split.train), 1), dtype=torch.bool)
    mean = model.fuse({"series": [Tokens(torch.zeros(1, 4, 20))]}, None).fused
    torch.testing.assert_close(model(batch.inputs, absent).fused, mean.expand(len(absent), -1))


def test_problems_are_all_told(data):
    bad = MFASGenotype(
        backbones=(("imgae", BLOCKS["image"]), ("series", Block.of("nothing")),
                   ("table", BLOCKS["table"])),
        layers=(((0, 0, 1), "relu"),),
    )  # fmt: skip
    with pytest.raises(GenotypeError) as caught:
        build_seeded(bad, data.schema, 0)
    told = str(caught.value)
    for part in ("imgae", "nothing", "features 0 to 0, but got 1"):
        assert part in told
