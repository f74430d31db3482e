import itertools

import pytest
import torch

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError, UsageError
from polymix.genotype import Block, Genotype
from polymix.methods.mixmas.space import MixSpace
from polymix.nn import catalog
from polymix.nn.build import build, build_seeded, stack_key, versions
from polymix.nn.encoders.conv import ConvEncoder
from polymix.nn.encoders.mlp import MLPEncoder, PooledNetwork
from polymix.nn.encoders.ramlp import RaMLP
from polymix.nn.mixers.mlp_mixer import MLPMixer
from polymix.registry import register
from polymix.space.mix import Loss, MixGenotype
from polymix.testing import EXAMPLES

from .cases import CLASSES, SMALL, rows_of, schema_of

NETWORKS = (
    None,
    Block.of("mlp", hidden=7),
    Block.of("mlp-mixer", token_dim=3, channel_dim=5),
    Block.of("hyper-mixer", token_dim=3, channel_dim=5),
)
GROUPS = [
    (Kind.IMAGE,),
    (Kind.TEXT, Kind.TABULAR),
    (Kind.IMAGE, Kind.AUDIO),
    (Kind.FEATURES, Kind.TIMESERIES, Kind.TEXT),
    (Kind.IMAGE, Kind.TEXT, Kind.TABULAR, Kind.AUDIO),
]
PAIR = (Kind.IMAGE, Kind.TEXT)


def genotype_of(kinds, fusion="concat", network=None, loss="uniform"):
    pairs = tuple((kind.value, SMALL[kind]) for kind in kinds)
    if len(kinds) == 1:
        return MixGenotype(encoders=pairs, network=network)
    return MixGenotype(encoders=pairs, fusion=fusion, network=network, loss=Loss(kind=loss))


def space_of(kinds, loss):
    encoders = {kind.value: [SMALL[kind], Block.of("mlp", channels=3)] for kind in kinds}
    return MixSpace(encoders, ("concat", "mean", "max"), NETWORKS, loss)


@pytest.mark.parametrize("kind", ["single", "uniform", "linear"])
@pytest.mark.parametrize("kinds", GROUPS, ids=lambda kinds: "+".join(kinds))
def test_every_genotype_of_a_space_builds_and_trains(kinds, kind):
    schema = schema_of(*kinds, optional=True)
    rows = rows_of(schema, 3)
    present = torch.ones(3, len(kinds), dtype=torch.bool)
    present[0] = False
    for genotype in space_of(kinds, Loss(kind=kind)):
        model = build(genotype, schema).double()
        output = model(rows, present)
        heads = schema.names if kind != "single" and len(kinds) > 1 else ()
        assert output.fused.shape == (3, 3)
        assert tuple(output.unimodal) == heads
        assert all(logits.shape == (3, 3) for logits in output.unimodal.values())
        fused, each = model.head_weights(1)
        assert fused + sum(each.values()) == pytest.approx(1)
        assert tuple(each) == heads
        total = sum((logits**2).sum() for logits in (output.fused, *output.unimodal.values()))
        total.backward()
        lost = [name for name, p in model.named_parameters() if p.grad is None]
        assert not lost, (str(genotype), lost)


def test_raw_rows_and_features_give_the_same():
    schema = schema_of(*PAIR)
    model, rows = build(genotype_of(PAIR, network=NETWORKS[2]), schema).double(), rows_of(schema, 4)
    whole, halves = model(rows), model.fuse(model.encode(rows), None)
    assert torch.equal(whole.fused, halves.fused)
    assert whole.unimodal.keys() == halves.unimodal.keys() == {"image", "text"}


def test_a_modality_s_head_reads_its_own_tokens_alone():
    schema, rows = schema_of(*PAIR), rows_of(schema_of(*PAIR), 2)
    model = build(genotype_of(PAIR, network=NETWORKS[2]), schema).double()
    other = {**rows, "text": rows_of(schema, 2, seed=1)["text"]}
    one, two = model(rows), model(other)
    assert torch.equal(one.unimodal["image"], two.unimodal["image"])
    assert not torch.allclose(one.unimodal["text"], two.unimodal["text"])
    assert not torch.allclose(one.fused, two.fused)
    pooled = model.encode(rows)["image"][0].pooled()
    torch.testing.assert_close(one.unimodal["image"], model.heads["image"](pooled))  # Eq. 5


