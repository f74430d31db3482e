"""Who is better than whom, and who only seems to be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from polymix.comparators.ensemble.genotype import EnsembleGenotype, Member
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.genotype import Block
from polymix.records import EpochRecord, Fidelity, Interval, Role, Status
from polymix.runs.fusion import fusion_json
from polymix.runs.leaderboard import leaderboard, metrics_json, trial_row
from polymix.search.driver import Outcome
from polymix.search.standings import Finalist, stand
from polymix.space.mix import MixGenotype
from search.common import MLP, answer, proposal, referee


def finalist(label, scores, role=Role.SINGLE, flops=100, genotype=None):
    block = Block.of("mlp", channels=1 + sum(map(ord, label)))
    asked = proposal(block=block)
    if role is not Role.SINGLE:
        encoders = (("series", block), ("table", MLP))
        asked = replace(asked, genotype=MixGenotype(encoders=encoders, fusion="concat"))
    if genotype is not None:
        asked = replace(asked, genotype=genotype)
    one = Finalist(asked, (role,), label)
    for seed, right in enumerate(scores):
        again = proposal(block=block, seed=seed)
        one.trials.append(answer(again, right, flops, weights=f"{label}{seed}"))
    return one


def places(standings):
    return {row.finalist.label: (row.rank, row.tied_with) for row in standings.rows}


def test_ranks_and_ties():
    field = [
        finalist("late", [0.70, 0.71, 0.69], Role.LATE),
        finalist("winner", [0.90, 0.91, 0.90], Role.WINNER, 500),
        finalist("random", [0.895, 0.90, 0.905], Role.RANDOM, 50),
    ]
    standings = stand(field, referee())
    assert places(standings) == {"winner": (1, (2,)), "random": (2, (1,)), "late": (3, ())}
    assert standings.chosen_rank == 2
    assert standings.chosen.weights == "random2"  # the cheaper of the tied, and its best seed
    assert (standings.seeds, standings.ranked) == (3, True)
    assert standings.rows[0].score.value == pytest.approx(0.9033, abs=1e-4)
    assert standings.rows[0].cost.cpu_s == 0.0
    assert standings.of(Role.LATE).rank == 3
    assert standings.of(Role.SINGLE) is None


def test_the_better_one_is_chosen_where_nothing_ties():
    field = [
        finalist("cheap", [0.5, 0.5, 0.5], flops=1),
        finalist("good", [0.9, 0.9, 0.9], flops=9),
    ]
    assert stand(field, referee()).chosen_rank == 1


def test_the_cheapest_within_a_standard_error_is_chosen_not_the_cheapest_tie():
    field = [
        finalist("best", [0.76, 0.76, 0.76], flops=900),
        finalist("close", [0.755, 0.755, 0.755], flops=500),
        finalist("tied", [0.735, 0.735, 0.735], flops=1),
    ]
    standings = stand(field, referee())
    assert places(standings) == {"best": (1, (2, 3)), "close": (2, (1, 3)), "tied": (3, (1, 2))}
    # Of `tied` it is not known that it is worse, only likely: more than a standard error.
    assert standings.chosen.weights.startswith("close")


def test_standard_errors_of_a_difference():
    apart = Interval(0.03, 0.03 - 0.0392, 0.03 + 0.0392)  # a standard error of 0.02
    assert (apart.noise, apart.near(), apart.near(1.6)) == (True, False, True)
    assert Interval(0.0, 0.0, 0.0).near()
    assert apart.within(0.0, 0.05) == Interval(0.03, 0.0, 0.05)


def test_fusions_gain():
    own = finalist("winner", [0.9, 0.9, 0.9], Role.WINNER)
    single, worse = finalist("a alone", [0.7, 0.7, 0.7]), finalist("b alone", [0.6, 0.6, 0.6])
    gain = stand([worse, own, single], referee()).gain
    assert gain.difference.value == pytest.approx(0.2)
    assert not gain.difference.noise
    assert gain.scores == pytest.approx((0.9, 0.7))
    assert [r.finalist.label for r in (gain.fused, gain.single)] == ["winner", "a alone"]
    assert stand([own], referee()).gain is None
    late = finalist("late", [0.95, 0.95, 0.95], Role.LATE)
    gain = stand([worse, own, single, late], referee()).gain
    assert gain.difference.value == pytest.approx(0.25)
    both = finalist("both", [0.9], Role.WINNER)
    both.roles += (Role.SINGLE,)
    assert stand([both], referee()).gain is None


def trees(*names, learner="extra-trees"):
    views = tuple((name, Block.of("columns")) for name in names)
    return TabularGenotype(views=views, learner=Block.of(learner))


def test_a_strategys_own_finalist_of_one_modality_fuses_nothing():
    fused = finalist("auto", [0.5], Role.WINNER, genotype=trees("numbers", "photo"))
    alone = finalist("auto 2", [0.7], Role.WINNER, genotype=trees("numbers"))
    standings = stand([fused, alone], referee())
    assert standings.gain.difference.value == pytest.approx(-0.2)
    assert standings.gain.single.finalist is alone
    assert standings.chosen is alone.trials[0]


def test_a_better_learner_is_no_gain_of_fusion():
    everything = finalist("trees", [0.9], Role.BOOSTING, genotype=trees("numbers", "photo"))
    network, alone = finalist("network", [0.6], Role.LATE), finalist("series alone", [0.7])
    gain = stand([everything, network, alone], referee()).gain
    assert gain.fused.finalist is network
    assert gain.difference.value == pytest.approx(-0.1)
    like = finalist("trees alone", [0.85], genotype=trees("numbers"))
    gain = stand([everything, network, alone, like], referee()).gain
    assert (gain.fused.finalist, gain.single.finalist) == (everything, like)
    linear = finalist("linear", [0.5], genotype=trees("numbers", learner="linear"))
    assert stand([everything, linear], referee()).gain is None


def test_an_ensemble_counts_beside_an_ensemble_of_one_modality():
    members = [(trees("numbers"), 0.5), (trees("photo"), 0.5)]
    mean = finalist("ensemble", [0.9], Role.ENSEMBLE, genotype=ensemble(members))
    network, alone = finalist("network", [0.8], Role.LATE), finalist("series alone", [0.7])
    assert stand([mean, network, alone], referee()).gain.fused.finalist is network
    members = [(trees("numbers"), 0.5), (trees("numbers", learner="linear"), 0.5)]
    one = finalist("ensemble of numbers", [0.75], Role.ENSEMBLE, genotype=ensemble(members))
    gain = stand([mean, network, alone, one], referee()).gain
    assert (gain.fused.finalist, gain.single.finalist) == (mean, one)


def ensemble(members):
    return EnsembleGenotype(members=tuple(Member(genotype=g, weight=w) for g, w in members))


def test_what_the_search_saw_of_fusion_is_not_forgotten():
    fused, alone = finalist("network", [0.5], Role.LATE), finalist("series alone", [0.7])
    assert stand([fused, alone], referee()).gain.missed is None
    probes = [answer(replace(fused.proposal, stage=str(k)), k) for k in (0.6, 0.8, 0.75)]
    single = answer(proposal(stage="probe"), 0.9)
    other = Fidelity(100, 1, folds=3)
    folded = answer(replace(fused.proposal, fidelity=other), 0.95)
    standings = stand([fused, alone], referee(), [*probes, single, folded])
    assert standings.gain.missed is probes[1]
    assert standings.gain.difference.value == pytest.approx(-0.2)
    found = fusion_json(standings, "accuracy")["fusion_gain"]
    assert (found["verdict"], found["search"]) == ("not settled", 0.8)
    assert "(not settled: a trial of the search that fuses scored 0.8000" in found["said"]
    better = finalist("network", [0.75], Role.LATE)
    assert stand([better, alone], referee(), probes).gain.missed is None


def test_why_one_ships():
    best = finalist("best", [0.90, 0.91, 0.90], Role.WINNER, 500_000)
    cheap = finalist("random search", [0.895, 0.90, 0.905], Role.RANDOM, 50_000)
    assert stand([best], referee()).why == "best ships: it scored best"
    standings = stand([best, cheap], referee())
    assert standings.why == (
        "random search (rank 2) ships: it is within one standard error of the best, best, and the "
        "cheapest of those (0.05 against 0.50 MFLOPs)"
    )
    other = standings.shipping(answer(cheap.proposal, 0.8), "no time was left")
    assert (other.chosen_rank, other.why, other.chosen.value) == (2, "no time was left", 0.8)
    nobody = answer(proposal("else"), 0.8)
    assert standings.shipping(nobody, "no time was left").chosen_rank is None


def test_what_stands_as_it_is_has_one_seed_and_holds_nobody_up():
    own = finalist("winner", [0.9, 0.9, 0.9], Role.WINNER)
    backbone = finalist("series backbone", [0.7])
    backbone.as_is = True
    standings = stand([own, backbone], referee())
    assert (standings.seeds, standings.ranked) == (3, True)
    assert standings.gain.scores == pytest.approx((0.9, 0.7))


def test_fewer_than_three_seeds_are_not_enough():
    standings = stand([finalist("a", [0.9, 0.9]), finalist("b", [0.5, 0.5])], referee())
    assert (standings.seeds, standings.ranked) == (2, False)


def test_only_rounds_that_all_finished_are_compared():
    lucky, steady = finalist("lucky", [0.6, 0.99]), finalist("steady", [0.8])
    standings = stand([lucky, steady], referee())
    assert places(standings) == {"steady": (1, ()), "lucky": (2, ())}
    assert standings.seeds == 1
    unfinished = finalist("unfinished", [0.7])
    unfinished.trials[0] = answer(unfinished.proposal, 0.7, status=Status.STOPPED)
    assert places(stand([steady, unfinished], referee()))["unfinished"] == (2, ())


def test_a_finalist_that_failed_does_not_hold_up_the_others():
    standings = stand([finalist("a", [0.9, 0.9, 0.9]), finalist("b", [None])], referee())
    assert places(standings) == {"a": (1, ()), "b": (None, ())}
    assert standings.seeds == 3
    nothing = stand([finalist("b", [None])], referee())
    assert (nothing.chosen, nothing.seeds) == (None, 0)


def test_a_failed_seed_does_not_make_a_finalist_look_free():
    partly = finalist("partly", [None, 0.9, 0.9], flops=900)
    whole = finalist("whole", [0.9, 0.9, 0.9], flops=100)
    standings = stand([partly, whole], referee())
    assert standings.of(Role.SINGLE) is not None
    costs = {row.finalist.label: row.cost.flops for row in standings.rows}
    assert costs == {"partly": 900, "whole": 100}
    assert standings.chosen.weights.startswith("whole")


def test_the_leaderboards_shape():
    field = [finalist("winner", [0.9, 0.9, 0.9], Role.WINNER), finalist("b", [None])]
    probes = [answer(proposal(stage="encoders", seed=s), v) for s, v in ((7, 0.3), (8, 0.6))]
    late = answer(proposal(stage="fusion function", seed=9), None)
    outcome = Outcome(stand(field, referee()), (*probes, late), (), ("a note",))
    metrics = metrics_json(outcome, "accuracy")
    rows = [trial_row(t, Role.SEARCH, "own") for t in [*probes, late]]
    rows += [trial_row(field[0].trials[0], Role.WINNER, "own")]
    epochs = [EpochRecord(0, (("score", 0.5), ("loss", 0.7))), EpochRecord(1, (("loss", np.nan),))]
    board = leaderboard(metrics, rows, "accuracy", epochs)
    board = json.loads(json.dumps(board, allow_nan=False))
    assert board["epochs"] == [{"epoch": 0, "score": 0.5, "loss": 0.7}, {"epoch": 1, "loss": None}]
    assert board["schema_version"] == 1
    assert board["metric"] == "accuracy"
    assert board["notes"] == ["a note"]
    assert board["chosen"]["rank"] == 1
    columns = {"rank", "tied_with", "genotype", "role", "score_val", "ci", "seeds", "params",
               "flops", "cpu_s", "status"}  # fmt: skip
    for row in board["rows"]:
        assert columns <= row.keys()
    # Finalists by rank, then each stage's trials, best first; a finalist's own are not repeated.
    shown = [(row["rank"], row["score_val"], row["status"]) for row in board["rows"]]
    assert shown == [
        (1, 0.9, "done"), (None, None, "failed"), (None, 0.6, "done"), (None, 0.3, "done"),
        (None, None, "failed"),
    ]  # fmt: skip
    assert board["rows"][0]["genotype"]["kind"] == "mix"
    assert board["rows"][0]["seeds"] == 3
    assert leaderboard(None, [], "accuracy") == {
        "schema_version": 1, "metric": "accuracy", "rows": [], "epochs": []
    }  # fmt: skip
    assert str(MLP) == "mlp"
