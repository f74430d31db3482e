"""Successive halving against full probes: does MixMAS choose the same, and at what cost?

    OMP_WAIT_POLICY=PASSIVE python benchmarks/halving.py --raw RAW [--seeds 5]

Each seed searches twice, with and without `halving`, on the same sample. A winner other than the
full search's is trained as long as its winner was, at the same seed, and the difference of their
validation accuracies is printed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polymix.methods.mixmas.mixmas import MixMAS

from common import lab, last, parser, report, stages  # isort: skip


def main() -> None:
    """Search twice a seed, and print what both chose."""
    options = parser(__doc__, rows=55_000)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--sample-rows", type=int, default=2_000)
    arguments = options.parse_args()
    found: list[dict[str, Any]] = []
    with lab(arguments) as bench:
        for seed in range(arguments.seeds):
            row: dict[str, Any] = {"seed": seed}
            chosen = {}
            for halving in (False, True):
                strategy = MixMAS(
                    halving=halving, epochs=arguments.epochs, sample_rows=arguments.sample_rows
                )
                trials = stages(bench, strategy, seed)
                (winner,) = strategy.derive()
                probe = replace(trials[0].proposal, init=(), keep=False, stage="winner")
                fidelity = replace(probe.fidelity, epochs=arguments.epochs)
                chosen[halving] = replace(probe, genotype=winner.genotype, fidelity=fidelity)
                name = "halving" if halving else "full"
                row[name] = str(winner.genotype)
                row[f"{name}_epochs"] = sum(t.proposal.fidelity.epochs for t in trials)
                row[f"{name}_cpu_s"] = sum(t.cost.cpu_s for t in trials)
            row["same"] = chosen[True].genotype == chosen[False].genotype
            row["cost_ratio"] = row["halving_cpu_s"] / row["full_cpu_s"]
            full, halved = bench.run([chosen[False], chosen[True]])
            row["difference"] = last(halved) - last(full)
            found.append(row)
    report(
        {
            "benchmark": "halving",
            "sample_rows": arguments.sample_rows,
            "epochs": arguments.epochs,
            "same_winner": sum(row["same"] for row in found),
            "cost_ratio": sum(row["cost_ratio"] for row in found) / len(found),
            "seeds": found,
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
