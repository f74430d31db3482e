"""The driver: budgets, finalists, what is replayed, and what is reused."""

from __future__ import annotations

import math
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from polymix import seeds
from polymix.errors import SearchError
from polymix.genotype import Block
from polymix.methods.m2_mixer.m2_mixer import M2Mixer
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.methods.random.random import RandomSearch
from polymix.records import EpochRecord, Fidelity, Role, Status
from polymix.search.clock import Clock
from polymix.search.estimate import Rate
from polymix.search.finalists import MIN_EPOCHS, FinalistRounds
from polymix.search.run import Run
from polymix.space.mix import MixGenotype
from polymix.store.ledger import Ledger
from polymix.testing import ToyAskTell, ToyOneShot, run_strategy, toy_dataset
from polymix.testing.strategies import Killed, Watch
from polymix.train.evaluate import Evaluator
from search.common import proposal

QUICK = {"epochs": 1, "full_epochs": 1, "networks": ["none"]}


@pytest.fixture(scope="module")
def data():
    return toy_dataset(80, ("series", "table"))


def mixmas(**options):
    return MixMAS(**{"encoders": {"series": ["mlp", "mlp-mixer"]}, **QUICK, **options})


def roles(record):
    return Counter(trial["role"] for trial in record.trials)


# How many trials.


@pytest.mark.parametrize("trials", range(1, 11))
def test_no_more_trials_than_allowed(data, tmp_path, trials):
    watch = Watch()
    record = run_strategy(mixmas(), data, tmp_path, trials=trials, callbacks=[watch])
    assert len(record.trials) <= trials
    assert record.outcome.standings.chosen is not None
    made = roles(record)
    assert made[Role.WINNER] >= 1
    if trials >= 3:
        assert made[Role.SEARCH] >= 1
        assert record.outcome.random
    if trials == 4:
        assert "the search was cut short by --trials" in watch.notes


def test_a_generous_budget(data, tmp_path):
    record = run_strategy(mixmas(), data, tmp_path, trials=40)
    made = roles(record)
    assert made[Role.SEARCH] == 3 + 3 + 1 - 1  # `none` was tried in the stage before
    assert record.outcome.random
    assert {t["fidelity"].seed for t in record.trials if t["role"] is Role.WINNER} == {0, 1, 2}
    standings = record.outcome.standings
    assert standings.ranked
    assert {r for row in standings.rows for r in row.finalist.roles} == {
        Role.WINNER, Role.SINGLE, Role.LATE, Role.RANDOM, Role.BOOSTING
    }  # fmt: skip


def test_too_few_seeds_are_noted(data, tmp_path):
    watch = Watch()
    record = run_strategy(mixmas(), data, tmp_path, trials=10, callbacks=[watch])
    assert not record.outcome.standings.ranked
    assert any(note.startswith("not enough seeds to rank") for note in watch.notes)
    assert watch.notes == list(record.outcome.notes)


def test_random_search_is_a_share_of_the_search_by_flops(data, tmp_path):
    record = run_strategy(mixmas(fusions=["concat"]), data, tmp_path)
    assert record.outcome.random
    assert any("20% of the search's computation" in note for note in record.outcome.notes)


def test_trials_that_all_fail_are_an_error_with_their_reasons(data, tmp_path):
    class Flawed(Evaluator):
        def model(self, proposal):
            raise RuntimeError("nothing works here")

    with pytest.raises(SearchError, match="nothing works here"):
        run_strategy(mixmas(), data, tmp_path / "a", trials=10, evaluator=Flawed)
    with pytest.raises(SearchError, match="no finalist could be trained"):
        run_strategy(M2Mixer(epochs=1), data, tmp_path / "b", trials=3, evaluator=Flawed)


def test_comparators_are_trained_whole(data, tmp_path):
    record = run_strategy(ToyAskTell(cohorts=1), data, tmp_path, trials=30)
    finals = [t for t in record.trials if t["role"] not in (Role.SEARCH,) and t["weights"]]
    assert {t["role"] for t in finals} >= {Role.WINNER, Role.SINGLE, Role.LATE}
    for trial in finals:
        assert trial["recipe"].frozen == (trial["role"] in (Role.WINNER, Role.RANDOM))
        assert bool(trial["init"]) == trial["recipe"].frozen


