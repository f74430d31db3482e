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
from pydantic import ValidationError

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Decision, Schema
from polymix.datasets import Progress
from polymix.errors import RunFolderError
from polymix.records import Role
from polymix.runs.inference import Served, on_schema
from polymix.runs.open_run import OpenRun
from polymix.runs.rows import MAX_EXPLAINED_ROWS, GivenRows, scored_rows
from polymix.runs.run_data import Data
from polymix.scoring.calibration import for_metric
from polymix.scoring.intervals import Predictions, Referee, interval_json
from polymix.store.run_folder import RunFolder

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
        data: rows of one's own; the run's own validation rows where not given.
        rows: at most so many are drawn, which bounds the time this takes.
        progress: called as `progress(done, total, what)`.

    Returns:
        `{schema_version, split, n, of, metric, score, nothing, exact, modalities: [{name, present,
        shapley, ablation, alone}], fusion, fusion_missing}`, each score `{value, ci}`, modalities
        by Shapley value. `ablation` is the score minus that without the modality, `alone` the score
        with it alone, `present` the share of the rows that have it. `fusion` is what the model
        gained over the run's best single modality, trained as such, on the same rows: `{gain,
        score, single, modality}`, or none where there is nothing to compare: `fusion_missing` says
        why.
    """
    served, metric = run.served, run.metric
    scored = scored_rows(run, data, progress, most=rows)
    referee = Referee(metric, scored.targets)
    players = served.reads
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
        found = served.predict(keep_only(scored.dataset, coalition), scored.index)
        found = for_metric(metric, served.schema.target, found)
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
    fusion = _fusion(run, scored, referee, worth[every])
    return {
        "schema_version": SCHEMA_VERSION,
        "split": scored.split,
        "n": len(scored.index),
        "of": scored.of,
        "metric": metric.name,
        "score": told({every: 1.0}),
        "nothing": told({frozenset(): 1.0}),
        "exact": exact,
        "modalities": modalities,
        "fusion": None if isinstance(fusion, str) else fusion,
        "fusion_missing": fusion if isinstance(fusion, str) else None,
    }


def _fusion(
    run: OpenRun, rows: GivenRows, referee: Referee, whole: Predictions
) -> dict[str, Any] | str:
    """What the model gained over the best single modality, trained as such; or why none is told."""
    listed = [f for f in run.metrics["finalists"] if Role.SINGLE.value in f["roles"]]
    listed = [f for f in listed if f["rank"] is not None]
    if len(run.served.reads) < 2:
        return f"the model reads {run.served.reads[0]} alone"
    if not listed:
        return "there is no single modality to compare with"
    best = min(listed, key=lambda f: f["rank"])
    with run.ledger() as ledger:
        known = {t.key: t for t in ledger.trials() if t.weights is not None and t.score}
        trials = [known[t["key"]] for t in best["trials"] if t["key"] in known]
        if not trials:
            # Those of folds are let go: what they said out of fold is on the leaderboard.
            return f"the weights of {best['label']} were not kept: see the leaderboard"
        dataset = on_schema(rows.dataset, run.folder.schema)
        evaluator = run.evaluator(dataset, ledger)
        trial = max(trials, key=lambda t: t.value)
        model = evaluator.trained(trial)
    schema = served_as(evaluator.schema_for(trial.proposal.recipe), run.folder, trial.key)
    alone = Served(model, schema, run.device)
    found = alone.predict(on_schema(dataset, schema), rows.index)
    single = Predictions("single modality", for_metric(referee.metric, schema.target, found))
    return {
        "gain": interval_json(referee.combined([(1.0, whole), (-1.0, single)])),
        "score": interval_json(referee.combined([(1.0, single)])),
        "single": best["label"],
        "modality": alone.reads[0],
    }


def served_as(schema: Schema, folder: RunFolder, key: str) -> Schema:
    """The schema of a finalist's model, with what the run decided for it on validation rows.

    Raises:
        RunFolderError: `metrics.json` says nothing sensible.
    """
    assert folder.metrics is not None
    known = folder.metrics.get("decisions")
    told = known.get(key) if isinstance(known, Mapping) else None
    try:
        decision = None if told is None else Decision.model_validate(told)
    except ValidationError:
        raise RunFolderError(
            f"{folder.path / 'metrics.json'}: the decision of trial {key} is none: restore it"
        ) from None
    target = schema.target.model_copy(update={"decision": decision})
    return schema.model_copy(update={"target": target})