def test_columns_of_presence_follow_the_schema_and_not_the_genotype():
    schema = schema_of(Kind.TABULAR, *PAIR, optional=True)
    model = build(genotype_of(PAIR[::-1]), schema).double()
    rows, present = rows_of(schema, 1), torch.tensor([[True, True, False]])
    other = {**rows, "text": rows_of(schema, 1, seed=1)["text"]}
    assert torch.equal(model(rows, present).fused, model(other, present).fused)


class TestAbsence:
    @pytest.mark.parametrize("fusion", ["concat", "mean", "max"])
    @pytest.mark.parametrize("network", NETWORKS, ids=str)
    @pytest.mark.parametrize("optional", [True, False])
    def test_an_absent_row_s_input_does_not_matter(self, fusion, network, optional):
        schema = schema_of(*PAIR, optional=optional)
        model = build(genotype_of(PAIR, fusion, network), schema).double().eval()
        rows, others = rows_of(schema, 4), rows_of(schema, 4, seed=1)
        present = torch.tensor([[True, True], [False, True], [True, False], [False, False]])
        mixed = {
            name: torch.where(present[:, i].reshape(-1, *[1] * (x.ndim - 1)), x, others[name])
            for i, (name, x) in enumerate(rows.items())
        }
        one, two = model(rows, present), model(mixed, present)
        torch.testing.assert_close(one.fused, two.fused, rtol=0, atol=1e-12)
        for name in schema.names:
            torch.testing.assert_close(one.unimodal[name], two.unimodal[name])
        present[:] = True
        assert (model(rows, present).fused - model(rows).fused).abs().max() == 0

    def test_absent_is_not_a_row_of_zeros(self):
        schema = schema_of(*PAIR)
        model = build(genotype_of(PAIR), schema).double()
        rows = {name: torch.zeros_like(x) for name, x in rows_of(schema, 1).items()}
        absent = model(rows, torch.tensor([[False, True]])).fused
        assert (absent - model(rows).fused).abs().max() > 1e-6

    def test_a_neighbour_s_absence_does_not_matter(self):
        schema = schema_of(*PAIR, optional=True)
        model, rows = build(genotype_of(PAIR), schema).double(), rows_of(schema, 2)
        one = model(rows, torch.tensor([[True, True], [False, False]])).fused[0]
        assert torch.equal(one, model(rows, torch.ones(2, 2, dtype=torch.bool)).fused[0])

    def test_an_optional_modality_s_token_is_trained(self):
        schema = schema_of(*PAIR, optional=True)
        model = build(genotype_of(PAIR), schema).double()
        assert {n for n, _ in model.named_parameters() if "absent" in n} == {
            "absent.image.0.token", "absent.text.0.token",
        }  # fmt: skip
        present = torch.tensor([[False, True], [True, True]])
        model(rows_of(schema, 2), present).fused.sum().backward()
        assert model.absent["image"][0].token.grad.abs().max() > 0
        assert model.absent["text"][0].token.grad.abs().max() == 0
        before = model.absent["image"][0].token.detach().clone()
        model.set_absent_tokens({n: [torch.ones(len(t[0].token))] for n, t in model.absent.items()})
        assert torch.equal(model.absent["image"][0].token, before)

    def test_another_s_token_is_settled(self):
        schema = schema_of(*PAIR)
        model = build(genotype_of(PAIR), schema).double()
        assert not [n for n, _ in model.named_parameters() if "absent" in n]
        assert "absent.image.0.token" in model.state_dict()
        rows, ones = rows_of(schema, 2), torch.tensor([[False, True]] * 2)
        before = model(rows, ones).fused
        model.set_absent_tokens({n: [torch.ones(len(t[0].token))] for n, t in model.absent.items()})
        assert torch.equal(model.absent["image"][0].token, torch.ones(6).double())
        assert not torch.allclose(before, model(rows, ones).fused)
        assert torch.equal(model(rows).fused, model(rows).fused)


