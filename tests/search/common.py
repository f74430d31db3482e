"""Trials out of thin air, and a task to give them to."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from polymix.genotype import Block
from polymix.records import Cost, Fidelity, Interval, Proposal, Score, Status, Trial
from polymix.scoring.intervals import Referee
from polymix.scoring.metrics import METRICS
from polymix.search.protocol import SearchTask
from polymix.space.mix import MixGenotype

ROWS = 400
TARGETS = np.zeros(ROWS, np.int64)
MLP = Block.of("mlp")


def answer(proposal: Proposal, right: float | None, flops: int = 100, **changes: Any) -> Trial:
    """A trial of a proposal that got this share of the rows right; none for a failed one."""
    key = repr(proposal)
    if right is None:
        return Trial(proposal, key, Status.FAILED, None, Cost(0, 0), error="it broke")
    # Which rows are right differs from trial to trial, as independent as can be.
    order = np.random.default_rng(zlib.crc32(key.encode())).permutation(ROWS)
    chosen = (order >= round(right * ROWS)).astype(np.int64)
    score = Score(right, 1.0, 0)
    made = Trial(
        proposal, key, Status.DONE, score, Cost(10, flops, 5), (right,),
        predictions=np.eye(2)[chosen],
    )  # fmt: skip
    return replace(made, **changes)


def referee() -> Referee:
    return Referee(METRICS["accuracy"], TARGETS)


def task(schema: Any, **changes: Any) -> SearchTask:
    def difference(ours: Any, theirs: Any) -> Interval:
        return referee().difference(ours, theirs)

    fields: dict[str, Any] = {
        "schema": schema, "rows": 120, "seed": 0, "metric": "accuracy", "seconds": None,
        "trials": None, "cost": lambda genotype, recipe: Cost(1, 1), "difference": difference,
        "predict": lambda proposal: 0.0,
    }  # fmt: skip
    return SearchTask(**{**fields, **changes})


def proposal(name: str = "series", block: Block = MLP, seed: int = 0, **changes: Any) -> Proposal:
    return Proposal(MixGenotype.single(name, block), Fidelity(100, 2, seed), **changes)
