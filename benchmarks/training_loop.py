"""The training loop against a bare torch loop that does the same: CPU seconds, one run.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/training_loop.py

M2-Mixer S on audio-visual digits of AV-MNIST's shapes (random bytes: speed does not depend on
what they show), 1,000 rows x 10 epochs, batch 64, validation included. The two take turns, and
the median of the ratios is quoted. Exits 1 if it is above 1.1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TRAIN, VAL
from polymix.methods.m2_mixer.m2_mixer import genotype_on
from polymix.nn.build import build_seeded
from polymix.records import Fidelity, Recipe
from polymix.scoring.metrics import METRICS
from polymix.train.learner import SingleLearner
from polymix.train.loop import Job, Trainer
from polymix.train.objective import Objective

ROWS, VAL_ROWS, EPOCHS, BATCH, CLASSES = 1000, 1000, 10, 64, 10


def digits() -> Dataset:
    """Random rows of AV-MNIST's shapes."""
    rng = np.random.default_rng(0)
    rows = ROWS + VAL_ROWS
    schema = Schema(
        modalities=(
            Modality(name="image", kind=Kind.IMAGE, shape=(1, 28, 28), dtype="uint8"),
            Modality(name="audio", kind=Kind.AUDIO, shape=(1, 112, 112), dtype="uint8"),
        ),
        target=Target(
            name="digit", task=Task.MULTICLASS, classes=tuple(str(i) for i in range(CLASSES))
        ),
    )
    arrays = {
        m.name: rng.integers(0, 256, (rows, *m.shape), dtype=np.uint8) for m in schema.modalities
    }
    codes = np.repeat(np.array([TRAIN, VAL], np.uint8), [ROWS, VAL_ROWS])
    return Dataset.from_arrays("digits", schema, arrays, rng.integers(0, CLASSES, rows), codes)


def ours(dataset: Dataset) -> float:
    """Polymix's loop; the last epoch's accuracy."""
    model = build_seeded(genotype_on(dataset.schema, "S"), dataset.schema, 0)
    job = Job(
        source=RowSource(dataset, torch.device("cpu")),
        train=dataset.split.train,
        val=dataset.split.val,
        targets=dataset.targets[dataset.split.val],
        objective=Objective(dataset.schema),
        metric=METRICS["accuracy"],
        recipe=Recipe(batch_size=BATCH),
        fidelity=Fidelity(ROWS, EPOCHS),
        name="benchmark",
    )
    trainer = Trainer(SingleLearner(model, frozen=False), job)
    trainer.run()
    return trainer.best[0].curve[-1]


def bare(dataset: Dataset) -> float:
    """What a person would write by hand, with the same conversion, loss and validation."""
    model = build_seeded(genotype_on(dataset.schema, "S"), dataset.schema, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    raw = {n: torch.from_numpy(np.asarray(a)) for n, a in dataset.arrays.items()}
    targets = torch.from_numpy(dataset.targets)
    statistics_of = {m.name: m.statistics for m in dataset.schema.modalities}
    cross_entropy = torch.nn.functional.cross_entropy

    def convert(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs = {}
        for name, array in raw.items():
            fitted = statistics_of[name]
            assert fitted is not None
            inputs[name] = array[rows].float().sub_(fitted.mean[0]).div_(fitted.std[0])
        return inputs

    train = torch.from_numpy(dataset.split.train)
    val = torch.from_numpy(dataset.split.val)
    accuracy = 0.0
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.split(train[torch.randperm(len(train))], BATCH):
            output = model(convert(rows))
            y = targets[rows]
            losses = [cross_entropy(o, y) for o in (output.fused, *output.unimodal.values())]
            loss = torch.stack(losses).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        right, total = 0, 0.0
        with torch.no_grad():
            for rows in torch.split(val, 512):
                output = model(convert(rows))
                y = targets[rows]
                total += float(cross_entropy(output.fused, y, reduction="sum"))
                right += int((output.fused.argmax(1) == y).sum())
        accuracy = right / len(val)
    return accuracy


def main() -> int:
    """Run both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    dataset = digits()
    ours(dataset), bare(dataset)
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(arguments.runs):
        for name, loop in (("ours", ours), ("bare", bare)):
            start = time.process_time()
            loop(dataset)
            taken[name].append(time.process_time() - start)
    ratios = [a / b for a, b in zip(taken["ours"], taken["bare"], strict=True)]
    ratio = statistics.median(ratios)
    result = {
        "benchmark": "training_loop",
        "rows": ROWS,
        "epochs": EPOCHS,
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "cpu_s_ours": statistics.median(taken["ours"]),
        "cpu_s_bare": statistics.median(taken["bare"]),
        "ratio": ratio,
        "ratios": ratios,
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return int(ratio > 1.1)


if __name__ == "__main__":
    sys.exit(main())
