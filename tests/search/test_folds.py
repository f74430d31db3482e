"""Comparison out of fold: nothing sees a row that it is scored on, and what ships saw them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polymix.comparators.ensemble.ensemble import GreedyEnsemble
from polymix.comparators.standard import STANDARD
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.model import TabularModel
from polymix.data.schema import Task
from polymix.data.split import SealedRows
from polymix.genotype import Block
from polymix.methods.auto.auto import Auto
from polymix.methods.mfas.space import MFASGenotype
from polymix.records import Budget, Fidelity, Proposal, Recipe, Role, Status
from polymix.scoring.metrics import metric_for
from polymix.search.driver import Driver
from polymix.search.trial_runner import LocalRunner
from polymix.store.ledger import Ledger
from polymix.testing import toy_dataset
from polymix.testing.recorded import record_of
from polymix.testing.watch import Killed, Watch
from polymix.train.evaluate import Evaluator

FOLDS = 4
TREES = TabularGenotype(
    views=(("table", Block.of("columns")),), learner=Block.of("extra-trees", trees=20, leaves=200)
)


def folded(rows=120, modalities=("table",), **options):
    data = toy_dataset(rows, modalities, **options)
    folds = np.arange(len(data.split.development)) % FOLDS
    return replace(data, split=replace(data.split, folds=folds))


@pytest.fixture
def evaluator_on(tmp_path):
    ledgers = []

    def make(data, **options):
        ledger = Ledger.open(tmp_path / f"{len(ledgers)}.sqlite")
        ledgers.append(ledger)
        metric = metric_for(data.schema.target.task)
        return Evaluator(data, metric, ledger, tmp_path / f"bank{len(ledgers)}", **options)

    yield make
    for ledger in ledgers:
        ledger.close()


def scored(evaluator, *proposals):
    return [done for group in evaluator.groups(proposals) for done, _ in evaluator.run(group)]


def test_each_row_is_predicted_by_a_model_that_did_not_see_it(evaluator_on, monkeypatch):
    data, seen = folded(), []
    fit = TabularModel.fit

    def watching(self, source, train, val, seed, deadline):
        seen.append((train, val))
        return fit(self, source, train, val, seed, deadline)

    monkeypatch.setattr(TabularModel, "fit", watching)
    (trial,) = scored(evaluator_on(data), Proposal(TREES, Fidelity(200, 1, folds=FOLDS)))
    assert trial.status is Status.DONE
    rows = data.split.development
    assert trial.predictions.shape == (len(rows), 3)
    assert len(seen) == FOLDS
    for fold, (train, val) in enumerate(seen):
        assert not len(val)
        assert set(train) == set(rows[data.split.folds != fold])


def test_a_planted_leak_is_found(evaluator_on, monkeypatch):
    """Targets that nothing says: out of fold they cannot be told, and a leak tells them."""
    data = folded(240, classes=2)
    drawn = np.random.default_rng(0).permutation(data.targets)
    data = replace(data, targets=drawn, fingerprint="0" * 16)
    asked = Proposal(TREES, Fidelity(300, 1, folds=FOLDS))
    (honest,) = scored(evaluator_on(data), asked)
    assert 0.35 < honest.value < 0.65
    split = type(data.split)
    own = split.fold_rows
    monkeypatch.setattr(split, "fold_rows", lambda self, k: (self.development, own(self, k)[1]))
    (leaking,) = scored(evaluator_on(data), asked)
    assert leaking.value > 0.85


def test_out_of_fold_scores_agree_with_sealed_rows(evaluator_on):
    """On nine of ten splits the score of rows never seen lies in the interval."""
    from polymix.scoring.intervals import Referee

    inside = 0
    for seed in range(10):
        data = folded(300, noise=1.0, classes=2, seed=seed)
        evaluator = evaluator_on(data)
        (trial,) = scored(evaluator, Proposal(TREES, Fidelity(300, 1, folds=FOLDS)))
        found = Referee(evaluator.metric, evaluator.scored_targets(FOLDS), folded=True)
        own = found.score([trial])
        refit = Proposal(TREES, Fidelity(300, 1), Recipe(refit=True), keep=True)
        ((_, state),) = evaluator.run(evaluator.groups([refit])[0])
        model = evaluator.model(refit)
        model.load_state_dict(state, strict=False)
        rows = data.split.test.open()
        batch = evaluator._source(model, sealed=True).batch(rows)
        said = model.eval()(batch.inputs, batch.present).fused.argmax(1).numpy()
        value = (said == data.targets[rows]).mean()
        # The sealed rows' own noise is as much as theirs.
        room = 1.96 * np.sqrt(value * (1 - value) / len(rows))
        inside += own.low - room <= value <= own.high + room
    assert inside >= 9


def test_folds_seeds_and_networks_in_one_computation_learn_what_they_learn_alone(evaluator_on):
    data = folded(160, ("series", "table"), absent=0.0, classes=2)
    backbones = (("series", Block.of("conv")), ("table", Block.of("mlp")))
    networks = [
        MFASGenotype(backbones=backbones, layers=(((0, 0), "relu"), ((f, 0), act)), width=8)
        for f, act in ((0, "sigmoid"), (1, "relu"))
    ]
    found = {}
    for limit in (64, 1):
        evaluator = evaluator_on(data, stack_limit=limit)
        model = evaluator.model(Proposal(networks[0], Fidelity(10, 1)))
        weights = {n: t for n, t in model.state_dict().items() if n.startswith("encoders.")}
        init = (evaluator.memory.keep_weights(weights),)
        asked = [
            Proposal(network, Fidelity(200, 3, seed, folds=FOLDS), Recipe(frozen=True), init)
            for network in networks
            for seed in (0, 1)
        ]
        assert len(evaluator.groups(asked)) == 1
        found[limit] = scored(evaluator, *asked)
    for together, alone in zip(found[64], found[1], strict=True):
        assert together.status is Status.DONE
        assert together.value == alone.value
        np.testing.assert_allclose(together.predictions, alone.predictions, atol=1e-5)
    assert len({t.predictions.tobytes() for t in found[64]}) == 4


def test_a_trial_is_known_again_with_its_folds(evaluator_on):
    evaluator = evaluator_on(folded())
    asked = Proposal(TREES, Fidelity(200, 1, folds=FOLDS))
    (trial,) = scored(evaluator, asked)
    evaluator.memory.put([(trial, None)], Role.SEARCH)
    (known,) = evaluator.memory.trials()
    assert known.proposal.fidelity == asked.fidelity
    assert known.proposal.recipe == Recipe()
    assert evaluator.key(known.proposal) == trial.key


def run(folder, data, callbacks=(), trials=12, **options):
    folder.mkdir(exist_ok=True)
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        evaluator = Evaluator(
            data, metric_for(data.schema.target.task), ledger, folder / "bank", **options
        )
        outcome = Driver(
            evaluator=evaluator, runner=LocalRunner(evaluator), ledger=ledger,
            strategy=Auto(), budget=Budget(trials=trials), comparators=STANDARD,
            combiner=GreedyEnsemble(), refit=True, callbacks=callbacks,
        ).run()  # fmt: skip
        return record_of(ledger, outcome)


def test_what_ships_is_fitted_on_every_row_once_the_choice_is_made(tmp_path, monkeypatch):
    data, opened = folded(100, task=Task.REGRESSION, classes=1), []
    watch, own = Watch(), SealedRows.open

    def watching(self):
        opened.append({watch.roles[t.key] for t in watch.fresh})
        return own(self)

    monkeypatch.setattr(SealedRows, "open", watching)
    record = run(tmp_path / "run", data, [watch])
    outcome = record.outcome
    assert outcome.standings.chosen.proposal.fidelity.folds == FOLDS
    assert outcome.standings.chosen.weights is None
    whole, development = outcome.refitted.proposal, outcome.development.proposal
    assert whole.recipe.sealed
    assert development.recipe.refit
    assert not development.recipe.sealed
    assert whole.fidelity.rows == len(data)
    assert development.fidelity.rows == len(data.split.development)
    # Every finalist was scored before the first sealed row was opened.
    assert opened
    assert all(Role.REFIT in roles for roles in opened)


@pytest.mark.parametrize("commits", [1, 3, 5])
def test_killed_and_resumed_it_comes_to_the_same_end(tmp_path, commits):
    data = folded(80, ("series", "table"), classes=2)
    undisturbed = run(tmp_path / "a", data, trials=8)
    with pytest.raises(Killed):
        run(tmp_path / "b", data, [Watch(commits)], trials=8)
    assert run(tmp_path / "b", data, trials=8) == undisturbed
