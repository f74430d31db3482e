"""The model of a mask, and of all masks at once."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nn.cases import rows_of, schema_of
from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.methods.mro.model import MROModel, part_flops
from polymix.methods.mro.path import CrossModalPath
from polymix.methods.mro.space import MROGenotype, MROSpace, paths_of
from polymix.nn.build import build, build_seeded, versions
from polymix.nn.encoders.linear_tokens import LinearTokens
from polymix.nn.model import load_matching
from polymix.train.cost import count_cost

PADDED = Modality(name="padded", kind=Kind.FEATURES, shape=(5, 4), dtype="float32", padded=True)
KINDS = {
    2: (Kind.TEXT, Kind.TABULAR),
    3: (Kind.TEXT, Kind.TIMESERIES, Kind.IMAGE),
    4: (Kind.TEXT, Kind.AUDIO, Kind.IMAGE, Kind.TABULAR),
}


def space_of(schema, dim=8, channels=8, **changes):
    block = Block.of("linear-tokens", channels=channels)
    pairs = tuple((name, block) for name in schema.names)
    return MROSpace(
        MROGenotype(
            encoders=pairs, mask=(1,) * len(paths_of(schema.names)), dim=dim, heads=2, ff=2,
            **changes,
        )
    )  # fmt: skip


def padded_rows(count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 5, 4))
    x[..., 0] = 1
    x[0, 3:] = 0
    x[1, :2] = 0
    return torch.from_numpy(x)


@pytest.mark.parametrize("k", KINDS)
def test_all_masks_from_one_pass_are_each_mask_by_itself(k):
    schema = schema_of(*KINDS[k], optional=True)
    space, rows = space_of(schema), rows_of(schema, 5)
    present = torch.ones(5, k, dtype=torch.bool)
    present[0, 0] = present[1, 1] = False
    present[2] = False
    full = build_seeded(space.full, schema, 0).double().eval()
    masks = space.masks()
    with torch.no_grad():
        every = full.mask_logits(full.paths(full.encode(rows), present), torch.from_numpy(masks))
        picked = range(len(masks)) if k < 4 else range(0, len(masks), 117)
        for m in picked:
            alone = build(space.genotype(masks[m].tolist()), schema).double().eval()
            load_matching(alone, full.state_dict())
            logits = alone(rows, present).fused
            torch.testing.assert_close(every[m], logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", [2, 3])
def test_the_flops_of_a_mask_are_those_of_a_network_of_its_paths(k):
    schema = schema_of(*KINDS[k])
    space, rows = space_of(schema, dim=6), rows_of(schema, 1)
    full = build(space.full, schema).double().eval()
    parts = part_flops(full, schema)
    for genotype in space:
        only = [place for place, bit in enumerate(genotype.mask) if bit]
        needed = {name: rows[name] for path in genotype.paths for name in path}
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            full.head(full.paths(full.encode(needed), None, only).mean(0))
        alone = count_cost(build(genotype, schema), schema)
        assert counter.get_total_flops() == alone.flops
        assert parts.of(space.paths, genotype.mask) == alone.flops
    assert alone.flops == count_cost(full.float(), schema).flops


def test_paths_that_are_not_taken_are_not_computed(monkeypatch):
    schema = schema_of(*KINDS[3])
    space = space_of(schema)
    ran = []
    whole = CrossModalPath.attend
    monkeypatch.setattr(
        CrossModalPath, "attend", lambda self, *rest: ran.append(self) or whole(self, *rest)
    )
    model = build(space.genotype([1, 0, 0, 0, 0, 1]), schema).double()
    model(rows_of(schema, 2))
    assert ran == list(model.layers.values())
    assert list(model.layers) == ["text>timeseries", "image>timeseries"]
    two = build(space.genotype([1, 0, 0, 0, 0, 0]), schema)
    assert list(two.encoders) == ["text", "timeseries"]


def test_a_path_asks_from_its_first_modality():
    schema = schema_of(Kind.TIMESERIES, Kind.TABULAR)
    space, rows = space_of(schema), rows_of(schema, 2)
    model = build(space.genotype([1, 0]), schema).double().eval()  # timeseries asks
    seen = []
    model.paths(model.encode(rows), watch=lambda *told: seen.append(told))
    ((place, weights, there),) = seen
    assert (place, tuple(weights.shape), there) == (0, (2, 2, 6, 1), None)


def test_the_token_that_a_row_is_about_asks_alone_and_all_answer():
    focused = PADDED.model_copy(update={"focus": 2})
    schema, plain = (schema_of(Kind.TEXT, padded=m) for m in (focused, PADDED))
    space = space_of(schema)
    rows = {**rows_of(schema, 4), "padded": padded_rows(4)}
    model = build_seeded(space.full, schema, 0).double().eval()
    seen = {}
    model.paths(model.encode(rows), watch=lambda place, weights, _: seen.update({place: weights}))
    assert [tuple(seen[place].shape) for place in range(2)] == [(4, 2, 7, 5), (4, 2, 1, 7)]
    # Its neighbours reach it through what they answer alone: without that path, they are no matter.
    alone = build(space.genotype([0, 1]), schema).double().eval()
    load_matching(alone, model.state_dict())
    other = {**rows, "padded": rows["padded"].clone()}
    other["padded"][:, 3, 1:] += 1
    torch.testing.assert_close(alone(other).fused, alone(rows).fused, rtol=0, atol=0)
    assert not torch.allclose(model(other).fused, model(rows).fused)
    # As if the other tokens had been cut off after the attention.
    whole = build_seeded(space.full, plain, 0).double().eval()
    tokens = whole.asked(whole.encode(rows), None)["padded"]
    answers = model.asked(model.encode(rows), None)["text"]
    pooled, _ = whole.layers["padded>text"].attend(
        tokens.x[:, 2:3], answers.x, tokens.there[:, 2:3], answers.there
    )
    torch.testing.assert_close(pooled, model.paths(model.encode(rows))[1])
    assert part_flops(model, schema).paths[1] < part_flops(whole, plain).paths[1]


def test_an_encoder_of_other_tokens_has_none_that_a_row_is_about():
    schema = schema_of(Kind.TEXT, padded=PADDED.model_copy(update={"focus": 4}))
    pairs = (("text", Block.of("linear-tokens")), ("padded", Block.of("mlp")))
    model = build(MROGenotype(encoders=pairs, mask=(1, 1), dim=8, heads=2), schema).double()
    assert model(rows_of(schema, 2)).fused.shape == (2, 3)


def test_padding_has_no_influence():
    schema = schema_of(Kind.TEXT, padded=PADDED)
    space = space_of(schema)
    rows = {**rows_of(schema, 4), "padded": padded_rows(4)}
    model = build(space.full, schema).double().eval()
    before = model(rows).fused
    spoilt = rows["padded"].clone()
    spoilt[..., 1:][spoilt[..., 0] == 0] = 1e3  # what a batch never holds, and no one would see
    assert torch.equal(model({**rows, "padded": spoilt}).fused, before)
    # A row without the padding, through a network as long as what is left of it.
    short = PADDED.model_copy(update={"shape": (3, 4)})
    less = build(space.full, schema_of(Kind.TEXT, padded=short)).double().eval()
    load_matching(less, model.state_dict())
    with torch.no_grad():
        less.encoders["padded"].place.copy_(model.encoders["padded"].place[:3])
    cut = {"text": rows["text"][:1], "padded": rows["padded"][:1, :3]}
    torch.testing.assert_close(less(cut).fused, before[:1], rtol=0, atol=1e-10)


def test_a_row_of_padding_alone_is_finite():
    schema = schema_of(Kind.TEXT, padded=PADDED)
    model = build(space_of(schema).full, schema).double()
    rows = {**rows_of(schema, 2), "padded": torch.zeros(2, 5, 4, dtype=torch.float64)}
    out = model(rows).fused
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_an_absent_modality_is_its_token_whatever_lies_there():
    schema = schema_of(
        Kind.TEXT, optional=True, padded=PADDED.model_copy(update={"optional": True})
    )
    model = build(space_of(schema).full, schema).double().eval()
    present = torch.ones(3, 2, dtype=torch.bool)
    present[0, 1] = False
    rows = {**rows_of(schema, 3), "padded": padded_rows(3)}
    other = {**rows, "padded": rows["padded"].clone()}
    other["padded"][0] = 7.0
    assert torch.equal(model(rows, present).fused, model(other, present).fused)
    with torch.no_grad():
        model.absent["padded"][0].token.add_(torch.linspace(0, 1, 8))
    changed = model(rows, present).fused
    assert not torch.allclose(changed[0], model(rows).fused[0])
    assert torch.equal(changed[1:], model(rows).fused[1:])


@pytest.mark.parametrize("channels", [8, 6])
def test_every_parameter_is_trained(channels):
    schema = schema_of(Kind.TEXT, Kind.TIMESERIES, Kind.TABULAR, optional=True)
    model = build(space_of(schema, channels=channels).full, schema).double()
    present = torch.ones(3, 3, dtype=torch.bool)
    present[0] = False
    (model(rows_of(schema, 3), present).fused ** 2).sum().backward()
    lost = [name for name, p in model.named_parameters() if p.grad is None]
    assert not lost
    assert isinstance(model, MROModel)


def test_other_encoders_fit():
    schema = schema_of(*KINDS[3])
    pairs = (
        ("text", Block.of("gmlp", channels=6, channel_dim=8, blocks=1)),
        ("timeseries", Block.of("mlp", channels=5)),
        ("image", Block.of("conv", channels=8)),
    )
    genotype = MROGenotype(encoders=pairs, mask=(0, 1, 1, 0, 1, 1), dim=8, heads=2)
    assert build(genotype, schema).double()(rows_of(schema, 2)).fused.shape == (2, 3)
    assert versions(genotype) == {"mro": 2, "cross-modal": 1, "gmlp": 1, "mlp": 1, "conv": 1}


def test_what_cannot_be_built_is_told_at_once():
    pairs = (("txt", Block.of("linear-tokens")), ("tabular", Block.of("conv")))
    genotype = MROGenotype(encoders=pairs, mask=(1, 0))
    with pytest.raises(GenotypeError) as caught:
        build(genotype, schema_of(Kind.TEXT, Kind.TABULAR))
    assert len(caught.value.problems) == 2


def test_padded_tokens_are_zeros():
    encoder = LinearTokens(PADDED, channels=3).double()
    rows = padded_rows(3)
    found = encoder(rows).x
    assert encoder.pads
    assert torch.equal((found != 0).any(-1), rows[..., 0] != 0)
