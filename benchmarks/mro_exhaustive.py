"""What scoring every mask takes, in evaluations of the full network, and whether it is right.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mro_exhaustive.py --raw RAW [--runs 15] [--out FILE]

One pass of the full supernet, all 63 masks scored from it, beside one evaluation of the full
supernet on the same rows of CMU-MOSI, in turns. Then every mask is evaluated by itself, in a
network of its paths alone with the same weights: the largest differences of scores and losses.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from polymix.data.batch import RowSource
from polymix.datasets import open_dataset
from polymix.methods.mro.model import MROModel, part_flops
from polymix.methods.mro.mro import MRO
from polymix.methods.mro.scores import full_pass, score_masks
from polymix.methods.mro.space import MROGenotype, MROSpace
from polymix.nn.build import build
from polymix.nn.model import load_matching
from polymix.records import Fidelity, Proposal, Recipe
from polymix.train.learner import SingleLearner
from polymix.train.supernet import RowLoader, SupernetTrainer
from polymix.train.validate import validate

from common import Lab, lab_on, report, task_of  # isort: skip


def main() -> None:
    """Train the full network a little, score, time, print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--raw", type=Path, required=True, help="folder of CMU-MOSI's files")
    options.add_argument("--dim", type=int, default=64)
    options.add_argument("--epochs", type=int, default=3, help="of the full network")
    options.add_argument("--runs", type=int, default=15, help="pairs that are timed")
    options.add_argument("--rows", choices=("val", "train"), default="val")
    options.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = options.parse_args()
    dataset = open_dataset("mosi", raw=arguments.raw)
    with lab_on(dataset, None) as lab:
        report(run(arguments, lab), arguments.out)


def run(arguments: argparse.Namespace, lab: Lab) -> dict[str, Any]:
    """Times and differences."""
    dataset, evaluator = lab.dataset, lab.evaluator
    strategy = MRO(dim=arguments.dim)
    strategy.setup(task_of(lab.evaluator, 0))
    (full,) = [proposal.genotype for proposal in strategy.derive()]
    assert isinstance(full, MROGenotype)
    space, rows = MROSpace(full), getattr(dataset.split, arguments.rows)
    (trial,) = lab.run(
        [
            Proposal(
                full,
                Fidelity(len(dataset.split.train), arguments.epochs),
                Recipe(batch_size=32),
                keep=True,
            )
        ]
    )
    model, trainer = evaluator.trained(trial), SupernetTrainer(evaluator, 0)
    assert isinstance(model, MROModel)
    source = RowSource(dataset, evaluator.device)
    feed, masks = RowLoader(source, rows, 0), space.masks()
    parts = part_flops(model, dataset.schema)
    flops = [parts.of(space.paths, mask) for mask in masks.tolist()]

    def every() -> Any:
        return score_masks(model, full_pass(model, feed), masks, flops, trainer)

    def once() -> Any:
        predictions, _, _ = validate(
            SingleLearner(model, frozen=False), source, rows, trainer.objective
        )
        return trainer.metric(dataset.targets[rows], predictions[0])

    pairs = [(seconds(every), seconds(once)) for _ in range(arguments.runs + 2)][2:]
    found, scores, losses = every(), [], []
    for place, mask in enumerate(masks.tolist()):
        alone = build(space.genotype(mask), dataset.schema)
        load_matching(alone, model.state_dict())
        learner = SingleLearner(alone, frozen=False)
        predictions, loss, _ = validate(learner, source, rows, trainer.objective)
        value = trainer.metric(dataset.targets[rows], predictions[0])
        scores.append(abs(found.scores[place] - value))
        losses.append(abs(found.losses[place] - float(loss[0])))
    return {
        "benchmark": "mro_exhaustive",
        "masks": len(masks),
        "rows": len(rows),
        "dim": arguments.dim,
        "all_masks_s": statistics.median(a for a, _ in pairs),
        "full_once_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
        "ratio_of_least": min(a for a, _ in pairs) / min(b for _, b in pairs),
        "largest_difference": {"score": max(scores), "loss": max(losses)},
    }


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process: other work on the machine does not count."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
