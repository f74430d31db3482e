"""M2-Mixer's Table III: what a single loss does to the encoders, and the multi-head loss does not.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/table_three.py --raw RAW [--rows 10000] [--seeds 5]

For each seed, with equal steps: each modality's encoder trained alone; both trained together with
the single loss (MMixer) and with the multi-head loss (M2-Mixer M); then the encoders of those two
frozen, and a linear head trained on each. Printed per modality, on validation rows at the last
epoch (nothing is chosen): (alone - frozen after single) - (alone - frozen after multi-head), with
its interval over seeds. The paper predicts it positive.
"""

from __future__ import annotations

from polymix.methods.m2_mixer.m2_mixer import encoders_on, genotype_on
from polymix.records import Fidelity, Proposal, Recipe
from polymix.runs.linear_probe import frozen_proposals
from polymix.space.mix import Loss, MixGenotype

from common import lab, last, mean_interval, parser, report  # isort: skip


def main() -> None:
    """Run the protocol and print the table."""
    options = parser(__doc__, rows=10_000)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--lr", type=float, default=0.001)
    options.add_argument("--config", default="M")
    arguments = options.parse_args()
    recipe = Recipe(lr=arguments.lr, batch_size=64, schedule="cosine")
    gaps: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    with lab(arguments) as bench:
        schema = bench.dataset.schema
        for seed in range(arguments.seeds):
            fidelity = Fidelity(arguments.rows, arguments.epochs, seed)
            alone = {
                name: bench.run(
                    [Proposal(MixGenotype.single(name, block), fidelity, recipe, stage="alone")]
                )[0]
                for name, block in encoders_on(schema, arguments.config).items()
            }
            frozen = {}
            for kind in ("single", "uniform"):
                genotype = genotype_on(schema, arguments.config, Loss(kind=kind))
                (fused,) = bench.run(
                    [Proposal(genotype, fidelity, recipe, keep=True, stage=f"fused {kind}")]
                )
                scores.setdefault(f"fused, {kind} loss", []).append(last(fused))
                for name, proposal in frozen_proposals(fused).items():
                    frozen[kind, name] = last(bench.run([proposal])[0])
                    scores.setdefault(f"{name} frozen, {kind} loss", []).append(frozen[kind, name])
            for name, trial in alone.items():
                scores.setdefault(f"{name} alone", []).append(last(trial))
                lost = last(trial) - frozen["single", name]
                kept = last(trial) - frozen["uniform", name]
                gaps.setdefault(name, []).append(lost - kept)
    report(
        {
            "benchmark": "table_three",
            "config": arguments.config,
            "rows": arguments.rows,
            "epochs": arguments.epochs,
            "seeds": arguments.seeds,
            "multi_head_keeps": {name: mean_interval(values) for name, values in gaps.items()},
            "scores": {name: mean_interval(values) for name, values in scores.items()},
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