class TestUnimodalHeads:
    @pytest.mark.parametrize("k", [2, 3, 4])
    @pytest.mark.parametrize("loss", ["uniform", "linear"])
    def test_one_each(self, k, loss):
        kinds = tuple(SMALL)[:k]
        model = build(genotype_of(kinds, loss=loss), schema_of(*kinds))
        assert list(model.heads) == [kind.value for kind in kinds]
        assert all(head.out_features == 3 for head in model.heads.values())

    def test_none_with_the_single_loss_or_one_modality(self):
        assert not build(genotype_of(PAIR, loss="single"), schema_of(*PAIR)).heads
        model = build(genotype_of((Kind.TEXT,)), schema_of(Kind.TEXT))
        assert not model.heads
        assert model.head_weights(5) == (1.0, {})


class TestNames:
    @pytest.mark.parametrize("name", ["type", "values", "keys", "float", "forward", "training"])
    def test_a_modality_may_be_called_anything(self, name):
        odd = Modality(name=name, kind=Kind.TABULAR, shape=(4,), dtype="float32", optional=True)
        schema = schema_of(Kind.IMAGE, odd=odd)
        pairs = (("image", SMALL[Kind.IMAGE]), (name, Block.of("mlp", channels=5)))
        genotype = MixGenotype(encoders=pairs, fusion="mean", loss=Loss())
        model = build(genotype, schema).double()
        rows, present = rows_of(schema, 2), torch.tensor([[True, False], [True, True]])
        output = model(rows, present)
        assert list(output.unimodal) == ["image", name] == list(model.encoders)
        assert [n for n, _ in model.heads.items()] == ["image", name]
        assert name in model.encoders
        assert "text" not in model.encoders
        again = build_seeded(genotype, schema, 1).double()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(rows, present).fused, output.fused)
        called = torch.func.functional_call(
            again, {k: v * 0 for k, v in model.state_dict().items()}, (rows, present)
        )
        assert (called.fused == 0).all()


class TestErrors:
    def fails(self, genotype, kinds=PAIR):
        with pytest.raises(GenotypeError) as caught:
            build(genotype, schema_of(*kinds))
        return caught.value.problems

    def test_every_problem_of_every_encoder(self):
        genotype = MixGenotype(
            encoders=(
                ("image", Block.of("mlp-mixr")),
                ("text", Block.of("mlp-mixer", "smal", chanels=3, blocks="2", dropout=1)),
                ("sound", Block.of("conv")),
            ),
            fusion="mean",
        )
        assert self.fails(genotype) == (
            "image: no encoder 'mlp-mixr': did you mean 'mlp-mixer'? "
            f"Known: {', '.join(catalog.encoder_names())}.",
            "text: mlp-mixer has no preset 'smal': did you mean 'small'? Known: paper, small.",
            "text: mlp-mixer: option 'blocks' is of type int, but got '2'",
            "text: mlp-mixer has no option 'chanels': did you mean 'channels'? Known: blocks, "
            "channel_dim, channels, dropout, patch, token_dim.",
            "no modality 'sound': Known: image, text.",
        )

    @pytest.mark.parametrize(
        ("block", "problem"),
        [
            (Block.of("mlp-mixer", blocks=0), "mlp-mixer: sizes >= 1 .* but got blocks=0"),
            (Block.of("mlp-mixer", channels=0), "mlp-mixer: sizes >= 1 .* but got channels=0"),
            (Block.of("mlp-mixer", channels=True), "'channels' is of type int, but got True"),
            (Block.of("mlp-mixer", channels=8.5), "'channels' is of type int, but got 8.5"),
            (Block.of("mlp-mixer", dropout=1), "0 <= dropout < 1 must hold, but got .*dropout=1"),
            (Block.of("hyper-mixer", token_dim=-1), "but got .*token_dim=-1"),
            (Block.of("mlp", layers=0), "mlp: sizes >= 1 .*layers=0"),
            (Block.of("conv", least=0, channels=8), "conv: channels, least >= 1"),
            (Block.of("mlp-mixer", patch=17), "patch must fit into the 16 x 12 input"),
            (Block.of("ramlp", widths=3), "'widths' is of type tuple, but got 3"),
            (Block.of("monarch-mixer"), "does not take modality 'image' of kind image: conv"),
        ],
        ids=str,
    )
    def test_options(self, block, problem):
        with pytest.raises(GenotypeError, match=problem):
            build(MixGenotype.single("image", block), schema_of(*PAIR))

    def test_networks(self):
        (told,) = self.fails(genotype_of(PAIR, network=Block.of("hyper-mix")))
        assert told.startswith("no fusion network 'hyper-mix': did you mean 'hyper-mixer'?")
        assert len(self.fails(genotype_of(PAIR, network=Block.of("mlp", "big", width=3)))) == 2
        assert len(self.fails(genotype_of(PAIR, network=Block.of("gmlp", patch=3)))) == 1


