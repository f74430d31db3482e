"""Planted problems for BM-NAS: how well each fixed network solves them, and what the search finds.

    OMP_NUM_THREADS=1 python benchmarks/bm_nas_planted.py [--seeds 0 1 2 3 4] [--search] [--relaxed]

Of a problem's networks, those worth comparing are trained alone at the first seed, unless
`--no-fixed`: all steps of one Cell; for `kinked`, any operation, and any on what it gave; for
`chained`, LinearGLU on all pairs. With `--search`, each seed is searched, too, with the default
learning rates, and by the gradients of mixtures where `--relaxed`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import planted
from common import lab_on, last, report, task_of
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.methods.bm_nas.bm_nas import BMNAS
from polymix.methods.bm_nas.space import OPERATIONS, BMNASGenotype, BMNASSpace, Cell, Step
from polymix.records import Fidelity, Proposal, Recipe
from polymix.registry import register
from polymix.train.supernet import RowLoader, SupernetTrainer

PROBLEMS: dict[str, tuple[Callable[[int, int], Dataset], dict[str, int]]] = {
    "gated": (planted.gated, {"length": 2}),
    "gates": (planted.gates, {"length": 2, "channels": 16, "horizon": 60}),
    "crossed": (planted.crossed, {"length": 2}),
    "attended": (planted.attended, {"length": 4, "channels": 16}),
    "squared": (planted.squared, {"length": 2}),
    "doubled": (planted.doubled, {"length": 5, "channels": 16}),
    "kinked": (planted.kinked, {"length": 2, "channels": 16, "steps": 2, "horizon": 60}),
    "chained": (planted.chained, {"length": 2, "cells": 2, "horizon": 40}),
}
SIZES = {"cells": 1, "steps": 1, "channels": 8}


def main() -> None:
    """Train, search, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=30, help="of a network, of most searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--search", action="store_true", help="search every seed, too")
    parser.add_argument("--relaxed", action="store_true", help="search by the mixture's gradients")
    parser.add_argument("--no-fixed", action="store_true", help="train no fixed networks")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    register(planted.Given)
    result = {name: run(name, arguments) for name in arguments.problems}
    report({"benchmark": "bm_nas_planted", "rows": arguments.rows, **result}, arguments.out)


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One problem's networks, and its searches."""
    make, sizes = PROBLEMS[name]
    fields: dict[str, Any] = {**SIZES, "horizon": arguments.epochs, **sizes, "dropout": 0.0}
    told: dict[str, Any] = {"found": {}}
    for seed in arguments.seeds:
        data = make(arguments.rows, seed)
        with lab_on(data, None) as lab:
            strategy = BMNAS(
                backbones=dict.fromkeys(data.schema.names, planted.Given.name),
                batch_size=32,
                relaxed=arguments.relaxed,
                **fields,
            )
            strategy.setup(task_of(lab.evaluator, seed))
            if seed == arguments.seeds[0] and not arguments.no_fixed:
                genotypes = list(fixed(strategy.space))
                fidelity = Fidelity(len(data.split.train), arguments.epochs, seed)
                recipe = Recipe(lr=5e-3, batch_size=32, frozen=True)
                trials = lab.run([Proposal(g, fidelity, recipe) for g in genotypes])
                scores = {str(g): last(t) for g, t in zip(genotypes, trials, strict=True)}
                told["fixed"] = dict(sorted(scores.items(), key=lambda item: -item[1]))
            if arguments.search:
                trainer = SupernetTrainer(lab.evaluator, seed)
                source = RowSource(data, lab.evaluator.device)
                train, val = (
                    RowLoader(source, r, seed) for r in (data.split.train, data.split.val)
                )
                for _ in range(strategy.start(None, trainer)):
                    strategy.epoch(trainer, train, val)
                told["found"][seed] = str(strategy.chosen()[0])
                print(name, seed, told["found"][seed], flush=True)
    return told


def fixed(space: BMNASSpace) -> Iterator[BMNASGenotype]:
    """The networks that a problem's intended one is compared with."""
    if space.cells == 1 and space.steps == 1:
        yield from space
        return
    if space.cells == 1:
        for one, other in product(OPERATIONS, repeat=2):
            steps = Step(inputs=(0, 1), operation=one), Step(inputs=(2, 2), operation=other)
            yield space.genotype([Cell(inputs=(0, 1), steps=steps)])
        return
    step = Step(inputs=(0, 1), operation="linear-glu")
    for pairs in product(*space.tuples):
        yield space.genotype([Cell(inputs=pair, steps=(step,)) for pair in pairs])


if __name__ == "__main__":
    main()
