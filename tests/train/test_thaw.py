"""Encoders that rest for some epochs, and then move."""

from __future__ import annotations

import pytest
import torch

from polymix.errors import UsageError
from polymix.records import Recipe
from polymix.space.mix import MixGenotype
from polymix.train.learner import SingleLearner
from train.common import MLP, proposal, run_all, toy


@pytest.fixture
def backbones(evaluator, ledger):
    digests = []
    for name in ("image", "series", "table"):
        asked = proposal(MixGenotype.single(name, MLP), 1, keep=True)
        digests += [t.weights for t in ledger.put(run_all(evaluator, asked))]
    return tuple(digests)


def test_encoders_rest_and_then_move(evaluator, backbones, monkeypatch):
    moved, modes = [], []
    losses = SingleLearner.losses

    def watching(self, batch, objective, epoch, counted=None):
        found = losses(self, batch, objective, epoch, counted)
        modes.append((epoch, self.model.encoders.training, self.model.head.training))
        moved.append((epoch, {n: t.detach().clone() for n, t in self.tensors().items()}))
        return found

    monkeypatch.setattr(SingleLearner, "losses", watching)
    asked = proposal(toy(0, 1, 0), 4, thaw=2, keep=True, lr=0.01, init=backbones)
    ((trial, state),) = run_all(evaluator, asked)
    assert trial.usable
    assert state is not None
    start = evaluator.model(asked).state_dict()
    for epoch, tensors in moved:
        resting = epoch <= 2
        for name, tensor in tensors.items():
            if name.startswith("encoders.") and resting:
                assert torch.equal(tensor, start[name]), (epoch, name)
    last = moved[-1][1]
    assert any(not torch.equal(t, start[n]) for n, t in last.items() if n.startswith("encoders."))
    assert set(modes) == {(e, e > 2, True) for e in (1, 2, 3, 4)}
    assert any(name.startswith("encoders.") for name in state)


def test_resting_is_in_the_key_only_where_it_is_used(evaluator):
    plain, resting = (proposal(toy(0, 0, 0), 2, thaw=thaw) for thaw in (0, 1))
    assert evaluator.key(plain) != evaluator.key(resting)
    assert len(evaluator.groups([resting, resting])) == 2


def test_what_makes_no_sense():
    with pytest.raises(UsageError, match="thaw"):
        Recipe(thaw=1, frozen=True)
    with pytest.raises(UsageError, match="thaw"):
        Recipe(thaw=-1)
