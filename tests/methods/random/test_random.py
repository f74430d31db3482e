"""Random search: what it draws, what it keeps, and what it refuses."""

from __future__ import annotations

import pytest

from polymix.errors import UsageError
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.methods.random.random import RandomSearch
from polymix.methods.strategies import make_strategy
from polymix.testing import toy_dataset
from search.common import answer, task


@pytest.fixture(scope="module")
def schema():
    return toy_dataset(60).schema


def ready(schema, limits=None, **options):
    strategy = RandomSearch(encoders=["mlp"], **options)
    strategy.setup(task(schema, **(limits or {})))
    return strategy


def test_none_is_drawn_twice_and_the_best_is_kept(schema):
    strategy = ready(schema, networks=["none"], draws=16, cohort=2)
    drawn, share = [], {"concat": 0.2, "mean": 0.9, "max": 0.5}
    while cohort := strategy.ask():
        assert len(cohort) <= 2
        drawn += [p.genotype for p in cohort]
        strategy.tell([answer(p, share[p.genotype.fusion]) for p in cohort])
    assert len(set(drawn)) == len(drawn) == strategy.size() == 3
    (winner,) = strategy.derive()
    assert winner.genotype.fusion == "mean"
    assert winner.fidelity.epochs == strategy.full_epochs
    assert dict(strategy.chosen_encoders()) == dict(winner.genotype.encoders)


def test_before_any_draw_the_first_genotype_is_proposed(schema):
    strategy = ready(schema)
    (guess,) = strategy.derive()
    assert dict(strategy.chosen_encoders()) == dict(guess.genotype.encoders)
    assert (guess.genotype.fusion, guess.genotype.network) == ("concat", None)


@pytest.mark.parametrize("option", ["halving", "seeds", "tie_z"])
def test_an_option_that_would_do_nothing_is_refused(option):
    assert option in MixMAS.model_fields
    with pytest.raises(UsageError, match=f"random has no option '{option}'"):
        make_strategy("random", {option: 1})


def test_networks_and_encoders_that_there_are_not_are_told(schema):
    with pytest.raises(UsageError, match="'mlp-mxier': did you mean 'mlp-mixer'"):
        make_strategy("random", {"networks": ["mlp-mxier"]})
    with pytest.raises(UsageError, match="no modality 'imag': did you mean 'image'"):
        RandomSearch(encoders={"imag": ["mlp"]}).setup(task(schema))


def test_draws_are_cut_to_the_time_there_is(schema):
    def predict(p):
        return p.fidelity.epochs * p.fidelity.rows / 1000

    for seconds, expected in ((1e9, (119, 10)), (4.0, (119, 8)), (0.01, (7, 1))):
        strategy = ready(schema, {"seconds": seconds, "predict": predict}, draws=4)
        asked = strategy.ask()
        assert {(p.fidelity.rows, p.fidelity.epochs) for p in asked} == {expected}, seconds
        assert [p.share for p in asked] == [p.share for p in strategy.expected()] == [seconds] * 4
