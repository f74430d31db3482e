import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype
from polymix.methods.mfas.space import ACTIVATIONS, MFASGenotype, MFASSpace

BLOCK = Block.of("mlp")


def space(*features, length=2, activations=("relu", "sigmoid")):
    backbones = {f"m{i}": BLOCK for i in range(len(features))}
    return MFASSpace(backbones, features, activations, length)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 2),
    st.lists(st.sampled_from(ACTIVATIONS), min_size=1, unique=True),
    st.integers(0, 2**32),
)
def test_any_space(features, length, activations, seed):
    made = space(*features, length=length, activations=activations)
    base = int(np.prod(features)) * len(activations)
    assert len(made) == sum(base**n for n in range(1, length + 1))
    assert made.count(length) == base**length
    genotype = made.sample(np.random.default_rng(seed))
    assert genotype in made
    assert parse_genotype(genotype.to_json()) == genotype
    longer = made.unfold(genotype)
    assert len(longer) == (base if len(genotype.layers) < length else 0)
    assert all(g in made and g.layers[:-1] == genotype.layers for g in longer)
    assert genotype.draw().count("\n") == len(genotype.layers) - 1


def test_the_papers_spaces():
    # AV-MNIST: 3 and 5 features, two activations, four layers.
    assert space(3, 5, length=4).count(4) == (3 * 5 * 2) ** 4 == 810_000
    assert len(space(3, 5, length=4).singles()) == 30


def test_what_lies_outside():
    made = space(2, 2)
    inside = made.singles()[0]
    layer = inside.layers[0]
    assert inside in made
    others = [
        {"layers": (((0, 2), "relu"),)},
        {"layers": (((0, 0), "leaky-relu"),)},
        {"layers": (layer,) * 3},
        {"width": 64},
        {"multitask": True},
        {"backbones": (("m0", BLOCK), ("m1", Block.of("conv")))},
    ]
    assert not any(inside.model_copy(update=other) in made for other in others)
    assert "mfas" not in made


def test_drawing():
    two = (("image", BLOCK), ("sound", BLOCK))
    genotype = MFASGenotype(backbones=two, layers=(((2, 4), "relu"), ((0, 4), "sigmoid")))
    assert genotype.draw().splitlines() == [
        "image[2] ─┬─ sound[4] ──────── relu ───── h1",
        "image[0] ─┬─ sound[4] ─┬─ h1 ─ sigmoid ── h2 ── softmax",
    ]
    assert str(genotype) == "image+sound (2,4 relu) (0,4 sigmoid)"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"backbones": (("a", BLOCK), ("a", BLOCK))}, "one backbone"),
        ({"layers": (((0,), "relu"),)}, "layer 1 needs a feature's index for each"),
        ({"layers": (((0, -1), "relu"),)}, "layer 1"),
        ({"layers": ()}, "layers"),
        ({"layers": (((0, 0), "tanh"),)}, "relu"),
    ],
)
def test_what_is_no_genotype(fields, told):
    sound = {"backbones": (("a", BLOCK), ("b", BLOCK)), "layers": (((0, 0), "relu"),)}
    with pytest.raises(ValidationError, match=told):
        MFASGenotype(**{**sound, **fields})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (({}, []), "every backbone"),
        (({"a": BLOCK}, [1, 2]), "every backbone"),
        (({"a": BLOCK}, [0]), "features, length >= 1"),
        (({"a": BLOCK}, [1], []), "activations"),
        (({"a": BLOCK}, [1], ["relu", "relu"]), "each once"),
    ],
)
def test_what_is_no_space(arguments, told):
    with pytest.raises(GenotypeError, match=told):
        MFASSpace(*arguments)
