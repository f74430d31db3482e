"""A run's leaderboard, as its folder has it."""

from __future__ import annotations

from typing import Any

from polymix.runs.config import RunConfig
from polymix.runs.leaderboard import leaderboard, trial_row
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder


def board_of(folder: RunFolder) -> dict[str, Any]:
    """What was tried and what won, as plain data; see `polymix.runs.leaderboard`.

    Raises:
        LedgerError: the run's ledger cannot be read.
    """
    config = RunConfig.of(folder)
    rows, epochs = [], []
    if config.ledger or folder.ledger_path.exists():
        with Ledger.open(config.ledger or folder.ledger_path, read_only=True) as ledger:
            rows = [trial_row(r.trial, r.role, r.origin) for r in ledger.rows()]
            epochs = ledger.epochs("search")
    metrics = None if folder.metrics is None else dict(folder.metrics)
    board = leaderboard(metrics, rows, config.metric, epochs)
    return {**board, "status": folder.status, "run": str(folder.path)}
