"""A search on a planted problem, without a driver."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.methods.bm_nas.bm_nas import BMNAS
from polymix.scoring.metrics import metric_for
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.supernet import RowLoader, SupernetTrainer

from .common import task


def search(make: Callable[[int, int], Dataset], seed: int, rows: int, **options) -> tuple:
    """A search on a planted problem: the strategy at its end, and its epochs' records."""
    data = make(rows, seed)
    strategy = BMNAS(backbones=dict.fromkeys(data.schema.names, "given"), **options)
    strategy.setup(task(data.schema, rows=len(data.split.train), seed=seed))
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "l.sqlite") as ledger:
        metric = metric_for(data.schema.target.task)
        evaluator = Evaluator(data, metric, ledger, Path(folder) / "bank")
        trainer = SupernetTrainer(evaluator, seed)
        source = RowSource(data, evaluator.device)
        train, val = (RowLoader(source, r, seed) for r in (data.split.train, data.split.val))
        records = [
            strategy.epoch(trainer, train, val) for _ in range(strategy.start(None, trainer))
        ]
    return strategy, records
