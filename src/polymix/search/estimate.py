"""What a trial is expected to take: seconds a step, and seconds a FLOP, measured once a run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from polymix.data.batch import RowSource
from polymix.genotype import Block, Genotype
from polymix.nn import catalog
from polymix.records import Fidelity, Proposal, Recipe
from polymix.space.mix import MixGenotype
from polymix.train.evaluate import Evaluator
from polymix.train.learner import SingleLearner
from polymix.train.objective import Objective
from polymix.train.optimizer import make_optimizer, step

BACKWARD = 2.0
"""A backward pass costs about twice its forward pass."""


SLOWEST = 2.0
"""How many times longer, or shorter, than expected fits are ever held to take."""


@dataclass(frozen=True)
class Rate:
    """Seconds a step takes whatever it does, and seconds a FLOP."""

    step: float
    flop: float

    def seconds(
        self, flops: float, fidelity: Fidelity, recipe: Recipe, rows: int, val: int
    ) -> float:
        """Seconds of a trial.

        Args:
            flops: of one row's forward pass, of what is trained.
            fidelity: of the trial.
            recipe: of the trial.
            rows: training rows there are.
            val: validation rows.
        """
        trained = min(fidelity.rows, rows)
        steps = math.ceil(trained / recipe.batch_size) + val / 512
        done = flops * ((1 + BACKWARD) * trained + val)
        return fidelity.epochs * (steps * self.step + done * self.flop)


class Pace:
    """Measured over expected seconds of models that are fitted, by family.

    Fits are estimated from counts of cells and rows. How fast the machine is and how many of its
    cores are free is learned from the first trials of a family. The quickest of them counts: the
    first one to read a view also fits it.
    """

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def of(self, genotype: Genotype) -> float:
        """Of the genotype's family; one where none of it was measured."""
        return self._known.get(genotype.family, 1.0)

    def learn(self, genotype: Genotype, seconds: float, expected: float) -> None:
        """Take notice of a trial.

        Args:
            genotype: that was fitted.
            seconds: that it took.
            expected: seconds, by the pace known then.
        """
        if expected > 0:
            ratio = min(max(self.of(genotype) * seconds / expected, SLOWEST**-1), SLOWEST)
            self._known[genotype.family] = min(self._known.get(genotype.family, SLOWEST), ratio)


def measure_rate(evaluator: Evaluator) -> Rate:
    """Time a few steps of a small and of a larger model on the run's own rows."""
    schema = evaluator.dataset.schema
    first = schema.modalities[0]
    small = MixGenotype.single(first.name, Block.of("mlp", channels=8, layers=1))
    pairs = tuple(
        (m.name, Block.of("mlp-mixer" if "mlp-mixer" in catalog.encoders_for(m.kind) else "mlp"))
        for m in schema.modalities
    )
    large = MixGenotype(encoders=pairs, fusion="concat" if len(pairs) > 1 else None)
    times = [_step_time(evaluator, genotype) for genotype in (small, large)]
    batch = Recipe().batch_size
    flops = [(1 + BACKWARD) * batch * evaluator.cost(g).flops for g in (small, large)]
    flop = max((times[1] - times[0]) / max(flops[1] - flops[0], 1.0), 1e-13)
    return Rate(step=max(times[0] - flops[0] * flop, 1e-4), flop=flop)


def _step_time(evaluator: Evaluator, genotype: MixGenotype, steps: int = 12) -> float:
    recipe = Recipe()
    rows = evaluator.dataset.split.train
    rows = np.resize(rows, recipe.batch_size)
    source = RowSource(evaluator.dataset, evaluator.device, [n for n, _ in genotype.encoders])
    learner = SingleLearner(evaluator.model(Proposal(genotype, Fidelity(1, 1))), frozen=False)
    optimizer = make_optimizer(learner.parameters(), recipe)
    objective = Objective(evaluator.dataset.schema)
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        step(learner.losses(source.batch(rows), objective, 1).sum(), optimizer)
        if evaluator.device.type == "cuda":
            torch.cuda.synchronize(evaluator.device)
        taken.append(time.perf_counter() - start)
    # Other work on the machine only ever adds: the quickest step is the one to trust.
    return min(taken[2:])


def scaled(rate: Rate, factor: float) -> Rate:
    """The rate of a genotype that was measured to be slower or faster than predicted."""
    return replace(rate, step=rate.step * factor, flop=rate.flop * factor)
