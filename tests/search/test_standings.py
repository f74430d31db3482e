"""Who is better than whom, and who only seems to be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polymix.genotype import Block
from polymix.records import EpochRecord, Interval, Role, Status
from polymix.runs.leaderboard import leaderboard, metrics_json, trial_row
from polymix.search.driver import Outcome
from polymix.search.standings import Finalist, stand
from search.common import MLP, answer, proposal, referee


def finalist(label, scores, role=Role.SINGLE, flops=100):
    asked = proposal(block=Block.of("mlp", channels=1 + sum(map(ord, label))))
    one = Finalist(asked, (role,), label)
    for seed, right in enumerate(scores):
        again = proposal(block=asked.genotype.encoders[0][1], seed=seed)
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
    standings = stand([worse, own, single], referee())
    assert standings.gain.value == pytest.approx(0.2)
    assert not standings.gain.noise
    assert stand([own], referee()).gain is None
    late = finalist("late", [0.95, 0.95, 0.95], Role.LATE)
    assert stand([worse, own, single, late], referee()).gain.value == pytest.approx(0.25)
    both = finalist("both", [0.9], Role.WINNER)
    both.roles += (Role.SINGLE,)
    assert stand([both], referee()).gain is None


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
