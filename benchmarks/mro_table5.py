"""MRO's Tables 4 and 5 on CMU-MOSI: baselines, the search, its ablations and its rank terms.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mro_table5.py --raw RAW [--seeds 5] [--out FILE]

Every variant searches once a seed; the mask it chooses by validation is trained alone from
scratch at that seed, as are the baselines, and random masks of as many paths. The test rows are
opened last: accuracy and F1 over seeds, MFLOPs, masks, Spearman's ρ of the last epoch. `chosen`
is one mask, by the mean validation score over the seeds' supernets, against the full network.
`exhaustive` is what scoring all masks takes, in evaluations of the full network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polymix import seeds
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.datasets import open_dataset
from polymix.genotype import Block, Genotype
from polymix.records import Fidelity, Interval, Proposal, Recipe, Trial
from polymix.runs.inference import predict_dataset
from polymix.search.mro import MRO
from polymix.search.mro_scores import MaskScores, full_pass, score_masks
from polymix.search.protocol import Task
from polymix.space.mix import MixGenotype
from polymix.space.mro import MROGenotype, MROSpace
from polymix.train.feed import Feed, FeedTrainer
from polymix.train.intervals import Referee
from polymix.train.learner import SingleLearner
from polymix.train.loop import validate
from polymix.train.metrics import METRICS

from common import Lab, lab_on, mean_interval, report  # isort: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "MRO, p=1": {},
    "MRO, p=2": {"p": "2"},
    "MRO, p=inf": {"p": "inf"},
    "MRO, p=0": {"p": "0"},
    "MRO, hinge": {"rank_term": "hinge"},
    "without prior guidance": {"prior": False},
    "without graph": {"graph": False},
    "without rank term": {"rank_term": "none"},
}


@dataclass(frozen=True)
class Tested:
    """A trained model on the test rows."""

    key: str
    predictions: np.ndarray


@dataclass(frozen=True)
class Found:
    """What one search came to."""

    genotype: MROGenotype
    scores: MaskScores
    numbers: dict[str, float]
    exhaustive: float


def main() -> None:
    """Search, train, test, print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--raw", type=Path, required=True, help="folder of CMU-MOSI's files")
    options.add_argument("--context", type=int, default=2)
    options.add_argument("--dim", type=int, default=64)
    options.add_argument("--horizon", type=int, default=15, help="epochs of a search")
    options.add_argument("--epochs", type=int, default=15, help="of a full training")
    options.add_argument("--dropout", type=float, default=0.3)
    options.add_argument("--lr", type=float, default=5e-4)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--variants", help="some of them, separated by semicolons")
    options.add_argument("--ledger", type=Path, help="goes on where another call stopped")
    options.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = options.parse_args()
    dataset = open_dataset("mosi", raw=arguments.raw, options={"context": arguments.context})
    with lab_on(dataset, arguments.ledger) as bench:
        report(run(arguments, bench), arguments.out)


def run(arguments: argparse.Namespace, bench: Lab) -> dict[str, Any]:
    """All searches and trainings, then the test rows."""
    dataset, every = bench.dataset, range(arguments.seeds)
    names = arguments.variants.split(";") if arguments.variants else list(VARIANTS)
    found = {name: [search(arguments, bench, VARIANTS[name], s) for s in every] for name in names}
    first = found[names[0]]
    space = MROSpace(first[0].genotype.model_copy(update={"mask": (1,) * 6}))
    mean = np.mean([f.scores.scores for f in first], 0)
    loss = np.mean([f.scores.losses for f in first], 0)
    scores = MaskScores(first[0].scores.masks, mean, loss, first[0].scores.flops)
    chosen = space.genotype(scores.masks[scores.order()[0]].tolist())
    alike = scores.masks[scores.masks.sum(1) == sum(chosen.mask)].tolist()
    draws = seeds.stream(0, "masks of the same size").integers(len(alike), size=arguments.seeds)
    plain = Block.of("mlp", channels=arguments.dim, layers=2, dropout=arguments.dropout)
    encoders = tuple((name, plain) for name in dataset.schema.names)
    late = MixGenotype(encoders=encoders, fusion="concat", network=Block.of("mlp"))
    wanted: dict[str, list[Genotype]] = {
        "text alone": [MixGenotype.single(*encoders[0])] * arguments.seeds,
        "concat + MLP": [late] * arguments.seeds,
        "pairwise CMT": [space.full] * arguments.seeds,
        **{name: [f.genotype for f in several] for name, several in found.items()},
        "chosen": [chosen] * arguments.seeds,
        "random masks of its size": [space.genotype(alike[d]) for d in draws],
    }
    recipe = Recipe(lr=arguments.lr, batch_size=32, schedule="cosine")
    trials = {
        name: bench.run(
            [
                Proposal(
                    g,
                    Fidelity(len(dataset.split.train), arguments.epochs, s),
                    recipe,
                    keep=True,
                    stage=name,
                )
                for s, g in enumerate(genotypes)
            ]
        )
        for name, genotypes in wanted.items()
    }
    # Everything is chosen: the test rows, once.
    tested = {name: [on_test(bench, t) for t in several] for name, several in trials.items()}
    rows = {name: row(dataset, tested[name], trials[name]) for name in tested}
    for name, several in found.items():
        rows[name] |= {
            "rho": mean_interval([f.numbers["rho"] for f in several]),
            "rho_all": mean_interval([f.numbers["rho_all"] for f in several]),
            "regret": mean_interval([f.numbers["regret"] for f in several]),
            "rank": [f.numbers["rank"] for f in several],
        }
    referee = Referee(METRICS["accuracy"], dataset.targets[dataset.split.test.open()])
    full = bench.evaluator.cost(space.full).flops

    def minus(other: str) -> dict[str, float]:
        difference: Interval = referee.difference(tested["chosen"], tested[other])
        return asdict(difference)

    return {
        "benchmark": "mro_table5",
        **{n: getattr(arguments, n) for n in ("context", "dim", "horizon", "epochs", "seeds")},
        "rows": rows,
        "chosen": {
            "mask": list(chosen.mask),
            "drawing": chosen.draw().splitlines(),
            "flops_share": bench.evaluator.cost(chosen).flops / full,
            **{f"minus {o}": minus(o) for o in tested if o in (
                "pairwise CMT", "random masks of its size", "concat + MLP", "text alone")},
        },
        "exhaustive": mean_interval([f.exhaustive for several in found.values() for f in several]),
        "logistic regression": {n: linear(dataset, n) for n in ("text", "all")},
    }  # fmt: skip


