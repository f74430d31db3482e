"""What each block costs: parameters, FLOPs of a row, and the CPU time of a training step.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/blocks.py

Every encoder at its `small` preset on a 28 x 28 image and a 112 x 112 spectrogram (random values),
batch 64, forward and backward, the quickest of several steps; a Markdown table with `--markdown`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.build import build_seeded
from polymix.records import Recipe
from polymix.space.mix import MixGenotype
from polymix.train.cost import count_cost
from polymix.train.optimizer import make_optimizer, step

from common import report  # isort: skip

SHAPES = {"28 x 28": (Kind.IMAGE, (1, 28, 28)), "112 x 112": (Kind.AUDIO, (1, 112, 112))}
BATCH, STEPS = 64, 12


def measure(block: Block, kind: Kind, shape: tuple[int, ...]) -> dict[str, float]:
    """Cost of one encoder with a head of ten classes."""
    schema = Schema(
        modalities=(Modality(name="x", kind=kind, shape=shape, dtype="float32"),),
        target=Target(name="y", task=Task.MULTICLASS, classes=tuple("0123456789")),
    )
    model = build_seeded(MixGenotype.single("x", block), schema, 0)
    cost = count_cost(model, schema)
    optimizer = make_optimizer(list(model.parameters()), Recipe())
    model.train()
    x, y = torch.randn(BATCH, *shape), torch.randint(10, (BATCH,))
    taken = []
    for _ in range(STEPS):
        start = time.process_time()
        step(torch.nn.functional.cross_entropy(model({"x": x}).fused, y), optimizer)
        taken.append(time.process_time() - start)
    return {"params": cost.params, "flops": cost.flops, "cpu_ms": 1000 * min(taken[2:])}


def main() -> None:
    """Measure every encoder and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", default="small")
    options.add_argument("--markdown", action="store_true")
    options.add_argument("--out", type=Path)
    arguments = options.parse_args()
    rows = {
        name: {
            where: measure(Block.of(name, arguments.preset), kind, shape)
            for where, (kind, shape) in SHAPES.items()
            if kind in catalog.encoder_class(name).kinds
        }
        for name in catalog.encoder_names()
    }
    if arguments.markdown:
        print("| encoder | input | parameters | MFLOPs a row | CPU ms a step of 64 |")
        print("|---|---|---:|---:|---:|")
        for name, measured in rows.items():
            for where, cost in measured.items():
                print(
                    f"| {name} | {where} | {cost['params']:,} | {cost['flops'] / 1e6:.2f} "
                    f"| {cost['cpu_ms']:.0f} |"
                )
    report({"benchmark": "blocks", "preset": arguments.preset, "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
