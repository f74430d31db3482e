"""M2-Mixer's Table I on AV-MNIST: S, M and B, and M with the single loss.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/table_one.py --raw RAW [--rows 10000] [--seeds 3]

Validation accuracy at the last epoch (nothing is chosen), parameters and CPU seconds, over seeds.
"""

from __future__ import annotations

from typing import Any

from polymix.methods.m2_mixer.m2_mixer import genotype_on
from polymix.records import Fidelity, Proposal, Recipe

from common import lab, last, mean_interval, parser, report  # isort: skip


def main() -> None:
    """Train the configurations and print the table."""
    options = parser(__doc__, rows=10_000)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--lr", type=float, default=0.001)
    options.add_argument("--configs", default="S,M,MMixer,B")
    arguments = options.parse_args()
    recipe = Recipe(lr=arguments.lr, batch_size=64, schedule="cosine")
    rows: dict[str, dict[str, Any]] = {}
    with lab(arguments) as bench:
        for name in arguments.configs.split(","):
            genotype = genotype_on(bench.dataset.schema, name)
            trials = bench.run(
                [
                    Proposal(
                        genotype,
                        Fidelity(arguments.rows, arguments.epochs, seed),
                        recipe,
                        stage=name,
                    )
                    for seed in range(arguments.seeds)
                ]
            )
            rows[name] = {
                "accuracy": mean_interval([last(t) for t in trials]),
                "params": trials[0].cost.params,
                "flops": trials[0].cost.flops,
                "cpu_s": sum(t.cost.cpu_s for t in trials) / len(trials),
            }
    differences = {}
    if {"M", "MMixer"} <= rows.keys():
        pairs = zip(
            rows["M"]["accuracy"]["values"], rows["MMixer"]["accuracy"]["values"], strict=True
        )
        differences["multi-head minus single (M)"] = mean_interval([a - b for a, b in pairs])
    report(
        {
            "benchmark": "table_one",
            "rows": arguments.rows,
            "epochs": arguments.epochs,
            "seeds": arguments.seeds,
            "configurations": rows,
            "differences": differences,
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
