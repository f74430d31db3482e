"""The finalist that is no network: gradient boosting on descriptions of every modality."""

from __future__ import annotations

import math

from polymix.data.schema import Kind, Schema
from polymix.nn import boosting as model  # noqa: F401 - registers what builds the genotype
from polymix.nn.describe import DESCRIPTIONS, describers_for, is_columns
from polymix.space.boosting import BoostingGenotype

KINDS = frozenset({Kind.TABULAR, Kind.TEXT, Kind.FEATURES})
"""It stands among the finalists where a modality is of these kinds, or a short series."""

ROUNDS, LEAST_ROUNDS = 200, 5
MOST_TREES = 5000


def boosting_genotype(schema: Schema, pretrained: bool = True) -> BoostingGenotype | None:
    """Gradient boosting on all modalities; none where there is nothing that it is known for.

    Args:
        schema: of the data.
        pretrained: whether frozen encoders may describe a modality, beside what is fitted.
    """
    if not any(m.kind in KINDS or is_columns(m) for m in schema.modalities):
        return None
    described = tuple(
        (m.name, block)
        for m in schema.modalities
        for block in describers_for(m)
        if pretrained or block.name in DESCRIPTIONS
    )
    rounds = max(LEAST_ROUNDS, min(ROUNDS, MOST_TREES // schema.target.outputs))
    return BoostingGenotype(descriptions=described, rounds=rounds)


def within(genotype: BoostingGenotype, expected: float, allowed: float) -> int:
    """Rounds that fit some seconds, where all of them are expected to take `expected`."""
    if expected <= allowed or not math.isfinite(expected):
        return genotype.rounds
    return max(min(LEAST_ROUNDS, genotype.rounds), int(genotype.rounds * allowed / expected))
