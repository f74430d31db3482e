"""A run's evaluator, put together in one place for its search and for all that reads it later."""

from __future__ import annotations

from pathlib import Path

import torch

from polymix.data.dataset import Dataset
from polymix.runs.config import RunConfig
from polymix.scoring.metrics import metric_for
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator


def evaluator_of(
    config: RunConfig,
    dataset: Dataset,
    ledger: Ledger,
    folder: Path,
    device: torch.device | None = None,
    *,
    raise_errors: bool = False,
    checkpoint_after: float = 60.0,
) -> Evaluator:
    """An evaluator with a run's metric.

    Args:
        config: of the run.
        dataset: the rows.
        ledger: has the weights.
        folder: the feature bank comes to lie in it.
        device: where models run; the run's own where not given.
        raise_errors: raise what a candidate raises, in place of writing it down.
        checkpoint_after: seconds after which an unfinished trial is kept.
    """
    return Evaluator(
        dataset=dataset,
        metric=metric_for(dataset.schema.target.task, config.metric),
        memory=ledger,
        bank=folder / "bank",
        device=device or torch.device(config.device),
        raise_errors=raise_errors,
        checkpoint_after=checkpoint_after,
    )