class TestCatalog:
    def test_a_block_of_one_s_own(self, registrations):
        class Mine(MLPEncoder):
            name = "mine"

        class MyStack(MLPMixer):
            name = "my-stack"

        register(Mine)
        register(Mine)
        register(MyStack)
        assert {"mine", "my-stack"} <= set(catalog.encoders_for(Kind.IMAGE))
        genotype = MixGenotype(
            encoders=(("image", Block.of("mine")), ("text", Block.of("my-stack"))),
            fusion="concat",
            network=Block.of("my-stack"),
        )
        assert build(genotype, schema_of(*PAIR)).network.name == "my-stack"

    @pytest.mark.parametrize("name", ["mlp", "mlp-mixer"])
    def test_a_taken_name_is_refused(self, name):
        class Other(MLPEncoder):
            pass

        Other.name = name
        with pytest.raises(UsageError, match=f"the name '{name}' is taken by polymix.*ML"):
            register(Other)


def test_versions_tell_the_blocks_in_use(monkeypatch):
    monkeypatch.setattr(PooledNetwork, "VERSION", 7)
    genotype = genotype_of((Kind.TABULAR, Kind.TEXT), "mean", Block.of("mlp"))
    assert versions(genotype) == {"mlp": 1, "gmlp": 1, "pooled mlp": 7, "mean": 1}
    single = MixGenotype.single("image", Block.of("mlp-mixer"))
    assert versions(single) == {"mlp-mixer": 1}
    network = genotype_of(PAIR, "max", Block.of("hyper-mixer"))
    assert versions(network) == {"mlp-mixer": 1, "gmlp": 1, "hyper-mixer": 1, "max": 1}


def test_a_kind_of_genotype_that_nothing_builds():
    class Odd(Genotype):
        kind = "odd"

    schema = schema_of(*PAIR)
    for function in (lambda: build(Odd(), schema), lambda: versions(Odd()),
                     lambda: stack_key(Odd(), schema)):  # fmt: skip
        with pytest.raises(GenotypeError, match=r"genotypes of kind 'odd'.*register a model"):
            function()


@pytest.mark.parametrize("encoder", [ConvEncoder, RaMLP])
def test_an_encoder_refuses_a_modality_that_it_does_not_take(encoder):
    with pytest.raises(GenotypeError, match="but got tabular"):
        encoder(EXAMPLES[Kind.TABULAR])


def test_weights_depend_on_seed_and_genotype_alone():
    schema, genotype = schema_of(*PAIR), genotype_of(PAIR)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = build_seeded(genotype, schema, 0).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    two = build_seeded(genotype, schema, 0).state_dict()
    other = build_seeded(genotype, schema, 1).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_every_outputs_width():
    from polymix.data.schema import Schema, Target

    targets = [
        (CLASSES, 3),
        (Target(name="y", task="binary", classes=("n", "y")), 2),
        (Target(name="y", task="multilabel", classes=("a",)), 1),
        (Target(name="y", task="regression"), 1),
    ]
    for (target, width), loss in itertools.product(targets, ("single", "uniform")):
        schema = Schema(modalities=schema_of(*PAIR).modalities, target=target)
        output = build(genotype_of(PAIR, loss=loss), schema).double()(rows_of(schema, 2))
        assert all(o.shape == (2, width) for o in (output.fused, *output.unimodal.values()))