# What is inherited.


def test_a_cohort_inherits_the_weights_as_they_stood_at_its_start(data, tmp_path):
    strategy = ToyAskTell()
    record = run_strategy(strategy, data, tmp_path)
    own = record.outcome.trials
    backbones = tuple(t.weights for t in own[:2])
    cohorts = [own[2 + 4 * i : 6 + 4 * i] for i in range(3)]
    assert all(backbones)
    for i, cohort in enumerate(cohorts):
        assert len(cohort) == 4
        inherited = () if i == 0 else (cohorts[i - 1][-1].weights,)
        assert {t.proposal.init for t in cohort} == {(*backbones, *inherited)}
        assert {t.proposal.stage for t in cohort} == {f"cohort {i + 1}"}


def test_the_horizon_of_a_one_shot_search_is_fixed_once(data, tmp_path):
    watch = Watch()
    record = run_strategy(ToyOneShot(horizon=4), data, tmp_path, trials=6, callbacks=[watch])
    assert [r.epoch for r in record.epochs] == [0, 1, 2, 3]
    assert all(isinstance(r, EpochRecord) and r.numbers for r in record.epochs)
    assert watch.decisions.count("search: horizon") == 1


class Records(Watch):
    """Keeps what is told of a supernet's epochs."""

    def __init__(self, commits=math.inf):
        super().__init__(commits)
        self.told = []

    def on_record(self, record, epochs, fresh):
        self.told.append((record, epochs, fresh))


def test_a_supernets_epochs_are_told_whole_and_again_when_taken_up(data, tmp_path):
    first, second = Records(2), Records()
    with pytest.raises(Killed):
        run_strategy(ToyOneShot(horizon=4), data, tmp_path, trials=3, callbacks=[first])
    record = run_strategy(ToyOneShot(horizon=4), data, tmp_path, trials=3, callbacks=[second])
    assert [told[2] for told in first.told] == [True, True]
    assert [told[2] for told in second.told] == [False, False, True, True]
    assert tuple(told[0] for told in second.told) == record.epochs
    assert {told[1] for told in second.told} == {4}
    assert not any("not finite" in note for note in record.outcome.notes)


def test_a_supernet_that_diverged_is_noted(data, tmp_path):
    class Diverging(ToyOneShot):
        def epoch(self, trainer, train, val):
            record = super().epoch(trainer, train, val)
            score = -math.inf if record.epoch > 1 else 0.5
            return EpochRecord(record.epoch, (*record.numbers, ("score", score)))

    record = run_strategy(Diverging(horizon=4), data, tmp_path, trials=3)
    (note,) = [n for n in record.outcome.notes if "supernet" in n]
    assert "not finite in 2 of 4 epochs, first in epoch 3" in note


def test_a_supernet_has_time_where_backbones_took_it_all(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Clock, "used", property(lambda self: 300.0))
    record = run_strategy(ToyOneShot(horizon=4), data, tmp_path, trials=3, seconds=400.0)
    assert len(record.epochs) == 4


def test_a_one_shot_strategy_that_loses_count_is_told(data, tmp_path):
    class Confused(ToyOneShot):
        def epoch(self, trainer, train, val):
            super().epoch(trainer, train, val)
            return EpochRecord(5, ())

    with pytest.raises(SearchError, match="epoch 0 was expected"):
        run_strategy(Confused(), data, tmp_path, trials=3)


# Time.


class Meter:
    def __init__(self, used=0.0):
        self.used = used

    def used_seconds(self):
        return self.used

    def add_used(self, seconds):
        self.used += seconds


