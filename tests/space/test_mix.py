import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype, parse_genotype
from polymix.space.mix import Loss, MixGenotype

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES
    | st.lists(st.integers(), max_size=4).map(tuple)
)
BLOCKS = st.builds(
    lambda name, preset, options: Block.of(name, preset, **options),
    NAMES,
    NAMES,
    st.dictionaries(NAMES.filter(lambda key: key not in ("name", "preset")), SCALARS, max_size=4),
)
LOSSES = st.builds(
    Loss,
    kind=st.sampled_from(["single", "uniform", "linear"]),
    rate=st.floats(0, 1, exclude_min=True),
    start=st.integers(0, 100),
)


@st.composite
def genotypes(draw):
    encoders = draw(st.dictionaries(NAMES, BLOCKS, min_size=1, max_size=4))
    network = draw(st.none() | BLOCKS)
    if len(encoders) == 1:
        return MixGenotype(encoders=tuple(encoders.items()), network=network)
    fusion = draw(st.sampled_from(["concat", "mean", "max"]))
    return MixGenotype(
        encoders=tuple(encoders.items()), fusion=fusion, network=network, loss=draw(LOSSES)
    )


def block(i):
    return Block.of(f"e{i}")


class TestGenotype:
    @given(genotypes())
    def test_json_round_trip(self, genotype):
        again = parse_genotype(genotype.to_json())
        assert again == genotype
        assert hash(again) == hash(genotype)
        assert again.to_json() == genotype.to_json()
        assert again.digest == genotype.digest
        assert type(again) is MixGenotype

    @given(genotypes(), genotypes())
    def test_json_and_digest_tell_genotypes_apart(self, one, two):
        assert (one.to_json() == two.to_json()) == (one.digest == two.digest)
        if one.to_json() == two.to_json():
            assert one == two

    def test_order_of_options_does_not_matter(self):
        one, two = Block.of("x", a=1, b=2), Block.of("x", b=2, a=1)
        assert one == two
        assert len({one, two}) == 1

    def test_the_digest_is_the_same_on_every_day(self):
        genotype = MixGenotype.single("image", Block.of("mlp-mixer", channels=32))
        assert genotype.to_json() == (
            '{"encoders":[["image",{"name":"mlp-mixer","options":[["channels",32]],'
            '"preset":"small"}]],"fusion":null,"kind":"mix",'
            '"loss":{"kind":"single","rate":0.05,"start":1},"network":null}'
        )
        assert genotype.digest == "cdbffed900c8e4ee"

    def test_it_is_frozen(self):
        genotype = MixGenotype.single("a", block(0))
        with pytest.raises(ValidationError, match="frozen"):
            genotype.fusion = "mean"

    def test_shown(self):
        genotype = MixGenotype(
            encoders=(("a", Block.of("x", "paper", k=1)), ("b", block(0))),
            fusion="mean",
            network=block(1),
            loss=Loss(),
        )
        assert str(genotype) == "a:x(paper, k=1) + b:e0 + mean + e1 + uniform"
        assert str(MixGenotype.single("a", block(0))) == "a:e0"

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"encoders": ()}, "at least 1 item"),
            ({"encoders": (("a", block(0)),), "fusion": "mean"}, "one has none"),
            ({"encoders": (("a", block(0)), ("b", block(0)))}, "need a fusion function"),
            ({"encoders": (("a", block(0)), ("a", block(1))), "fusion": "max"}, "one encoder"),
            ({"encoders": (("a", block(0)),), "loss": Loss()}, "loss is single"),
            ({"encoders": (("a", block(0)),), "fusions": "mean"}, "Extra inputs"),
        ],
    )
    def test_what_is_no_genotype(self, fields, told):
        with pytest.raises(ValidationError, match=told):
            MixGenotype(**fields)


class TestParsing:
    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["kind", "encoders", "fusion", "network", "loss", "name", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )

    def only_genotype_errors(self, text):
        problems = []
        try:
            assert isinstance(parse_genotype(text), Genotype)
        except GenotypeError as error:
            problems = list(error.problems)
        assert all(problem.startswith("genotype: ") for problem in problems)

    @given(st.text() | JSON.map(json.dumps))
    def test_any_text(self, text):
        self.only_genotype_errors(text)

    @given(JSON)
    def test_any_fields(self, fields):
        self.only_genotype_errors(json.dumps({"kind": "mix", "encoders": fields}))
        encoders = [["a", {"name": "x"}]]
        self.only_genotype_errors(json.dumps({"kind": "mix", "encoders": encoders, "loss": fields}))
        options = [["a", {"name": "x", "options": [["k", fields]]}]]
        self.only_genotype_errors(json.dumps({"kind": "mix", "encoders": options}))

    @given(genotypes(), st.randoms(use_true_random=False))
    def test_edited_text(self, genotype, rng: random.Random):
        text = list(genotype.to_json())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            edits = (text[at] * 2, "", rng.choice('{}[]",:0e-\\ué'), rng.choice("null"))
            text[at] = rng.choice(edits)
        self.only_genotype_errors("".join(text))

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "null", "1", '"mix"', "[" * 100_000, '{"kind":"mix"}', "1" * 5000, "\ud800"],
    )
    def test_hopeless_text(self, text):
        with pytest.raises(GenotypeError):
            parse_genotype(text)

    def test_every_problem_is_told(self):
        text = '{"kind":"mix","encoders":[["a",{"nam":"x"}],["b",3]],"fusion":""}'
        with pytest.raises(GenotypeError) as caught:
            parse_genotype(text, "genotype.json")
        assert len(caught.value.problems) == 5
        assert all(problem.startswith("genotype.json: ") for problem in caught.value.problems)

    def test_an_unknown_kind(self):
        with pytest.raises(GenotypeError, match="of kind 'mx': did you mean 'mix'"):
            parse_genotype('{"kind":"mx"}')


class TestLoss:
    @pytest.mark.parametrize("k", [2, 3, 4])
    def test_uniform(self, k):
        for epoch in (1, 50):
            assert Loss(kind="uniform").weights(k, epoch) == pytest.approx((1 / (k + 1),) * 2)

    def test_single(self):
        assert Loss(kind="single").weights(3, 9) == (1.0, 0.0)
        assert [Loss(kind=kind).multi_head for kind in ("single", "uniform", "linear")] == [
            False, True, True,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("epoch", "fused"),
        [(1, 1 / 3), (2, 1 / 3 + 0.05), (3, 1 / 3 + 0.1), (14, 1 / 3 + 0.65), (15, 1.0), (99, 1.0)],
    )
    def test_linear_as_for_mimic(self, epoch, fused):
        """Eq. 7 with η 0.05 and k0 1: the weight moves after the first epoch, not before."""
        loss = Loss(kind="linear", rate=0.05, start=1)
        assert loss.weights(2, epoch) == pytest.approx((fused, (1 - fused) / 2))

    @given(LOSSES, st.integers(1, 6), st.integers(1, 1000))
    def test_weights_sum_to_one_and_the_fused_one_never_falls(self, loss, k, epoch):
        fused, each = loss.weights(k, epoch)
        assert fused + k * each == pytest.approx(1)
        assert 0 <= each <= fused + 1e-12 <= 1 + 1e-12
        assert loss.weights(k, epoch + 1)[0] >= fused

    @pytest.mark.parametrize("field", [{"rate": 0}, {"rate": 1.5}, {"start": -1}, {"kind": "sum"}])
    def test_what_is_no_loss(self, field):
        with pytest.raises(ValidationError):
            Loss(**field)
