"""How much each modality matters: what is lost without it, and its Shapley value.

A coalition is a set of modalities; its worth is the model's score where all others are absent, so
that a trained model is asked alone, and nothing is trained again. A modality's Shapley value is
what it adds to a coalition, averaged over the orders in which modalities may come (Shapley 1953;
for modalities as players: Hu et al. 2022). They add up to the score minus that of nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.datasets import Progress
from polymix.runs.asked import asked_of
from polymix.runs.open_run import OpenRun
from polymix.runs.rows import MAX_EXPLAINED_ROWS
from polymix.runs.run_data import Data
from polymix.scoring.calibration import for_metric
from polymix.scoring.intervals import Predictions, Referee, interval_json

SCHEMA_VERSION = 1
EXACT = 8
"""Modalities of which every coalition is asked; of more, those that random orders come to."""
ORDERS = 64

Coalition = frozenset[str]
Shares = dict[Coalition, float]


def shapley_shares(player: str, players: tuple[str, ...]) -> Shares:
    """What each coalition's worth counts in a player's Shapley value.

    >>> shapley_shares("a", ("a", "b")) == {
    ...     frozenset("a"): 0.5, frozenset(): -0.5, frozenset("ab"): 0.5, frozenset("b"): -0.5}
    True
    """
    others = [p for p in players if p != player]
    shares: Shares = {}
    for size in range(len(players)):
        for chosen in combinations(others, size):
            weight = 1 / (len(players) * comb(len(others), size))
            shares[frozenset(chosen) | {player}] = weight
            shares[frozenset(chosen)] = -weight
    return shares


def sampled_shares(players: tuple[str, ...], orders: int = ORDERS) -> dict[str, Shares]:
    """The same for every player over random orders, each taken forwards and backwards."""
    rng = seeds.stream(0, "orders")
    shares: dict[str, Shares] = {player: {} for player in players}
    for order in _orders(rng, players, orders):
        before: Coalition = frozenset()
        for player in order:
            after = before | {player}
            shares[player][after] = shares[player].get(after, 0.0) + 1 / orders
            shares[player][before] = shares[player].get(before, 0.0) - 1 / orders
            before = after
    return shares


def _orders(
    rng: np.random.Generator, players: tuple[str, ...], count: int
) -> Iterator[tuple[str, ...]]:
    for _ in range(count // 2):
        order = tuple(str(name) for name in rng.permutation(players))
        yield order
        yield order[::-1]


def keep_only(dataset: Dataset, names: Coalition) -> Dataset:
    """The same rows, all other modalities absent."""
    wanted = np.array([name in names for name in dataset.schema.names])
    return replace(dataset, present=dataset.present & wanted)


def explain(
    run: OpenRun,
    data: Data | None = None,
    *,
    rows: int = MAX_EXPLAINED_ROWS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How much each modality that the model reads matters to its score on these rows.

    Args:
        run: whose model it is.
        data: rows of one's own; the run's own where not given: see `asked_of`.
        rows: at most so many are drawn, which bounds the time this takes.
        progress: called as `progress(done, total, what)`.

    Returns:
        `{schema_version, split, n, of, model, metric, score, nothing, exact, modalities: [{name,
        present, shapley, ablation, alone}], fusion_gain, fusion_missing}`, each score `{value,
        ci}`, modalities by Shapley value. `ablation` is the score minus that without the modality,
        `alone` the score with it alone, `present` the share of the rows that have it. What fusion
        gained is what the run found when it chose: see `fusion_json`.
    """
    metric, asked = run.metric, asked_of(run, data, progress, rows)
    scored, target = asked.rows, asked.schema.target
    referee = Referee(metric, scored.targets)
    players = asked.reads
    every: Coalition = frozenset(players)
    exact = len(players) <= EXACT
    shares = (
        {player: shapley_shares(player, players) for player in players}
        if exact
        else sampled_shares(players)
    )
    wanted = {c for asked in shares.values() for c in asked} | {frozenset(), every}
    wanted |= {c for p in players for c in (every - {p}, frozenset({p}))}
    worth: dict[Coalition, Predictions] = {}
    for done, coalition in enumerate(sorted(wanted, key=sorted)):
        if progress is not None:
            progress(done, len(wanted), "sets of modalities")
        found = asked.predict(keep_only(scored.dataset, coalition), scored.index)
        found = for_metric(metric, target, found)
        worth[coalition] = Predictions(",".join(sorted(coalition)), found)

    def told(of: Mapping[Coalition, float]) -> dict[str, Any]:
        return interval_json(referee.combined([(share, worth[c]) for c, share in of.items()]))

    modalities: list[dict[str, Any]] = [
        {
            "name": player,
            "present": float(
                scored.dataset.present[scored.index, scored.dataset.schema.index(player)].mean()
            ),
            "shapley": told(shares[player]),
            "ablation": told({every: 1.0, every - {player}: -1.0}),
            "alone": told({frozenset({player}): 1.0}),
        }
        for player in players
    ]
    # A share can be undefined, as R² of one row is: those come last.
    modalities.sort(key=lambda m: math.inf if (v := m["shapley"]["value"]) is None else -v)
    return {
        "schema_version": SCHEMA_VERSION,
        "split": scored.split,
        "n": len(scored.index),
        "of": scored.of,
        "model": asked.told,
        "metric": metric.name,
        "score": told({every: 1.0}),
        "nothing": told({frozenset(): 1.0}),
        "exact": exact,
        "modalities": modalities,
        "fusion_gain": run.metrics.get("fusion_gain"),
        "fusion_missing": run.metrics.get("fusion_missing"),
    }
