"""What MRO's benchmarks share."""

from __future__ import annotations

from polymix.search.protocol import Task
from polymix.train.intervals import Referee

from common import Lab  # isort: skip


def task_of(lab: Lab, seed: int) -> Task:
    """What a strategy is told, without a budget."""
    evaluator = lab.evaluator
    return Task(
        schema=lab.dataset.schema,
        rows=len(lab.dataset.split.train),
        seed=seed,
        metric=evaluator.metric.name,
        seconds=None,
        trials=None,
        cost=evaluator.cost,
        difference=Referee(evaluator.metric, evaluator.val_targets).difference,
        predict=lambda _: 0.0,
    )
