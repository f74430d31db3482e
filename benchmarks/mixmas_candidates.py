"""MixMAS's Table I on AV-MNIST: a row per candidate of each stage, over seeds.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mixmas_candidates.py --raw RAW [--seeds 3]

One search with that many probes of each candidate, on a sample by Eq. 1. Validation accuracy after
the probe's last epoch, and which candidate each stage took: of those within the noise of the best,
the one with the fewest FLOPs.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from polymix.methods.mixmas.mixmas import MixMAS
from polymix.records import Trial
from polymix.space.mix import MixGenotype

from common import lab, last, mean_interval, parser, report, stages  # isort: skip


def candidate(trial: Trial) -> tuple[str, str]:
    """The contest, and what the candidate is called there."""
    genotype = trial.proposal.genotype
    assert isinstance(genotype, MixGenotype)
    if len(genotype.encoders) == 1:
        ((modality, block),) = genotype.encoders
        return modality, block.name
    if trial.proposal.stage == "fusion function":
        return trial.proposal.stage, str(genotype.fusion)
    return trial.proposal.stage, genotype.network.name if genotype.network else "none"


def main() -> None:
    """Search, and print the candidates."""
    options = parser(__doc__, rows=55_000)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--sample-rows", type=int, help="by Eq. 1 where not given")
    arguments = options.parse_args()
    strategy = MixMAS(
        seeds=arguments.seeds, epochs=arguments.epochs, sample_rows=arguments.sample_rows
    )
    with lab(arguments) as bench:
        trials = stages(bench, strategy, seed=0)
    rows: list[dict[str, Any]] = []
    for (contest, name), group in groupby(trials, key=candidate):
        told = list(group)
        rows.append(
            {
                "contest": contest,
                "candidate": name,
                "accuracy": mean_interval([last(t) for t in told]),
                "params": told[0].cost.params,
                "flops": told[0].cost.flops,
                "cpu_s": sum(t.cost.cpu_s for t in told) / len(told),
            }
        )
    (winner,) = strategy.derive()
    report(
        {
            "benchmark": "mixmas_candidates",
            "rows": trials[0].proposal.fidelity.rows,
            "epochs": arguments.epochs,
            "seeds": arguments.seeds,
            "candidates": rows,
            "winner": str(winner.genotype),
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
