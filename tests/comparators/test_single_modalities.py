"""Each modality alone: as the strategy left it, and trained as the finalists are."""

from __future__ import annotations

from dataclasses import replace

from polymix.comparators.single_modalities import SingleModalities
from polymix.genotype import Block
from polymix.records import Recipe, Role
from polymix.search.finalists import Contest
from polymix.space.mix import MixGenotype
from search.common import MLP, answer, proposal

ENCODERS = {"series": MLP, "table": Block.of("linear-tokens")}
FUSED = MixGenotype(encoders=tuple(ENCODERS.items()), fusion="concat")


def contest(init):
    recipe = Recipe(thaw=1)
    own = replace(proposal(), genotype=FUSED, recipe=recipe, init=init)
    trials = [
        answer(proposal(name, block, keep=True), 0.7, weights=f"of {name}")
        for name, block in ENCODERS.items()
    ]
    return Contest([own], ENCODERS, trials, []), trials


def test_a_backbone_stands_as_it_is_beside_its_modality_trained_anew():
    asked, trials = contest(("of series", "of table"))
    found = SingleModalities().propose(None, asked)
    told = [(f.label, f.as_is) for f in found]
    assert told == [
        ("series backbone", True), ("series alone", False), ("table backbone", True),
        ("table alone", False),
    ]  # fmt: skip
    assert all(f.roles == (Role.SINGLE,) for f in found)
    assert found[0].proposal == trials[0].proposal
    assert found[2].proposal == trials[1].proposal
    assert (found[1].proposal.recipe.thaw, found[1].proposal.init) == (0, ())
    assert found[1].proposal.genotype == found[0].proposal.genotype


def test_a_probe_that_nothing_starts_from_is_no_backbone():
    asked, _ = contest(())
    found = SingleModalities().propose(None, asked)
    assert [(f.label, f.as_is) for f in found] == [("series alone", False), ("table alone", False)]
