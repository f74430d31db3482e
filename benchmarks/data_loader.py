"""Our loop against a loop over a `DataLoader` that converts sample by sample: CPU seconds.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/data_loader.py

One epoch of M2-Mixer S and of M, and one HyperMixer micro-benchmark (10 epochs, one modality), on
random bytes of AV-MNIST's shapes, batch 64, validation included. The two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.genotype import Block
from polymix.methods.m2_mixer.m2_mixer import genotype_on
from polymix.nn.build import build_seeded
from polymix.records import Fidelity, Recipe
from polymix.scoring.metrics import METRICS
from polymix.space.mix import MixGenotype
from polymix.train.learner import SingleLearner
from polymix.train.loop import Job, Trainer
from polymix.train.objective import Objective

from common import report  # isort: skip
from training_loop import BATCH, ROWS, digits  # isort: skip

Sample = tuple[dict[str, torch.Tensor], int]


class PerSample(TorchDataset[Sample]):
    """What a person would write: one row at a time, converted to float as it is read."""

    def __init__(self, dataset: Dataset, rows: np.ndarray, names: list[str]) -> None:
        self.dataset, self.rows, self.names = dataset, rows, names

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        inputs = {}
        for name in self.names:
            fitted = self.dataset.schema[name].statistics
            assert fitted is not None
            x = torch.from_numpy(np.asarray(self.dataset.arrays[name][row])).float()
            inputs[name] = (x - fitted.mean[0]) / fitted.std[0]
        return inputs, int(self.dataset.targets[row])


def ours(dataset: Dataset, genotype: MixGenotype, epochs: int) -> None:
    """Polymix's loop."""
    names = [name for name, _ in genotype.encoders]
    job = Job(
        source=RowSource(dataset, torch.device("cpu"), names),
        train=dataset.split.train,
        val=dataset.split.val,
        targets=dataset.targets[dataset.split.val],
        objective=Objective(dataset.schema),
        metric=METRICS["accuracy"],
        recipe=Recipe(batch_size=BATCH),
        fidelity=Fidelity(ROWS, epochs),
        name="benchmark",
    )
    Trainer(SingleLearner(build_seeded(genotype, dataset.schema, 0), frozen=False), job).run()


def loader(dataset: Dataset, genotype: MixGenotype, epochs: int) -> None:
    """The usual loop."""
    names = [name for name, _ in genotype.encoders]
    model = build_seeded(genotype, dataset.schema, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train = DataLoader(
        PerSample(dataset, dataset.split.train, names), batch_size=BATCH, shuffle=True
    )
    val = DataLoader(PerSample(dataset, dataset.split.val, names), batch_size=BATCH)
    cross_entropy = torch.nn.functional.cross_entropy
    for _ in range(epochs):
        model.train()
        for inputs, y in train:
            output = model(inputs)
            losses = [cross_entropy(o, y) for o in (output.fused, *output.unimodal.values())]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        with torch.no_grad():
            sum(int((model(inputs).fused.argmax(1) == y).sum()) for inputs, y in val)


def main() -> None:
    """Run both in turn and print the ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--out", type=Path)
    arguments = options.parse_args()
    dataset = digits()
    cases = {
        "M2-Mixer S, one epoch": (genotype_on(dataset.schema, "S"), 1),
        "M2-Mixer M, one epoch": (genotype_on(dataset.schema, "M"), 1),
        "HyperMixer micro-benchmark": (
            MixGenotype.single("audio", Block.of("hyper-mixer")),
            10,
        ),
    }
    rows = {}
    for name, (genotype, epochs) in cases.items():
        taken: dict[str, list[float]] = {"ours": [], "loader": []}
        for turn in range(arguments.runs + 1):
            for kind, loop in (("ours", ours), ("loader", loader)):
                start = time.process_time()
                loop(dataset, genotype, epochs)
                if turn:
                    taken[kind].append(time.process_time() - start)
        ratios = [a / b for a, b in zip(taken["ours"], taken["loader"], strict=True)]
        rows[name] = {
            "cpu_s_ours": statistics.median(taken["ours"]),
            "cpu_s_loader": statistics.median(taken["loader"]),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
        }
    report({"benchmark": "data_loader", "rows": ROWS, "cases": rows}, arguments.out)


if __name__ == "__main__":
    main()
