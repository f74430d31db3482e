"""MRO's Tables 4 and 5 on CMU-MOSI: baselines, the search, its ablations and its rank terms.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mro_table5.py --raw RAW [--seeds 5] \
        [--ledger FILE] [--out FILE]

Every variant searches once a seed; the mask it chooses by validation is trained alone from
scratch at that seed, as are the baselines, and random masks of as many paths. The test rows are
opened last: accuracy and F1 over seeds, MFLOPs, masks, Spearman's ρ of the last epoch. `chosen`
is one mask, by the mean validation score over the seeds' supernets, against the full network.
With a ledger, searches and trainings that are in it are not made again.

Dropout is the paper's (Table 3). The learning rate was chosen among a few on the training videos
alone, by validation videos, as they are and with a share of the readings swapped for those of
utterances of the other class: clean validation is near its ceiling, whatever is done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polymix import seeds
from polymix.comparators.embracenet import model as embrace
from polymix.comparators.embracenet.genotype import EmbraceGenotype
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.datasets import open_dataset
from polymix.genotype import Block, Genotype, parse_genotype
from polymix.methods.mro.mro import MRO
from polymix.methods.mro.scores import MaskScores
from polymix.methods.mro.space import MROGenotype, MROSpace
from polymix.nn.build import versions
from polymix.records import Fidelity, Interval, Proposal, Recipe, Trial
from polymix.runs.inference import predict_dataset
from polymix.scoring.intervals import Referee
from polymix.scoring.metrics import METRICS
from polymix.space.mix import MixGenotype
from polymix.train.supernet import RowLoader, SupernetTrainer

from common import Lab, lab_on, mean_interval, report, task_of  # isort: skip

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
COMPARED = ("pairwise CMT", "random masks of its size", "EmbraceNet", "concat + MLP", "text alone")


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
    options.add_argument("--dropout", type=float, default=0.4)
    options.add_argument("--lr", type=float, default=1e-4)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--variants", help="some of them, separated by semicolons")
    options.add_argument("--ledger", type=Path, help="goes on where another call stopped")
    options.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = options.parse_args()
    if arguments.seeds < 2:
        options.error("--seeds: intervals take two at least")
    dataset = open_dataset("mosi", raw=arguments.raw, options={"context": arguments.context})
    with lab_on(dataset, arguments.ledger) as bench:
        report(run(arguments, bench), arguments.out)


def run(arguments: argparse.Namespace, bench: Lab) -> dict[str, Any]:
    """All searches and trainings, then the test rows."""
    dataset, every = bench.dataset, range(arguments.seeds)
    names = arguments.variants.split(";") if arguments.variants else list(VARIANTS)
    found = {name: [searched(arguments, bench, VARIANTS[name], s) for s in every] for name in names}
    first = found[names[0]]
    space = MROSpace(first[0].genotype.model_copy(update={"mask": (1,) * 6}))
    scores = over_seeds([f.scores for f in first])
    chosen = space.genotype(scores.masks[scores.order()[0]].tolist())
    alike = scores.masks[scores.masks.sum(1) == sum(chosen.mask)].tolist()
    draws = seeds.stream(0, "masks of the same size").integers(len(alike), size=arguments.seeds)
    plain = Block.of("mlp", channels=arguments.dim, layers=2, dropout=arguments.dropout)
    encoders = tuple((name, plain) for name in dataset.schema.names)
    network = Block.of("mlp", dropout=arguments.dropout)
    late = MixGenotype(encoders=encoders, fusion="concat", network=network)
    wide = EmbraceGenotype(encoders=encoders, width=arguments.dim, dropout=arguments.dropout)
    wanted: dict[str, list[Genotype]] = {
        "text alone": [MixGenotype.single(*encoders[0])] * arguments.seeds,
        "concat + MLP": [late] * arguments.seeds,
        "EmbraceNet": [wide] * arguments.seeds,
        "pairwise CMT": [space.full] * arguments.seeds,
        **{name: [f.genotype for f in several] for name, several in found.items()},
        "chosen": [chosen] * arguments.seeds,
        "random masks of its size": [space.genotype(alike[d]) for d in draws],
    }
    trials = {name: trained(arguments, bench, name, several) for name, several in wanted.items()}
    # Everything is chosen: the test rows, once.
    tested = {name: [on_test(bench, t) for t in several] for name, several in trials.items()}
    rows = {
        **{f"logistic regression, {n}": linear(dataset, n) for n in ("text", "all")},
        **{name: row(dataset, tested[name], trials[name]) for name in tested},
    }
    for name, several in found.items():
        rows[name] |= {
            **{n: mean_interval([f.numbers[n] for f in several])
               for n in ("rho", "rho_all", "regret")},
            "rank": [f.numbers["rank"] for f in several],
        }  # fmt: skip
    referee = Referee(METRICS["accuracy"], dataset.targets[dataset.split.test.open()])

    def minus(other: str) -> dict[str, float]:
        difference: Interval = referee.difference(tested["chosen"], tested[other])
        return asdict(difference)

    return {
        "benchmark": "mro_table5",
        **{n: getattr(arguments, n) for n in
           ("context", "dim", "horizon", "epochs", "dropout", "lr", "seeds")},
        "rows": rows,
        "chosen": {
            "mask": list(chosen.mask),
            "drawing": chosen.draw().splitlines(),
            "flops_share": bench.evaluator.cost(chosen).flops
            / bench.evaluator.cost(space.full).flops,
            **{f"minus {other}": minus(other) for other in COMPARED},
        },
        "cpu_s": sum(t.cost.cpu_s for several in trials.values() for t in several),
    }  # fmt: skip


def searched(
    arguments: argparse.Namespace, bench: Lab, options: dict[str, Any], seed: int
) -> Found:
    """One search, or what the ledger says of it."""
    strategy = MRO(
        dim=arguments.dim,
        dropout=arguments.dropout,
        horizon=arguments.horizon,
        lr=arguments.lr,
        **options,
    )
    strategy.setup(task_of(bench.evaluator, seed))
    (full,) = [proposal.genotype for proposal in strategy.derive()]
    asked = [
        strategy.model_dump(mode="json"),
        seed,
        versions(full),
        bench.dataset.fingerprint,
    ]
    name = "search " + hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    kept = bench.ledger.decision(name)
    if kept is None:
        kept = bench.ledger.record_decision(name, search(bench, strategy, seed))
    genotype = parse_genotype(kept["genotype"])
    assert isinstance(genotype, MROGenotype)
    print(f"{options or 'MRO'} seed {seed}: {genotype}", flush=True)
    scores = MaskScores(
        np.array(kept["masks"], np.uint8),
        *(np.array(kept[n]) for n in ("scores", "losses", "flops")),
    )
    return Found(genotype, scores, kept["numbers"])


def search(bench: Lab, strategy: MRO, seed: int) -> dict[str, Any]:
    """One search, as the ledger keeps it."""
    dataset, trainer = bench.dataset, SupernetTrainer(bench.evaluator, seed)
    source = RowSource(dataset, bench.evaluator.device)
    train, val = (
        RowLoader(source, rows, seed) for rows in (dataset.split.train, dataset.split.val)
    )
    for _ in range(strategy.start(None, trainer)):
        record = strategy.epoch(trainer, train, val)
    scores = strategy.scores
    assert scores is not None
    return {
        "genotype": strategy.chosen()[0].to_json(),
        "numbers": dict(record.numbers),
        **{name: array.tolist() for name, array in vars(scores).items()},
    }


def over_seeds(several: Sequence[MaskScores]) -> MaskScores:
    """The masks' mean scores over the seeds' supernets."""
    mean = np.mean([s.scores for s in several], 0)
    loss = np.mean([s.losses for s in several], 0)
    return MaskScores(several[0].masks, mean, loss, several[0].flops)


def trained(
    arguments: argparse.Namespace, bench: Lab, name: str, several: Sequence[Genotype]
) -> list[Trial]:
    """A row's networks from scratch, one a seed."""
    recipe = Recipe(lr=arguments.lr, batch_size=32, schedule="cosine")
    rows = len(bench.dataset.split.train)
    return bench.run(
        [
            Proposal(g, Fidelity(rows, arguments.epochs, s), recipe, keep=True, stage=name)
            for s, g in enumerate(several)
        ]
    )


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


def linear(dataset: Dataset, name: str) -> dict[str, Any]:
    """A logistic regression on the utterance's own features; it has no seed and no epochs."""
    middle = dataset.schema.modalities[0].focus
    names = dataset.schema.names if name == "all" else (name,)
    x = np.concatenate([np.asarray(dataset.arrays[n])[:, middle, 1:] for n in names], 1)
    train = np.concatenate([dataset.split.train, dataset.split.val])
    test, y = dataset.split.test.open(), dataset.targets
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    predictions = model.fit(x[train], y[train]).predict_proba(x[test])
    return {n: METRICS[n](y[test], predictions) for n in ("accuracy", "f1")}


if __name__ == "__main__":
    assert embrace.VERSION  # its import lets such genotypes be built
    main()