def search(arguments: argparse.Namespace, bench: Lab, options: dict[str, Any], seed: int) -> Found:
    """One search, and what it takes to score all masks."""
    dataset, evaluator = bench.dataset, bench.evaluator
    strategy = MRO(
        dim=arguments.dim,
        dropout=arguments.dropout,
        horizon=arguments.horizon,
        lr=arguments.lr,
        **options,
    )
    strategy.setup(
        Task(
            schema=dataset.schema,
            rows=len(dataset.split.train),
            seed=seed,
            metric=evaluator.metric.name,
            seconds=None,
            trials=None,
            cost=evaluator.cost,
            difference=Referee(evaluator.metric, evaluator.val_targets).difference,
            predict=lambda _: 0.0,
        )
    )
    source, trainer = RowSource(dataset, evaluator.device), FeedTrainer(evaluator, seed)
    train, val = (Feed(source, rows, seed) for rows in (dataset.split.train, dataset.split.val))
    for _ in range(strategy.start(None, trainer)):
        record = strategy.epoch(trainer, train, val)
    scores, (genotype,) = strategy.scores, strategy.chosen()
    assert scores is not None
    print(f"{options or 'MRO'} seed {seed}: {genotype}", flush=True)

    def all_masks() -> None:
        seen = full_pass(strategy.supernet, val)
        score_masks(strategy.supernet, seen, scores.masks, scores.flops.tolist(), trainer)

    learner = SingleLearner(strategy.supernet, frozen=False)
    once = quickest(lambda: validate(learner, source, dataset.split.val, trainer.objective))
    return Found(genotype, scores, dict(record.numbers), quickest(all_masks) / once)


def quickest(run_once: Any, times: int = 7) -> float:
    """Seconds, the least of several: other work on the machine only ever adds."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        run_once()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def on_test(bench: Lab, trial: Trial) -> Tested:
    """A trained model's predictions on the test rows."""
    model, device = bench.evaluator.trained(trial), bench.evaluator.device
    rows = bench.dataset.split.test.open()
    return Tested(trial.key, predict_dataset(model, bench.dataset, rows, device))


def row(dataset: Dataset, tested: Sequence[Tested], trials: Sequence[Trial]) -> dict[str, Any]:
    """A row of the table."""
    targets = dataset.targets[dataset.split.test.open()]
    genotypes = [t.proposal.genotype for t in trials]
    return {
        **{
            name: mean_interval([METRICS[name](targets, one.predictions) for one in tested])
            for name in ("accuracy", "f1")
        },
        "validation": mean_interval([t.value for t in trials]),
        "mflops": [t.cost.flops / 1e6 for t in trials],
        "masks": [list(g.mask) for g in genotypes if isinstance(g, MROGenotype)],
    }


def linear(dataset: Dataset, name: str) -> float:
    """Test accuracy of a logistic regression on the utterance in the middle."""
    middle = dataset.schema.modalities[0].shape[0] // 2
    names = dataset.schema.names if name == "all" else (name,)
    x = np.concatenate([np.asarray(dataset.arrays[n])[:, middle, 1:] for n in names], 1)
    train = np.concatenate([dataset.split.train, dataset.split.val])
    test, y = dataset.split.test.open(), dataset.targets
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return float(model.fit(x[train], y[train]).score(x[test], y[test]))


if __name__ == "__main__":
    main()