def test_the_clock_counts_all_sessions(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    meter = Meter(7.0)
    clock = Clock(meter, 60.0)
    assert (clock.used, clock.remaining) == (7.0, 53.0)
    now[0] += 10
    assert (clock.used, clock.remaining, meter.used) == (17.0, 43.0, 7.0)
    clock.tick()
    clock.tick()
    assert meter.used == 17.0
    assert clock.deadline(0.5) == 100 + 30 - 7
    now[0] += 100
    assert clock.remaining == 0.0
    again = Clock(meter, 60.0)
    assert again.used == 17.0
    free = Clock(Meter(), None)
    assert (free.remaining, free.deadline(0.5)) == (None, None)


def test_a_trials_seconds_are_predicted_from_its_flops():
    rate = Rate(step=0.01, flop=1e-9)
    recipe = proposal().recipe
    seconds = rate.seconds(1_000_000, Fidelity(6400, 2), recipe, rows=6400, val=512)
    assert seconds == pytest.approx(2 * (101 * 0.01 + 1e6 * (3 * 6400 + 512) * 1e-9))
    fewer = rate.seconds(1_000_000, Fidelity(6400, 2), recipe, rows=640, val=512)
    assert fewer < seconds / 8


class Plan:
    """Finals with everything but the plan left out."""

    def __init__(self, epoch, finalists=4):
        self.finals = FinalistRounds.__new__(FinalistRounds)
        self.finals.finalists = [None] * finalists
        self.finals.run = SimpleNamespace(runner=SimpleNamespace(jobs=1))
        self.finals._fit_seconds = lambda finalist: None
        self.finals._epoch_seconds = lambda finalist, rows: epoch * rows / 1000 / finalists

    def __call__(self, remaining, seeds=3, epochs=30, rows=1000, least=MIN_EPOCHS):
        return self.finals._timed(remaining, seeds, epochs, rows, least)


def test_the_finalists_plan_within_the_time_that_is_left():
    plan = Plan(epoch=1.0)  # a second for an epoch of all finalists
    assert plan(1000.0) == {"seeds": 3, "epochs": 30}
    tight = plan(60.0)
    assert tight["seeds"] == 3
    assert MIN_EPOCHS <= tight["epochs"] < 30
    assert tight["epochs"] * 3 <= 60
    fewer = plan(13.0)
    assert fewer["seeds"] == 2
    assert fewer["epochs"] >= MIN_EPOCHS
    one = plan(6.0)
    assert one["seeds"] == 1
    assert 1 <= one["epochs"] < MIN_EPOCHS
    least = plan(2.5)
    assert least["epochs"] == 1
    assert 10 <= least["rows"] < 1000
    assert plan(0.0)["rows"] == 10
    # Where epochs are short, enough of them come before more seeds.
    assert plan(60.0, least=20) == {"seeds": 2, "epochs": 24}
    assert plan(30.0, least=20)["seeds"] == 1
    assert plan(1000.0, least=500) == {"seeds": 3, "epochs": 30}
    # More time never means less.
    plans = [plan(float(t)) for t in range(1, 120)]
    effort = [p["seeds"] * p["epochs"] * p.get("rows", 1000) for p in plans]
    assert all(p["seeds"] * p["epochs"] <= t for t, p in enumerate(plans, 1) if t > 3)
    assert effort[0] < effort[-1]


def test_a_short_time_limit_leaves_a_model(data, tmp_path):
    began = time.monotonic()
    record = run_strategy(mixmas(full_epochs=500), data, tmp_path, seconds=4.0)
    assert time.monotonic() - began < 12
    assert record.outcome.standings.chosen is not None
    again = run_strategy(mixmas(full_epochs=500), data, tmp_path, seconds=4.0)
    assert again == record  # finished: replayed without a trial more


def test_time_that_is_up_ends_the_search_but_not_the_run(data, tmp_path):
    watch = Watch()
    strategy = RandomSearch(encoders=["mlp"], draws=3, epochs=1, full_epochs=1)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.add_used(100.0)
    record = run_strategy(strategy, data, tmp_path, seconds=60.0, callbacks=[watch])
    assert "search: last cohort" in watch.decisions
    assert any("what is shipped is a guess" in note for note in watch.notes)
    assert record.outcome.standings.chosen is not None


def test_taken_up_late_a_search_is_replayed_as_it_was(data, tmp_path):
    """A run killed among the finalists, the search's share of time long gone."""
    watch = Watch()
    with pytest.raises(Killed):
        run_strategy(
            mixmas(), data, tmp_path, seconds=600.0, callbacks=[Finalists()], checkpoint_after=0.0
        )
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        before = [(r.key, r.role) for r in ledger.rows()]
        ledger.add_used(400.0)
    record = run_strategy(mixmas(), data, tmp_path, seconds=600.0, callbacks=[watch])
    asked = [t.key for t in record.outcome.trials]
    assert set(asked) == {key for key, role in before if role is Role.SEARCH}
    assert {t.key for t in record.outcome.random} >= {k for k, r in before if r is Role.RANDOM}
    assert not {"search: last cohort", "random search: trials"} & {*watch.decisions}
    assert {watch.roles[t.key] for t in watch.fresh} <= {
        Role.WINNER, Role.SINGLE, Role.LATE, Role.RANDOM, Role.BOOSTING
    }  # fmt: skip


class Finalists(Watch):
    """Dies after the first finalist."""

    def on_trial_end(self, trial, role, fresh):
        if role is Role.WINNER:
            raise Killed


# Reuse.


def test_another_candidate_costs_its_own_trials_and_what_follows(data, tmp_path):
    first = {"series": ["mlp"], "table": ["mlp"]}
    more = {"series": ["mlp", "mlp-mixer"], "table": ["mlp"]}
    run_strategy(mixmas(encoders=first), data, tmp_path / "a", trials=40)
    watch, strategy = Watch(), mixmas(encoders=more)
    record = run_strategy(
        strategy, data, tmp_path / "b", trials=40, reuse=[tmp_path / "a"], callbacks=[watch]
    )
    searched = [t for t in watch.fresh if watch.roles[t.key] is Role.SEARCH]
    (probe,) = [t for t in searched if t.proposal.stage == "encoders"]
    assert probe.proposal.genotype.encoders == (("series", Block.of("mlp-mixer")),)
    if strategy.chosen_encoders()["series"].name == "mlp":
        assert searched == [probe]
        winners = [t for t in watch.fresh if watch.roles[t.key] is Role.WINNER]
        assert not winners
    else:
        assert len(searched) > 1
    # What was taken over is written down for what it was asked, and costs nothing again.
    with Ledger.open(tmp_path / "b" / "ledger.sqlite") as ledger:
        reused = [row for row in ledger.rows() if row.origin == "reused"]
        assert {row.role for row in reused} > {Role.SEARCH}
        spent = sum(t.cost.cpu_s for t in watch.fresh)
        assert ledger.spent_cpu_s() == pytest.approx(spent)
    alone = run_strategy(mixmas(encoders=more), data, tmp_path / "c", trials=40)
    assert sorted(t["key"] for t in record.trials) == sorted(t["key"] for t in alone.trials)
    by_key = {t["key"]: t for t in alone.trials}
    assert all(by_key[t["key"]] == t for t in record.trials)


def test_the_same_run_again_costs_nothing(data, tmp_path):
    for make in (mixmas, lambda: ToyAskTell(cohorts=2)):
        folder = tmp_path / make().name
        run_strategy(make(), data, folder / "a", trials=20)
        watch = Watch()
        run_strategy(make(), data, folder / "b", trials=20, reuse=[folder / "a"], callbacks=[watch])
        assert not watch.fresh


def test_other_options_are_other_trials(data, tmp_path):
    run_strategy(mixmas(), data, tmp_path / "a", trials=8)
    watch = Watch()
    run_strategy(
        mixmas(lr=0.5), data, tmp_path / "b", trials=8, reuse=[tmp_path / "a"], callbacks=[watch]
    )
    assert len([t for t in watch.fresh if watch.roles[t.key] is Role.SEARCH]) == 3


def test_a_trial_beyond_its_share_is_skipped(data, tmp_path, monkeypatch):

    def predict(self, asked):
        if not isinstance(asked.genotype, MixGenotype):
            return 0.001
        encoders = [block.name for _, block in asked.genotype.encoders]
        return 1e9 if encoders == ["mlp-mixer"] and asked.share < 1e9 else 0.001

    monkeypatch.setattr(Run, "predict", predict)
    record = run_strategy(mixmas(), data, tmp_path, seconds=30.0)
    skipped = [t for t in record.trials if t["status"] is Status.SKIPPED]
    assert len(skipped) == 1
    assert skipped[0]["cost"]["steps"] == 0
    assert record.outcome.standings.chosen is not None
    assert seeds.derive(0, "x") != seeds.derive(1, "x")
