from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polymix import seeds
from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype
from polymix.methods.bm_nas.fixed import (
    FUSIONS,
    late_pairs,
    mfas_pairs,
    random_pairs,
    with_fusion,
    with_pairs,
)
from polymix.methods.bm_nas.space import OPERATIONS, BMNASGenotype, BMNASSpace

BLOCK = Block.of("mlp")


def space(*features, **changes):
    blocks = {f"m{i}": BLOCK for i in range(len(features))}
    return BMNASSpace(blocks, features, **changes)


def fields(**changes):
    sound = {
        "backbones": (("image", BLOCK), ("sound", BLOCK)),
        "features": ((0, 1, 2), (1, 4)),
        "cells": (
            {"inputs": (2, 4), "steps": (
                {"inputs": (0, 1), "operation": "attention"},
                {"inputs": (2, 2), "operation": "linear-glu"},
            )},
            {"inputs": (0, 5), "steps": ({"inputs": (1, 0), "operation": "concat-fc"},)},
        ),
    }  # fmt: skip
    return {**sound, **changes}


TWO = BMNASGenotype.model_validate(fields())


@given(
    st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 3),
    st.lists(st.sampled_from(OPERATIONS), min_size=1, unique=True),
    st.integers(0, 2**32),
)
def test_any_space(features, cells, steps, inputs, operations, seed):
    features = [tuple(sorted(f)) for f in features]
    options = {"cells": cells, "steps": steps, "inputs": inputs, "operations": operations}
    nodes = sum(map(len, features))
    if nodes < inputs:
        with pytest.raises(GenotypeError, match=f"takes {inputs} different features.* {nodes}"):
            space(*features, **options)
        return
    made = space(*features, **options)
    rng = np.random.default_rng(seed)
    genotype = made.sample(rng)
    for _ in range(3):
        assert genotype in made
        assert parse_genotype(genotype.to_json()) == genotype
        drawn = genotype.draw().splitlines()
        assert len(drawn) == cells * max(steps, inputs) + 1
        genotype = made.mutate(genotype, rng)


def test_it_counts_what_it_lists():
    made = space((0, 1), (2,), cells=2, steps=1, operations=("sum", "zero"))
    # 3 pairs of 3 features, 6 of those and a Cell; 4 inputs of a step, 2 operations.
    assert made.count() == len(made) == 3 * 6 * (4 * 2) ** 2
    assert len(set(made)) == len(made)
    # NTU's: 4 + 4 features, 2 Cells, 2 steps, 5 operations.
    paper = space((0, 1, 2, 3), (0, 1, 2, 3))
    assert paper.count() == 28 * 36 * (4 * 5 * 9 * 5) ** 2


def test_it_may_be_larger_than_a_machine_word():
    made = space((0, 1, 2, 3), (0, 1, 2, 3), cells=4, steps=3)
    assert made.count() > 2**64
    assert made.sample(seeds.stream(0, "x")) in made


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_more_cells_than_pairs(count):
    """One feature a modality: a Cell may take what another took, or that Cell."""
    if count == 1:
        with pytest.raises(GenotypeError, match=r"2 different features, but there are 1: m0 \[0\]"):
            space((0,), cells=5)
        return
    made = space(*[(0,)] * count, cells=9, steps=1)
    drawn = [made.sample(seeds.stream(0, "draw", i)) for i in range(20)]
    assert all(g in made for g in drawn)
    assert any(i >= count for g in drawn for cell in g.cells for i in cell.inputs)


def test_what_lies_outside():
    made = space((0, 1), (0,), steps=1, operations=("sum", "zero"))
    inside = next(iter(made))
    assert inside in made
    cell = inside.cells[0]
    step = cell.steps[0].model_copy(update={"operation": "attention"})
    others = [
        {"cells": inside.cells[:1]},
        {"cells": (cell.model_copy(update={"steps": (step,)}), inside.cells[1])},
        {"cells": (cell.model_copy(update={"steps": cell.steps * 2}), inside.cells[1])},
        {"channels": 7},
        {"dropout": 0.5},
        {"features": ((0, 1), (1,))},
    ]
    assert not any(inside.model_copy(update=other) in made for other in others)
    assert "bm-nas" not in made


def test_drawing():
    assert TWO.draw().splitlines() == [
        "image[2] ── x ─┬─ S1 = attention(x, y)",
        "sound[4] ── y ─┘  S2 = linear-glu(S1, S1) ── Cell 1",
        "image[0] ── x ─┬─ S1 = concat-fc(y, x) ── Cell 2",
        "Cell 1   ── y ─┘",
        "Cell 1 ─┬─ Cell 2 ── output",
    ]
    assert str(TWO) == (
        "(image[2] sound[4]: attention(x,y) linear-glu(S1,S1)) (image[0] Cell 1: concat-fc(y,x))"
    )


