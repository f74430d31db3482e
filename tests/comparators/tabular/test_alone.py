"""The best models' learners on one modality alone, the cheap ones first, as time allows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from polymix.comparators.tabular.alone import ALONE_SHARE, SingleModalityLearners
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.genotype import Block
from polymix.records import Budget, Cost, Fidelity, Proposal, Role
from polymix.search.finalists import Contest
from search.common import answer

SECONDS = {"photo": 4.0, "words": 1.0, "numbers": 2.0}
LINEAR, TREES = Block.of("linear"), Block.of("extra-trees")


def model(*names, learner=LINEAR):
    views = tuple((name, Block.of("summary")) for name in names)
    return TabularGenotype(views=views, learner=learner)


def trial(genotype, score, seconds=100.0):
    asked = Proposal(genotype, Fidelity(100, 1, folds=5))
    return answer(asked, score, cost=Cost(1, 1, wall_s=seconds))


class Bench:
    """A run that answers from a table of scores."""

    def __init__(self, remaining=None, trials=None, known=None):
        self.asked, self.decisions = [], {} if known is None else dict(known)
        split = SimpleNamespace(train=np.arange(100))
        costs = SimpleNamespace(fitting=lambda g, rows: SECONDS[g.modalities[0]])
        self.evaluator = SimpleNamespace(dataset=SimpleNamespace(split=split), costs=costs)
        self.ledger = SimpleNamespace(decision=self.decisions.get)
        deadline = None if remaining is None else 1000.0 + remaining
        self.clock = SimpleNamespace(remaining=remaining, deadline=lambda share: deadline)
        self.budget = Budget(remaining, trials)
        self.trial_runner = SimpleNamespace(evaluate=self.evaluate)
        self.phase = lambda name, expected: None

    def predict(self, proposal):
        return SECONDS[proposal.genotype.modalities[0]]

    def record_decision(self, name, value):
        return self.decisions.setdefault(name, value)

    def evaluate(self, proposals, role, deadline):
        assert role is Role.SINGLE
        self.deadline = deadline
        self.asked += [p.genotype for p in proposals]
        return [trial(p.genotype, 0.5 + 0.01 * len(self.asked)) for p in proposals]


FITTED = [
    trial(model("photo", "words", "numbers"), 0.8),
    trial(model("photo", "words"), 0.7),
    trial(model("photo", "numbers", learner=TREES), 0.75),
    trial(model("numbers"), 0.6),
]


def contest(trials=FITTED, own=(0,)):
    return Contest([trials[i].proposal for i in own], {}, trials, [])


def test_the_best_models_learner_comes_first_and_the_cheapest_modality():
    run = Bench()
    found = SingleModalityLearners().propose(run, contest())
    # What the search knows of one modality is not asked again.
    assert run.asked == [
        model("words"), model("photo"), model("numbers", learner=TREES),
        model("photo", learner=TREES),
    ]  # fmt: skip
    assert {f.label for f in found} == {"numbers alone", "words alone", "photo alone"}
    assert all(f.roles == (Role.SINGLE,) for f in found)
    best = {f.proposal.genotype.modalities[0]: f.proposal.genotype for f in found}
    assert best["numbers"] == model("numbers")  # the better of two
    assert [t.proposal.genotype for f in found for t in f.tried] == run.asked


def test_time_and_trials_bound_it():
    run = Bench(remaining=3 * 1.15 * 5.5)
    SingleModalityLearners().propose(run, contest())
    assert run.asked == [model("words"), model("photo")]  # 1 + 4 of 5.5 s, with the usual margin
    assert run.deadline == pytest.approx(1000 + ALONE_SHARE * run.clock.remaining)
    for trials, count in ((4, 0), (8, 2), (40, 4)):
        run = Bench(trials=trials)
        SingleModalityLearners().propose(run, contest())
        assert len(run.asked) == count
    # What was decided once is decided.
    run = Bench(remaining=1e-3, known={"alone: models": 3})
    SingleModalityLearners().propose(run, contest())
    assert len(run.asked) == 3


def test_the_best_of_several_modalities_stands_among_them():
    found = SingleModalityLearners().propose(Bench(), contest(own=(3,)))
    assert found[-1].proposal == FITTED[0].proposal
    assert found[-1].roles == (Role.WINNER,)


def test_nothing_is_asked_where_nothing_is_fitted_or_fused():
    run = Bench()
    assert SingleModalityLearners().propose(run, Contest([], {}, [], [])) == []
    (only,) = SingleModalityLearners().propose(run, contest([FITTED[3]]))
    assert only.label == "numbers alone"
    assert not run.asked
