"""BM-NAS's search against what it could have been, on AV-MNIST: Tables 6 and 7, and a rank.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/bm_nas_quality.py --raw DIR --rows 3000 [--seeds 5]

Each seed trains backbones and searches; what it finds is trained alone, as are, at the same seed
and on the same backbones: `--random` networks drawn uniformly, the found steps on random pairs, on
late fusion's pair and on the pairs that MFAS found, and the found pairs under the four fixed
fusions. All for as many epochs, with the weights of the best on validation rows; the scores are of
test rows, for the search had the validation rows to choose by. With Student's 95% interval, and the
searched network's difference to each, paired by seed: a tie where zero lies inside. Of the random
networks stand there the mean of all, and the one that is the best on validation rows.

The rank is of what was found among the random ones: 1 is the best. Entropies of α, β, γ are told
for every epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from common import Lab, lab, last, mean_interval, on_test, parser, report, task_of
from polymix import seeds
from polymix.data.batch import RowSource
from polymix.methods.bm_nas.bm_nas import BMNAS
from polymix.methods.bm_nas.fixed import (
    FUSIONS,
    late_pairs,
    mfas_pairs,
    random_pairs,
    with_fusion,
    with_pairs,
)
from polymix.methods.bm_nas.space import BMNASGenotype
from polymix.methods.mfas.mfas import MFAS
from polymix.methods.mfas.space import MFASGenotype
from polymix.records import Fidelity, Proposal, Role
from polymix.search.protocol import AskTell, Strategy
from polymix.train.supernet import RowLoader, SupernetTrainer


def main() -> None:
    """Search, train, print."""
    options = parser(__doc__, rows=3000)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--random", type=int, default=30, help="networks of the rank")
    options.add_argument("--horizon", type=int, default=20, help="epochs of a search")
    options.add_argument("--epochs", type=int, default=10, help="of a backbone, and in full")
    options.add_argument("--channels", type=int, default=64)
    arguments = options.parse_args()
    with lab(arguments) as bench:
        report(run(arguments, bench), arguments.out)


def run(arguments: argparse.Namespace, bench: Lab) -> dict[str, Any]:
    """All seeds."""
    scores: dict[str, list[float]] = {}
    found, entropies, ranks, spread = [], [], [], []
    for seed in range(arguments.seeds):
        strategy, records = search(arguments, bench, seed)
        (proposal, *_) = strategy.derive()
        genotype = proposal.genotype
        assert isinstance(genotype, BMNASGenotype)
        found.append(genotype)
        entropies.append([{n: v for n, v in r.items() if n.startswith("entropy")} for r in records])
        rivals = others(bench, arguments, strategy, genotype, seed)
        rng = seeds.stream(seed, "rank")
        drawn = [strategy.space.sample(rng) for _ in range(arguments.random)]
        trials = bench.run([full(proposal, bench, g, n) for n, g in rivals.items()])
        random = bench.run([full(proposal, bench, g, "random") for g in drawn])
        ours, *chance = on_test(bench, [trials[0], *random], thawed=False)
        best = max(range(len(random)), key=lambda i: last(random[i]))
        values = [
            *on_test(bench, trials, thawed=False),
            sum(chance) / len(chance),
            chance[best],
        ]
        names = [*rivals, "random, the mean", "random, the best by validation"]
        for name, value in zip(names, values, strict=True):
            scores.setdefault(name, []).append(value)
        ranks.append(1 + sum(value > ours for value in chance))
        spread.append({"low": min(chance), "mean": values[-2], "high": max(chance)})
        print(f"seed {seed}: {ours:.4f}, rank {ranks[-1]}, {spread[-1]}", flush=True)
    searched = scores["searched"]
    return {
        "benchmark": "bm_nas_quality",
        "rows": arguments.rows,
        "found": [g.draw().splitlines() for g in found],
        "entropies": entropies,
        "test_accuracy": {name: mean_interval(values) for name, values in scores.items()},
        "searched_minus": {
            name: compared(searched, values)
            for name, values in scores.items()
            if name != "searched"
        },
        "rank_among": arguments.random + 1,
        "ranks": ranks,
        "random_networks": spread,
        "mean_rank": mean_interval([float(rank) for rank in ranks]),
    }


def compared(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The difference, paired by seed, and what to call it."""
    made = mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    said = "win" if made["low"] > 0 else "loss" if made["high"] < 0 else "tie"
    return {**made, "called": said}


def full(proposal: Proposal, bench: Lab, genotype: BMNASGenotype, name: str) -> Proposal:
    """A genotype trained as what was found is."""
    rows = len(bench.dataset.split.train)
    fidelity = Fidelity(rows, proposal.fidelity.epochs, proposal.fidelity.seed)
    return replace(proposal, genotype=genotype, fidelity=fidelity, keep=True, stage=name)


def set_up(bench: Lab, strategy: Strategy, seed: int) -> None:
    """As the driver does, without a limit."""
    strategy.setup(task_of(bench.evaluator, seed))


def ask_all(bench: Lab, strategy: AskTell) -> None:
    """Ask and tell to the end."""
    while cohort := strategy.ask():
        strategy.tell(bench.bench.evaluate(cohort, Role.SEARCH, None))


def search(
    arguments: argparse.Namespace, bench: Lab, seed: int
) -> tuple[BMNAS, list[dict[str, float]]]:
    """One search, and what it told of its epochs."""
    strategy = BMNAS(
        horizon=arguments.horizon,
        channels=arguments.channels,
        backbone_epochs=arguments.epochs,
        full_epochs=arguments.epochs,
    )
    set_up(bench, strategy, seed)
    ask_all(bench, strategy)
    trainer = SupernetTrainer(bench.evaluator, seed)
    source, split = (
        RowSource(bench.dataset, bench.evaluator.device),
        bench.dataset.split,
    )
    train, val = RowLoader(source, split.train, seed), RowLoader(source, split.val, seed)
    horizon = strategy.start(None, trainer)
    records = [dict(strategy.epoch(trainer, train, val).numbers) for _ in range(horizon)]
    print(f"seed {seed}: {strategy.chosen()[0]}", flush=True)
    return strategy, records


def others(
    bench: Lab,
    arguments: argparse.Namespace,
    strategy: BMNAS,
    genotype: BMNASGenotype,
    seed: int,
) -> dict[str, BMNASGenotype]:
    """What the found one is compared with, itself first."""
    rng = seeds.stream(seed, "rivals")
    layers = mfas_layers(bench, arguments, strategy, seed)
    return {
        "searched": genotype,
        "random pairs": with_pairs(genotype, random_pairs(genotype, rng)),
        "late fusion's pairs": with_pairs(genotype, late_pairs(genotype)),
        "MFAS's pairs": with_pairs(genotype, mfas_pairs(genotype, layers)),
        **{f"fixed: {name}": with_fusion(genotype, name) for name in FUSIONS},
    }


def mfas_layers(
    bench: Lab, arguments: argparse.Namespace, strategy: BMNAS, seed: int
) -> list[tuple[int, ...]]:
    """The features of MFAS's best network on the same backbones."""
    mfas = MFAS(
        backbone_epochs=arguments.epochs,
        length=2,
        iterations=2,
        batch_size=strategy.batch_size,
    )
    set_up(bench, mfas, seed)
    ask_all(bench, mfas)
    best = mfas.derive()[0].genotype
    assert isinstance(best, MFASGenotype)
    return [features for features, _ in best.layers]


if __name__ == "__main__":
    main()
