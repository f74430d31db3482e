"""Fitted models that are like others: lighter ones for a short clock, others to go on with.

The portfolio's settings are a guess that is right on average. Where the clock allows more, what was
best on these rows is varied, one or two settings at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.genotype import Block, Scalar

LIGHT: Mapping[str, Mapping[str, Scalar]] = {
    "extra-trees": {"trees": 50},
    "gradient-boosting": {"rounds": 60, "lr": 0.2},
}
"""Settings of which a fit takes about a third of the usual time, by learner."""

SETTINGS: Mapping[str, Mapping[str, tuple[Scalar, ...]]] = {
    "gradient-boosting": {
        "lr": (0.03, 0.05, 0.08, 0.12),
        "leaves": (7, 15, 31, 63),
        "share": (0.15, 0.3, 0.6, 1.0),
        "least": (3, 10, 30),
        "l2": (0.0, 1.0, 10.0),
        "rounds": (150, 300, 600),
        "dims": (15, 30, 60),
    },
    "extra-trees": {"share": (0.2, 0.4, 0.7, 1.0), "dims": (15, 30, 60)},
    "kernel": {"vocabulary": (1024, 4096, 8192), "numbers": (0.2, 0.4, 0.8)},
    "linear": {"numbers": (0.15, 0.3, 0.6)},
}
"""What is varied, by learner."""

CHANGED = 2
"""Settings of a variation that differ from what it varies, at most."""


def lighter(genotype: TabularGenotype) -> TabularGenotype | None:
    """The same with less of it, for a clock that is too short; none where there is no such one.

    Of texts it sees a network's word embeddings alone, averaged, which take no pass through its
    layers; then it stands on one model in place of several, then has fewer trees.
    """
    words = tuple((name, _words(block)) for name, block in genotype.views)
    if words != genotype.views:
        return genotype.model_copy(update={"views": words})
    if len(genotype.base) > 1:
        return genotype.model_copy(update={"base": genotype.base[:1]})
    light = LIGHT.get(genotype.learner.name, {})
    made = _with(genotype.learner, light)
    usual = dict(genotype.learner.options)
    few = [name for name in ("trees", "rounds") if name in light]
    if not few or any(int(usual.get(n, light[n])) <= int(light[n]) for n in few):  # type: ignore[arg-type]
        return None
    return genotype.model_copy(update={"learner": made})


def variation(
    ranked: Sequence[TabularGenotype], rounds: int, rng: np.random.Generator
) -> TabularGenotype | None:
    """One of the best with some settings drawn anew; none where nothing can be varied.

    Args:
        ranked: what was scored, best first.
        rounds: of boosting, at most.
        rng: draws; the best is drawn most often.
    """
    able = [one for one in ranked if one.learner.name in SETTINGS]
    if not able:
        return None
    odds = 0.5 ** np.arange(1, len(able) + 1)
    parent = able[int(rng.choice(len(able), p=odds / odds.sum()))]
    settings = SETTINGS[parent.learner.name]
    names = rng.permutation(list(settings))[: int(rng.integers(1, CHANGED + 1))]
    drawn: dict[str, Scalar] = {}
    for name in names:
        choices = settings[str(name)]
        value = choices[int(rng.integers(len(choices)))]
        drawn[str(name)] = min(int(value), rounds) if name == "rounds" else value  # type: ignore[arg-type]
    return parent.model_copy(update={"learner": _with(parent.learner, drawn)})


def _words(block: Block) -> Block:
    """A frozen text network's word embeddings alone; any other view as it is."""
    options = dict(block.options)
    if block.name != "pretrained-text" or options.get("tokens") or options.get("states") == (0,):
        return block
    return Block.of(block.name, block.preset, **{**options, "states": (0,)})


def _with(learner: Block, options: Mapping[str, Scalar]) -> Block:
    return Block.of(learner.name, learner.preset, **{**dict(learner.options), **options})
