import json

import numpy as np
import pytest

from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype
from polymix.methods.mro.space import MROGenotype, MROSpace, draw_mask, paths_of
from polymix.testing import SpaceContract

BLOCK = Block.of("linear-tokens")


def full(names="tav", **changes):
    pairs = tuple((name, BLOCK) for name in names)
    return MROGenotype(encoders=pairs, mask=(1,) * len(paths_of(names)), **changes)


class TestMROSpace(SpaceContract):
    def make(self):
        return MROSpace(full())


class TestMROSpaceOfTwo(SpaceContract):
    def make(self):
        return MROSpace(full("ta"))


@pytest.mark.parametrize(("names", "count"), [("ta", 3), ("tav", 63), ("tavx", 4095)])
def test_all_masks_but_the_empty_one(names, count):
    space = MROSpace(full(names))
    masks = space.masks()
    assert len(space) == len(masks) == count
    assert [g.mask for g in space] == [tuple(m) for m in masks.tolist()]
    assert masks.any(1).all()


def test_the_papers_order_of_paths():
    genotype = full().model_copy(update={"mask": (0, 1, 1, 0, 1, 1)})
    assert genotype.paths == [("t", "v"), ("a", "t"), ("v", "t"), ("v", "a")]
    assert str(genotype) == "[0,1,1,0,1,1] t→v a→t v→t v→a"
    assert genotype.draw() == "    t  a  v\nt →    ·  x\na → x     ·\nv → x  x"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mask": [0] * 6}, "one path at least, but got [0, 0, 0, 0, 0, 0]"),
        ({"mask": [1, 0]}, "3 modalities have 6 paths"),
        ({"mask": [2] * 6}, "so many zeros and ones, but got [2, 2"),
        ({"heads": 5}, "heads=5, dim=64"),
        ({"encoders": [["t", {"name": "mlp"}]] * 3}, "['t', 't', 't']"),
    ],
)
def test_what_cannot_be_is_told_with_its_values(changes, told):
    fields = json.loads(full().to_json())
    with pytest.raises(GenotypeError) as caught:
        parse_genotype(json.dumps({**fields, **changes}))
    assert told in str(caught.value)


def test_a_space_refuses_masks_that_are_none():
    space = MROSpace(full())
    for mask in ([0] * 6, [1] * 5, [2] * 6):
        with pytest.raises(GenotypeError, match="6 zeros and ones, not all zero, but got"):
            space.genotype(mask)
    with pytest.raises(GenotypeError, match="every path"):
        MROSpace(space.genotype([1, 0, 0, 0, 0, 0]))
    assert space.genotype([1, 0, 0, 0, 0, 0]) in space
    assert full(dim=32) not in space


def test_masks_are_drawn_by_their_chances():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_mask(np.array([0.9, 0.1, 0.5]), rng) for _ in range(2000)])
    # Given that one path at least is taken: p / (1 - 0.1 * 0.9 * 0.5).
    assert drawn.mean(0) == pytest.approx(np.array([0.9, 0.1, 0.5]) / 0.955, abs=0.04)
    assert draw_mask(np.array([0, 1e-300, 0]), rng) == (0, 1, 0)