STEP = {"inputs": (0, 1), "operation": "sum"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backbones": (("a", BLOCK), ("a", BLOCK))}, "one backbone"),
        ({"features": ((0, 1),)}, "features are indices"),
        ({"features": ((1, 0), (0,))}, "ascending"),
        ({"features": ((), (0,))}, "features are indices"),
        ({"cells": ()}, "cells"),
        ({"cells": ({"inputs": (0, 0), "steps": (STEP,)},)}, "2 different nodes of 0 to 4"),
        ({"cells": ({"inputs": (0, 5), "steps": (STEP,)},)}, r"0 to 4.*\[0, 5\]"),
        ({"cells": ({"inputs": (1,), "steps": (STEP,)},)}, "Cell 1 takes 2"),
        ({"cells": ({"inputs": (0, 1), "steps": ()},)}, "steps"),
        (
            {"cells": ({"inputs": (0, 1), "steps": ({**STEP, "inputs": (0, 2)},)},)},
            r"step 1 takes 2 nodes of 0 to 1, but got \[0, 2\]",
        ),
    ],
)
def test_what_is_no_genotype(changes, told):
    with pytest.raises(ValidationError, match=told):
        BMNASGenotype.model_validate(fields(**changes))


def test_what_is_no_space():
    with pytest.raises(GenotypeError) as caught:
        BMNASSpace({"a": BLOCK}, [(2, 1)], cells=0, steps=1, operations=("sum", "sum"))
    for part in ("[[2, 1]]", "cells=0, steps=1, inputs=2", "['sum', 'sum']"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{"channels": 0}, {"length": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": nan}]
)
def test_a_space_whose_networks_cannot_be_is_refused_at_once(bad):
    (told,) = (f"{name}={value}" for name, value in bad.items())
    with pytest.raises(GenotypeError, match=rf"must hold, but got .*{told}"):
        space((0,), (0,), **bad)


def test_fixed_fusions_keep_the_pairs():
    assert set(FUSIONS) == {"sum", "concat-fc", "mha", "aoa"}
    for name, steps in FUSIONS.items():
        fixed = with_fusion(TWO, name)
        assert [c.inputs for c in fixed.cells] == [c.inputs for c in TWO.cells]
        assert {c.steps for c in fixed.cells} == {steps}
        assert parse_genotype(fixed.to_json()) == fixed
    with pytest.raises(GenotypeError, match=r"'aao'.*'aoa'"):
        with_fusion(TWO, "aao")
    three = space((0, 1, 2), inputs=3).sample(seeds.stream(0, "x"))
    with pytest.raises(GenotypeError, match="a Cell takes 3"):
        with_fusion(three, "sum")


def test_pairs_chosen_otherwise_keep_the_steps():
    for pairs in (
        late_pairs(TWO), random_pairs(TWO, seeds.stream(0, "x")),
        mfas_pairs(TWO, [(0, 4), (2, 1), (1, 1)]),
    ):  # fmt: skip
        other = with_pairs(TWO, pairs)
        assert [c.inputs for c in other.cells] == pairs
        assert [c.steps for c in other.cells] == [c.steps for c in TWO.cells]
    assert late_pairs(TWO) == [(2, 4), (2, 4)]  # image[2] and sound[4], the last of each
    assert mfas_pairs(TWO, [(0, 4), (2, 1)]) == [(0, 4), (2, 3)]
    with pytest.raises(GenotypeError, match=r"sound\[0\] is not among"):
        mfas_pairs(TWO, [(0, 0)])
    for layers in ([], [(0, 4), (0, 4, 1)]):
        with pytest.raises(GenotypeError, match=r"each of \['image', 'sound'\], but got \["):
            mfas_pairs(TWO, layers)
    with pytest.raises(GenotypeError, match="2 Cells take as many pairs, but got 1"):
        with_pairs(TWO, [(0, 1)])
    with pytest.raises(GenotypeError, match="Cell 1 takes 2 different nodes of 0 to 4"):
        with_pairs(TWO, [(0, 6), (0, 1)])
    with pytest.raises(GenotypeError) as caught:
        with_pairs(TWO, [(0, 0), (0, 1)])
    told = "Cell 1 takes 2 different nodes of 0 to 4, ascending, but got [0, 0]"
    assert str(caught.value) == told
    one = space((0, 1)).sample(seeds.stream(0, "x"))
    with pytest.raises(GenotypeError, match="there are 1 modalities"):
        late_pairs(one)


def test_late_fusion_takes_every_pair_of_modalities_in_turn():
    made = space((0, 1), (0,), (0, 3), cells=4, steps=1).sample(seeds.stream(0, "x"))
    assert late_pairs(made) == [(1, 2), (1, 4), (2, 4), (1, 2)]


def test_random_pairs_are_uniform():
    rng = seeds.stream(0, "pairs")
    second = [random_pairs(TWO, rng)[1] for _ in range(3000)]
    counts = [second.count(pair) for pair in set(second)]
    assert len(counts) == 15
    assert min(counts) > 140
    assert max(counts) < 260
