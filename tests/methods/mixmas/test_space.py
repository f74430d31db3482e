"""The space of MixMAS: counted, listed, drawn from and left by no mutation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.methods.mixmas.space import MixSpace
from polymix.space.mix import Loss, MixGenotype

LOSSES = st.builds(
    Loss,
    kind=st.sampled_from(["single", "uniform", "linear"]),
    rate=st.floats(0, 1, exclude_min=True),
    start=st.integers(0, 100),
)


def block(i):
    return Block.of(f"e{i}")


@st.composite
def spaces(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    return MixSpace(
        {f"m{i}": [block(j) for j in range(size)] for i, size in enumerate(sizes)},
        draw(st.lists(st.sampled_from(["concat", "mean", "max"]), min_size=1, unique=True)),
        draw(st.lists(st.sampled_from([None, block(0), block(1)]), min_size=1, unique=True)),
        draw(LOSSES),
    )


class TestSpace:
    @given(spaces())
    def test_count_and_listing(self, space):
        every = list(space)
        assert len(space) == len(every) == len(set(every))
        assert all(genotype in space for genotype in every)
        if len(space.encoders) > 1:
            expected = math.prod(len(b) for b in space.encoders.values())
            assert len(space) == expected * len(space.fusions) * len(space.networks)

    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_sample_and_mutate_stay_inside(self, space, seed):
        rng, every = np.random.default_rng(seed), set(space)
        genotype = space.sample(rng)
        for _ in range(5):
            assert genotype in space
            assert genotype in every
            mutant = space.mutate(genotype, rng)
            assert differences(genotype, mutant) == (1 if len(space) > 1 else 0)
            genotype = mutant

    def test_samples_are_uniform_and_every_neighbour_is_reached(self):
        space = MixSpace(
            {"a": [block(0), block(1)], "b": [block(0)]}, ["mean", "max"], [None, block(0)]
        )
        rng = np.random.default_rng(0)
        drawn = [space.sample(rng) for _ in range(4000)]
        counts = [drawn.count(genotype) for genotype in space]
        assert len(counts) == 8
        assert all(400 < count < 600 for count in counts)
        start = next(iter(space))
        reached = {space.mutate(start, rng) for _ in range(100)}
        assert reached == {g for g in space if differences(start, g) == 1}

    def test_the_same_seed_draws_the_same(self):
        space = MixSpace({"a": [block(i) for i in range(9)]}, [], [])
        one, two = ([space.sample(np.random.default_rng(5)) for _ in range(3)] for _ in range(2))
        assert one == two

    def test_what_lies_outside(self):
        space = MixSpace({"a": [block(0)], "b": [block(0)]}, ["mean"], [None], Loss())
        (inside,) = space
        assert inside in space
        others = [
            {"fusion": "max"},
            {"network": block(0)},
            {"loss": Loss(kind="single")},
            {"encoders": (("a", block(1)), ("b", block(0)))},
            {"encoders": (("a", block(0)), ("c", block(0)))},
        ]
        assert not any(inside.model_copy(update=other) in space for other in others)
        assert "mean" not in space
        assert MixGenotype.single("a", block(0)) not in space

    def test_one_modality_has_neither_function_nor_network(self):
        space = MixSpace({"a": [block(0), block(1)]}, ["mean", "max"], [block(0), None])
        assert [str(genotype) for genotype in space] == ["a:e0", "a:e1"]
        assert MixGenotype(encoders=(("a", block(0)),), network=block(0)) not in space

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (({}, ["mean"], [None]), "any modality"),
            (({"a": [], "b": [block(0)]}, ["mean"], [None]), "no encoder candidates for a$"),
            (({"a": [block(0)], "b": [block(0)]}, [], [None]), "must not be empty"),
            (({"a": [block(0)], "b": [block(0)]}, ["mean"], []), "must not be empty"),
        ],
    )
    def test_what_is_no_space(self, arguments, told):
        with pytest.raises(GenotypeError, match=told):
            MixSpace(*arguments)


def differences(one, two):
    parts = [a != b for a, b in zip(one.encoders, two.encoders, strict=True)]
    return sum([*parts, one.fusion != two.fusion, one.network != two.network, one.loss != two.loss])
