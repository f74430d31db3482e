"""One epoch of BM-NAS's search: CPU seconds on banked features, and with the backbone run again.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/bm_nas_epoch.py --raw DIR

The same rows, supernet (N 2, M 2, C 128, L 8) and batches of 96, in one run, two ways:

    banked      features from the bank, as the search does it
    re-run      a VGG-19-sized image backbone run forward and backward at every step, though its
                weights stay as they are: what the public code does

The image is brought to the backbone's 224 x 224. Its last stages take the place of the image's
features; the sound's are its backbone's, banked in both. (re-run) is measured on a few steps and
scaled to the epoch's rows. Exits 1 if banked is not `--least` times as quick. The feature pass,
made once for a whole search, is told apart.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from common import report, task_of
from polymix.data.batch import RowSource
from polymix.datasets import open_dataset
from polymix.methods.bm_nas.bm_nas import BMNAS
from polymix.methods.bm_nas.model import Standardize
from polymix.nn.tokens import Tokens, flatten_grid
from polymix.scoring.metrics import METRICS
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.supernet import RowLoader, SupernetTrainer

VGG_19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each stage (Simonyan and Zisserman 2015, configuration E)."""


class VGG19(nn.Module):
    """The convolutions of VGG-19, in their sizes; what they know does not matter here."""

    def __init__(self) -> None:
        super().__init__()
        depth, stages = 3, []
        for channels, count in VGG_19:
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += [nn.Conv2d(depth, channels, 3, padding=1), nn.ReLU()]
                depth = channels
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tokens]:
        """`(B, 1, H, W)` to each stage's map."""
        x = functional.interpolate(x, (224, 224)).expand(-1, 3, -1, -1)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(flatten_grid(x))
        return found


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of all threads."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", type=Path, required=True, help="folder of AV-MNIST's raw files")
    parser.add_argument("--rows", type=int, default=1920, help="training rows of the epoch")
    parser.add_argument("--val", type=int, default=480, help="validation rows of the epoch")
    parser.add_argument("--steps", type=int, default=4, help="that the backbone is run at")
    parser.add_argument("--size", type=int, default=24, help="rows of each of them")
    parser.add_argument("--repeats", type=int, default=3, help="banked epochs; their mean counts")
    parser.add_argument("--least", type=float, default=100.0, help="the ratio asked for")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    dataset = open_dataset("avmnist", raw=arguments.raw).with_train_rows(arguments.rows, seed=0)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Ledger.open(Path(scratch) / "ledger.sqlite") as ledger,
    ):
        evaluator = Evaluator(dataset, METRICS["accuracy"], ledger, Path(scratch) / "bank")
        strategy = BMNAS(
            backbones={"image": "lenet", "audio": "lenet"},
            cells=2,
            steps=2,
            channels=128,
            length=8,
            batch_size=96,
            horizon=arguments.repeats + 1,
            warmup=0.0,
        )
        strategy.setup(task_of(evaluator, 0))
        trainer = SupernetTrainer(evaluator, 0)
        source = RowSource(dataset, evaluator.device)
        train = RowLoader(source, dataset.split.train, 0)
        val = RowLoader(source, dataset.split.val[: arguments.val], 0)
        feature_pass = cpu(lambda: strategy.start(None, trainer))
        strategy.epoch(trainer, train, val)  # warms up
        banked = cpu(
            lambda: [strategy.epoch(trainer, train, val) for _ in range(arguments.repeats)]
        )
        banked /= arguments.repeats
        passes = math.ceil(len(train) / 96) + math.ceil(len(val) / 96)
        step = rerun(strategy, trainer, train, arguments.steps, arguments.size)
    result = {
        "benchmark": "bm_nas_epoch",
        "rows": len(train),
        "validation_rows": len(val),
        "feature_pass": feature_pass,
        "banked_epoch": banked,
        "rerun_row": step,
        "rerun_epoch": step * (len(train) + len(val)),
        "rerun_measured_rows": arguments.steps * arguments.size,
        "steps_an_epoch": passes,
        "ratio": step * (len(train) + len(val)) / banked,
        "ratio_with_feature_pass": step * (len(train) + len(val)) / (banked + feature_pass),
    }
    report(result, arguments.out)
    if result["ratio"] < arguments.least:
        sys.exit(1)


def rerun(
    strategy: BMNAS, trainer: SupernetTrainer, train: RowLoader, steps: int, size: int
) -> float:
    """CPU seconds a row of steps with the backbone, forward and backward."""
    vgg, net = VGG19(), strategy.supernet
    widths = image_widths(strategy)
    narrow = [
        nn.Linear(c, width) for (c, _), width in zip(VGG_19[-len(widths) :], widths, strict=True)
    ]
    optimizer = torch.optim.Adam(net.weights(), 1e-3)
    raw = train.shuffled(size, 0)
    banked = train.over(strategy.source).shuffled(size, 0)

    def work() -> None:
        net.train()
        for _ in range(steps):
            rows, batch = next(raw), next(banked)
            image = rows.inputs["image"]
            assert isinstance(image, Tensor)
            maps = vgg(image)
            features = dict(batch.inputs)
            pool = net.pool
            assert pool is not None
            features["image"] = [
                Tokens(linear(pool(tokens).x))
                for linear, tokens in zip(narrow, maps[-len(widths) :], strict=True)
            ]
            output = net.fuse(features, batch.present)  # type: ignore[arg-type]
            assert batch.target is not None
            loss = trainer.objective(output, batch.target, batch.present, (1.0, {}))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return cpu(work) / (steps * size)


def image_widths(strategy: BMNAS) -> list[int]:
    """Channels of the image's features, as the supernet reads them."""
    layers = strategy.supernet.standards["image"]
    assert isinstance(layers, nn.ModuleList)
    return [len(layer.mean) for layer in layers if isinstance(layer, Standardize)]


if __name__ == "__main__":
    main()
