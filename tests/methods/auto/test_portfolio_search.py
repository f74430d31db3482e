"""The search among fitted models: its order, what a short clock does to it, and when it ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.portfolio import portfolio
from polymix.comparators.tabular.variations import SETTINGS, lighter, variation
from polymix.genotype import Block
from polymix.methods.auto.portfolio_search import PATIENCE, PortfolioSearch
from polymix.records import Cost, Score, Status, Trial
from polymix.testing import toy_dataset
from search.common import task

SCHEMA = toy_dataset(40, ("table",)).schema
MEMBERS = portfolio(SCHEMA, 200)


def search(**changes):
    return PortfolioSearch(MEMBERS, task(SCHEMA, **{"rows": 200, "folds": 5, **changes}))


def done(proposal, value):
    return Trial(proposal, proposal.genotype.digest, Status.DONE, Score(value, 0.0, 0), Cost(1, 1))


def skipped(proposal):
    return Trial(proposal, proposal.genotype.digest, Status.SKIPPED, None, Cost(0, 0))


def exhausted(one, value=0.5):
    """All members told, the first one the best."""
    while (proposal := one.next()) is not None:
        one.tell([done(proposal, value)])
        value -= 0.01
    return one


def test_members_come_in_order_and_on_folds():
    one, asked = search(), []
    while (proposal := one.next()) is not None:
        asked.append(proposal)
        one.tell([done(proposal, 0.5)])
    assert [p.genotype for p in asked] == MEMBERS
    assert {p.fidelity.folds for p in asked} == {5}


def test_without_a_budget_the_portfolio_is_all():
    assert exhausted(search()).vary() is None


@pytest.mark.parametrize("budget", [{"seconds": 60.0}, {"trials": 30}])
def test_variations_end_when_they_gain_nothing(budget):
    one, count = exhausted(search(**budget)), 0
    while (proposal := one.vary()) is not None:
        assert proposal.genotype not in MEMBERS
        one.tell([done(proposal, 0.4)])
        count += 1
    assert count == PATIENCE
    (said,) = one.reasons()
    assert f"of {count} variations of the best models the last {PATIENCE} gained nothing" in said


def test_a_gain_gives_variations_another_chance():
    one, count = exhausted(search(seconds=60.0)), 0
    while (proposal := one.vary()) is not None:
        count += 1
        one.tell([done(proposal, 0.6 if count == 5 else 0.4)])
    assert count == 5 + PATIENCE


def test_what_is_too_slow_is_tried_with_less():
    one, asked = search(seconds=60.0), []
    while (proposal := one.next()) is not None:
        asked.append(proposal.genotype)
        one.tell([skipped(proposal)])
    assert len(asked) > len(MEMBERS)
    assert all(lighter(g) is None or lighter(g) in asked for g in asked)
    assert len(asked) == len(set(asked))
    (said,) = one.reasons()
    assert "were not tried: each would have taken longer than was left" in said


def test_the_same_seed_varies_alike():
    def drawn(seed):
        one = exhausted(search(seconds=60.0, seed=seed))
        found = []
        while (proposal := one.vary()) is not None:
            found.append(proposal.genotype)
            one.tell([done(proposal, 0.1)])
        return found

    assert drawn(3) == drawn(3) != drawn(4)


def test_lighter_ones_have_one_base_model_then_fewer_trees():
    forest = next(g for g in MEMBERS if g.learner.name == "extra-trees" and len(g.base) > 1)
    first = lighter(forest)
    assert len(first.base) == 1
    second = lighter(first)
    assert dict(second.learner.options)["trees"] < dict(first.learner.options)["trees"]
    assert lighter(second) is None
    linear = next(g for g in MEMBERS if g.learner.name == "linear")
    assert lighter(linear) is None


def test_variations_are_of_known_settings_and_can_be_built():
    rng, parents = np.random.default_rng(0), MEMBERS
    for _ in range(60):
        found = variation(parents, 40, rng)
        options = dict(found.learner.options)
        assert options.get("rounds", 0) <= 200
        changed = {k for k in options if k in SETTINGS[found.learner.name]}
        assert changed
    odd = TabularGenotype(views=(("table", Block.of("codes")),), learner=Block.of("linear"))
    assert variation([odd], 40, rng).learner.name == "linear"
    assert variation([], 40, rng) is None
    assert replace(done(search().proposal(odd), 0.1), score=None).usable is False


def test_lighter_views_of_texts_are_words_alone():
    text = Block.of("pretrained-text", layers=3, states=(0, 3))
    one = TabularGenotype(views=(("t", text),), learner=Block.of("linear"))
    (view,) = lighter(one).views
    assert dict(view[1].options) == {"layers": 3, "states": (0,)}
    assert lighter(lighter(one)) is None
