"""The leaderboard: what was tried, what won, and by how much, as plain data.

{schema_version, metric, rows: [{rank, tied_with, genotype, role, score_val, ci, seeds,
                                 params, flops, cpu_s, status, …}],
 epochs: [{epoch, …}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from polymix.records import EpochRecord, Role, Trial
from polymix.runs.fusion import fusion_json
from polymix.runs.open_run import OpenRun
from polymix.search.driver import Outcome
from polymix.search.standings import Standing, Standings
from polymix.tables.report import lost_lines

SCHEMA_VERSION = 1


def metrics_json(outcome: Outcome, metric: str) -> dict[str, Any]:
    """What `metrics.json` holds: finalists, choice, gain, notes; validation only."""
    standings = outcome.standings
    chosen = standings.chosen
    return {
        "schema_version": SCHEMA_VERSION,
        "metric": metric,
        "chosen": None if chosen is None else _chosen(standings, chosen),
        "refit": None if outcome.refitted is None else outcome.refitted.key,
        "development": None if outcome.development is None else outcome.development.key,
        "folds": 0 if chosen is None else chosen.proposal.fidelity.folds,
        "seeds": standings.seeds,
        "ranked": standings.ranked,
        **fusion_json(standings, metric),
        "notes": list(outcome.notes),
        "finalists": [_finalist(row) for row in standings.rows],
        "random": [t.key for t in outcome.random],
        "search": [t.key for t in outcome.trials],
    }


def _chosen(standings: Standings, chosen: Trial) -> dict[str, Any]:
    """What ships: its trial, its finalist, if it is one, and why."""
    row = next((r for r in standings.rows if r.rank and r.rank == standings.chosen_rank), None)
    return {
        "key": chosen.key,
        "rank": standings.chosen_rank,
        "label": None if row is None else row.finalist.label,
        "why": standings.why,
    }


def _finalist(row: Standing) -> dict[str, Any]:
    finalist = row.finalist
    states = sorted({t.status.value for t in finalist.trials}) or ["not trained"]
    return {
        "rank": row.rank,
        "tied_with": list(row.tied_with),
        "label": finalist.label,
        "genotype": json.loads(finalist.proposal.genotype.to_json()),
        "architecture": str(finalist.proposal.genotype),
        "role": finalist.roles[0].value,
        "roles": [role.value for role in finalist.roles],
        "modalities": list(finalist.proposal.genotype.modalities),
        "score_val": row.score.value if row.score else None,
        "ci": [row.score.low, row.score.high] if row.score else None,
        "seeds": row.seeds,
        "params": row.cost.params,
        "flops": row.cost.flops,
        "steps": row.cost.steps,
        "cpu_s": row.cost.cpu_s,
        "status": ", ".join(states),
        "error": next((t.error for t in finalist.trials if t.error), None),
        "trials": [_brief(t) for t in finalist.trials],
    }


def _brief(trial: Trial) -> dict[str, Any]:
    return {
        "key": trial.key,
        "seed": trial.proposal.fidelity.seed,
        "epochs": trial.proposal.fidelity.epochs,
        "status": trial.status.value,
        "score_val": trial.score.value if trial.score else None,
        "best_epoch": trial.score.epoch if trial.score else None,
        "weights": trial.weights,
    }


def trial_row(trial: Trial, role: Role, origin: str) -> dict[str, Any]:
    """A row of the leaderboard for one trial of the search."""
    score = trial.score
    return {
        "rank": None,
        "tied_with": [],
        "label": trial.proposal.stage,
        "genotype": json.loads(trial.proposal.genotype.to_json()),
        "architecture": str(trial.proposal.genotype),
        "role": role.value,
        "score_val": score.value if score else None,
        "ci": None,
        "seeds": 1,
        "params": trial.cost.params,
        "flops": trial.cost.flops,
        "steps": trial.cost.steps,
        "cpu_s": trial.cost.cpu_s,
        "status": trial.status.value,
        "stage": trial.proposal.stage,
        "rows": trial.proposal.fidelity.rows,
        "epochs": trial.proposal.fidelity.epochs,
        "seed": trial.proposal.fidelity.seed,
        "origin": origin,
        "error": trial.error,
        "key": trial.key,
    }


def _epoch_row(record: EpochRecord) -> dict[str, Any]:
    """What a strategy says of an epoch, from 0; JSON has no number for what is not finite."""
    numbers = {n: v if math.isfinite(v) else None for n, v in record.numbers}
    return {"epoch": record.epoch, **numbers}


def leaderboard(
    metrics: dict[str, Any] | None,
    trials: Sequence[dict[str, Any]],
    metric: str,
    epochs: Sequence[EpochRecord] = (),
) -> dict[str, Any]:
    """The whole board: finalists first, then the search's trials, best first in each stage.

    Args:
        metrics: what `metrics_json` gave, once there is a model.
        trials: a `trial_row` each.
        metric: its name.
        epochs: a supernet's.
    """
    finalists = metrics["finalists"] if metrics else []
    keys = {t["key"] for f in finalists for t in f["trials"]}
    rest = [row for row in trials if row["key"] not in keys]
    stages = list(dict.fromkeys(row["stage"] for row in rest))
    worst = float("-inf")
    rest.sort(
        key=lambda row: (
            stages.index(row["stage"]),
            -(worst if row["score_val"] is None else row["score_val"]),
        )
    )
    board: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "metric": metric,
        "rows": [*finalists, *rest],
        "epochs": [_epoch_row(record) for record in epochs],
    }
    if metrics:
        told = "chosen", "seeds", "ranked", "fusion_gain", "fusion_missing", "notes"
        board |= {name: metrics.get(name) for name in told}
    return board


def board_of(run: OpenRun) -> dict[str, Any]:
    """What was tried and what won, as plain data.

    Raises:
        LedgerError: the run's ledger cannot be read.
    """
    rows, epochs = [], []
    if run.config.ledger or run.folder.ledger_path.exists():
        with run.ledger() as ledger:
            rows = [trial_row(r.trial, r.role, r.origin) for r in ledger.rows()]
            epochs = ledger.epochs("search")
    metrics = None if run.folder.metrics is None else dict(run.folder.metrics)
    board = leaderboard(metrics, rows, run.config.metric, epochs)
    lost = lost_lines(run.folder.data_report or {})
    more = {"lost": lost} if lost else {}
    return {**board, "status": run.folder.status, "run": str(run.path), **more}
