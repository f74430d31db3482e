"""EmbraceNet: docked, drawn by channel, never from what a row lacks."""

import pytest
import torch

from methods.mro.test_model import PADDED, padded_rows
from nn.cases import SMALL, rows_of, schema_of
from polymix.comparators.embracenet.genotype import EmbraceGenotype
from polymix.comparators.embracenet.model import chances, embrace
from polymix.data.schema import Kind
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.nn.build import build, build_seeded, versions
from polymix.train.cost import count_cost

KINDS = {
    2: (Kind.TEXT, Kind.TABULAR),
    3: (Kind.TEXT, Kind.TIMESERIES, Kind.IMAGE),
    4: (Kind.TEXT, Kind.AUDIO, Kind.IMAGE, Kind.TABULAR),
}


def genotype_of(schema, **changes):
    pairs = tuple((m.name, SMALL[m.kind]) for m in schema.modalities)
    return EmbraceGenotype(**{"encoders": pairs, "width": 8, **changes})


def presence(k):
    present = torch.ones(4, k, dtype=torch.bool)
    present[1, 0] = present[2, 1:] = present[3] = False
    return present


@pytest.mark.parametrize("k", KINDS)
def test_outputs_and_costs(k):
    schema = schema_of(*KINDS[k], optional=True)
    genotype = genotype_of(schema)
    model = build(genotype, schema).double()
    output = model(rows_of(schema, 4), presence(k))
    assert output.fused.shape == (4, 3)
    assert output.unimodal == {}
    cost = count_cost(build(genotype, schema), schema)
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert cost.flops > 0
    assert versions(genotype)["embrace"] == 1
    assert len(versions(genotype)) == 1 + k


def test_chances_are_alike_for_all_that_is_there():
    docked = torch.zeros(3, 3, 5)
    assert torch.allclose(chances(docked, None), torch.full((3, 3), 1 / 3))
    there = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    third = [1 / 3] * 3
    assert torch.allclose(chances(docked, there), torch.tensor([third, [0.5, 0, 0.5], third]))


def test_each_channel_comes_from_one_modality():
    torch.manual_seed(0)
    docked = torch.arange(3.0)[None, :, None].expand(2000, 3, 10)
    chance = torch.tensor([[0.2, 0.0, 0.8]]).expand(2000, 3)
    drawn = embrace(docked, chance, draw=True)
    assert drawn.shape == (2000, 10)
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    assert (drawn == 2).double().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (drawn.std(1) > 0).any()  # channels of a row are drawn by themselves
    # What evaluation gives is the mean of what training draws.
    mean = embrace(docked, chance, draw=False)
    assert torch.allclose(mean, torch.full_like(mean, 1.6))
    assert drawn.mean().item() == pytest.approx(1.6, abs=0.02)


def test_training_draws_and_evaluation_does_not():
    schema = schema_of(*KINDS[3])
    model, rows = build_seeded(genotype_of(schema), schema, 0).double(), rows_of(schema, 4)
    torch.manual_seed(0)
    assert not torch.equal(model(rows).fused, model(rows).fused)
    model.eval()
    assert torch.equal(model(rows).fused, model(rows).fused)


@pytest.mark.parametrize("training", [True, False])
def test_what_a_row_lacks_is_never_drawn(training):
    schema = schema_of(*KINDS[3], optional=True)
    model = build_seeded(genotype_of(schema), schema, 0).double().train(training)
    rows, others = rows_of(schema, 4), rows_of(schema, 4, seed=1)
    present = presence(3)
    mixed = {
        name: torch.where(present[:, i].reshape(-1, *[1] * (x.ndim - 1)), x, others[name])
        for i, (name, x) in enumerate(rows.items())
    }
    outputs = []
    for given in (rows, mixed):
        torch.manual_seed(1)
        outputs.append(model(given, present).fused)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-12)
    # Nor is its absent-token, unless there is nothing else.
    with torch.no_grad():
        for tokens in model.absent.values():
            tokens[0].token.add_(5.0)
    torch.manual_seed(1)
    moved = model(rows, present).fused
    torch.testing.assert_close(moved[:3], outputs[0][:3], rtol=0, atol=1e-12)
    assert not torch.allclose(moved[3], outputs[0][3])


def test_a_row_alone_has_the_chances_of_what_it_has():
    schema = schema_of(*KINDS[2])
    model = build_seeded(genotype_of(schema), schema, 0).double().eval()
    rows = rows_of(schema, 1)
    one = [model(rows, torch.tensor([[a, b]])).fused for a, b in ((True, False), (False, True))]
    torch.testing.assert_close(model(rows).fused, (one[0] + one[1]) / 2)


def test_padding_has_no_influence():
    schema = schema_of(Kind.TEXT, padded=PADDED)
    pairs = tuple((name, Block.of("linear-tokens", channels=6)) for name in schema.names)
    model = build_seeded(genotype_of(schema, encoders=pairs), schema, 0).double().eval()
    rows = {**rows_of(schema, 4), "padded": padded_rows(4)}
    short = {**rows, "padded": rows["padded"].clone()}
    short["padded"][0, :3] = rows["padded"][0, :3]
    short["padded"][0, 3:, 1:] = 7.0
    assert torch.equal(model(short).fused, model(rows).fused)


def test_every_parameter_is_trained():
    schema = schema_of(*KINDS[3], optional=True)
    model = build_seeded(genotype_of(schema), schema, 0).double()
    torch.manual_seed(0)
    (model(rows_of(schema, 4), presence(3)).fused ** 2).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_what_cannot_be_built_is_told_at_once():
    pairs = (("txt", Block.of("mlp")), ("tabular", Block.of("conv")))
    with pytest.raises(GenotypeError) as caught:
        build(EmbraceGenotype(encoders=pairs), schema_of(Kind.TEXT, Kind.TABULAR))
    assert len(caught.value.problems) == 2
