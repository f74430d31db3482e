"""MFAS's search: CPU seconds an architecture, with features computed once and without.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/mfas_search_cost.py --raw DIR

The same rows, candidates (drawn uniformly, so many of each length), epochs and batches, in one run,
four ways:

    together    on banked features, candidates of one length in one computation
    one by one  on banked features, each candidate alone: (a)
    re-run      the frozen backbones run on every batch, forward only, under no_grad: (b)
    products    the matrix products of `together` alone, forward and backward: a floor

The feature pass is told apart, beside one epoch of training the backbones on the same rows, and
counted in for a search of 180 architectures. (b) is measured on a few batches of each length and
scaled: on all rows it takes hours. Exits 1 if `together` is not
`--least` times as quick as (b). With `--random-rows` the rows are noise of AV-MNIST's shapes: speed
does not depend on what they show.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import report
from polymix import seeds
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TRAIN, VAL
from polymix.datasets import open_dataset
from polymix.genotype import Block
from polymix.methods.mfas.mfas import MFAS
from polymix.methods.mfas.space import MFASGenotype, MFASSpace
from polymix.nn.build import build_seeded
from polymix.records import Fidelity, Proposal, Recipe
from polymix.scoring.metrics import METRICS
from polymix.space.mix import MixGenotype
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.learner import SingleLearner
from polymix.train.objective import Objective
from polymix.train.optimizer import make_optimizer, step

DEFAULT = MFAS.model_fields
SEARCH = 180
SCHEDULE = {1: 30, 2: 45, 3: 45, 4: 45}
"""Trainings of each length in the default search; the paper's 180 count Γ_1 by its K a level."""

BACKBONES = {"image": Block.of("lenet"), "audio": Block.of("lenet")}
FEATURES = (3, 5)


def noise(rows: int, val: int) -> Dataset:
    """Random rows of AV-MNIST's shapes."""
    rng = np.random.default_rng(0)
    schema = Schema(
        modalities=(
            Modality(name="image", kind=Kind.IMAGE, shape=(1, 28, 28), dtype="uint8"),
            Modality(name="audio", kind=Kind.AUDIO, shape=(1, 112, 112), dtype="uint8"),
        ),
        target=Target(name="digit", task=Task.MULTICLASS, classes=tuple("0123456789")),
    )
    arrays = {
        m.name: rng.integers(0, 256, (rows + val, *m.shape), dtype=np.uint8)
        for m in schema.modalities
    }
    codes = np.repeat(np.array([TRAIN, VAL], np.uint8), [rows, val])
    return Dataset.from_arrays("noise", schema, arrays, rng.integers(0, 10, rows + val), codes)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of all threads."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def anonymous_memory() -> int:
    """Bytes of anonymous and shared memory at the moment (Linux)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return sum(1024 * int(x.split()[1]) for x in lines if x.startswith(("RssAnon", "RssShmem")))


class Cost:
    """Measures one dataset.

    Args:
        evaluator: of the rows.
        proposals: candidates by length.
        backbones: each alone, for one epoch.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        proposals: dict[int, list[Proposal]],
        backbones: Sequence[Proposal],
    ) -> None:
        self.evaluator, self.proposals, self.backbones = evaluator, proposals, backbones
        self.train = evaluator.dataset.split.train
        self.recipe = proposals[1][0].recipe
        self.epochs = proposals[1][0].fidelity.epochs

    def train_all(self, proposals: Sequence[Proposal], scores: dict[str, float]) -> None:
        """As the search does, validation included."""
        for group in self.evaluator.groups(proposals):
            for trial, _ in self.evaluator.run(group):
                if not trial.usable:
                    raise SystemExit(f"a trial failed: {trial.error}")
                scores[trial.key] = trial.value

    def rerun(self, proposal: Proposal, batches: int) -> float:
        """(b), of so many batches, scaled to all of them, without validation."""
        objective = Objective(self.evaluator.dataset.schema)
        model = self.evaluator.model(proposal)
        source = RowSource(self.evaluator.dataset, self.evaluator.device)
        learner = SingleLearner(model, frozen=True)
        learner.train(True)
        model.encoders.eval()
        optimizer = make_optimizer(learner.parameters(), self.recipe)
        size = self.recipe.batch_size

        def work() -> None:
            for i in range(batches):
                batch = source.batch(np.resize(np.roll(self.train, -i * size), size))
                with torch.no_grad():
                    features = model.encode(batch.inputs)  # type: ignore[arg-type]
                step(learner.losses(replace(batch, inputs=features), objective, 1).sum(), optimizer)

        return cpu(work) / (batches * size) * len(self.train) * self.epochs

    def products(self, length: int, steps: int = 30) -> float:
        """The batched matrix products of a cohort, forward and backward, one candidate's share."""
        proposals = self.proposals[length]
        model = build_seeded(proposals[0].genotype, self.evaluator.dataset.schema, 0)
        shapes = [tuple(layer.weight.shape) for layer in model.fusion]  # type: ignore[union-attr]
        count, size = len(proposals), self.recipe.batch_size
        pairs = [
            (torch.randn(count, size, i), torch.randn(count, i, o, requires_grad=True))
            for o, i in shapes
        ]
        grads = [torch.randn(count, size, o) for o, _ in shapes]

        def work() -> None:
            for _ in range(steps):
                for level, ((x, w), grad) in enumerate(zip(pairs, grads, strict=True)):
                    torch.bmm(x, w.detach())
                    torch.bmm(x.transpose(1, 2), grad)
                    if level:  # what came from the layer below gets a gradient
                        torch.bmm(grad, w.detach()[:, -grad.shape[2] :].transpose(1, 2))

        return cpu(work) / (steps * size * count) * len(self.train) * self.epochs

    def measure(self, alone: int, batches: int) -> dict[str, Any]:
        """All of it."""
        first = self.proposals[1][0]
        bank = cpu(lambda: self.evaluator._bank.source(self.evaluator.model(first)))
        epoch = cpu(lambda: self.train_all(self.backbones, {}))
        print("feature pass", round(bank, 2), "of an epoch's", round(epoch, 2), flush=True)
        lengths, apart = {}, 0.0
        for length, proposals in self.proposals.items():
            stacked: dict[str, float] = {}
            single: dict[str, float] = {}
            together = cpu(lambda p=proposals, s=stacked: self.train_all(p, s))  # type: ignore[misc]
            by_one = sum(
                cpu(lambda p=p, s=single: self.train_all([p], s))  # type: ignore[misc]
                for p in proposals[:alone]
            )
            apart = max([apart, *(abs(value - stacked[key]) for key, value in single.items())])
            share = {
                "together": together / len(proposals),
                "one_by_one": by_one / min(alone, len(proposals)),
                "rerun": self.rerun(proposals[0], batches),
                "products": self.products(length),
            }
            lengths[str(length)] = share
            print(length, {name: round(value, 4) for name, value in share.items()}, flush=True)
        mean = {n: float(np.mean([s[n] for s in lengths.values()])) for n in lengths["1"]}
        with_pass = mean["together"] + bank / SEARCH
        search = sum(lengths[str(n)]["together"] * count for n, count in SCHEDULE.items())
        return {
            "rows": len(self.train),
            "validation_rows": len(self.evaluator.dataset.split.val),
            "candidates": {str(n): len(p) for n, p in self.proposals.items()},
            "epochs": self.epochs,
            "batch_size": self.recipe.batch_size,
            "feature_pass": bank,
            "epoch_of_backbones": epoch,
            "feature_pass_to_epoch_of_backbones": bank / epoch,
            "by_length": lengths,
            "mean": mean,
            "search_of_default_schedule": search,
            "ratio_to_rerun": mean["rerun"] / mean["together"],
            "ratio_to_rerun_with_feature_pass": mean["rerun"] / with_pass,
            "ratio_to_one_by_one": mean["one_by_one"] / mean["together"],
            "ratio_to_products": mean["together"] / mean["products"],
            "score_apart_from_alone_in_rows": apart * len(self.evaluator.dataset.split.val),
            "anonymous_memory_mb": anonymous_memory() / 2**20,
        }


def candidates(space: MFASSpace, count: int, asked: Proposal) -> dict[int, list[Proposal]]:
    """So many of each length, drawn uniformly."""
    rng = seeds.stream(0, "candidates")
    found: dict[int, list[Proposal]] = {}
    for length in range(1, space.length + 1):
        drawn: dict[MFASGenotype, None] = {}
        while len(drawn) < min(count, space.count(length)):
            layers = rng.integers(len(space.unit), size=length)
            drawn[space.genotype([space.unit[int(i)] for i in layers])] = None
        found[length] = [replace(asked, genotype=g) for g in drawn]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--raw", type=Path, help="folder of AV-MNIST's raw files")
    source.add_argument("--random-rows", action="store_true", help="noise of the same shapes")
    parser.add_argument("--rows", type=int, default=55_000, help="training rows")
    parser.add_argument("--val", type=int, default=5_000, help="validation rows of noise")
    parser.add_argument("--candidates", type=int, default=15, help="of each length")
    parser.add_argument("--alone", type=int, default=2, help="of them, trained one by one")
    parser.add_argument("--batches", type=int, default=20, help="that the backbones are run on")
    parser.add_argument("--length", type=int, default=4)
    parser.add_argument("--width", type=int, default=DEFAULT["width"].default)
    parser.add_argument("--epochs", type=int, default=DEFAULT["epochs"].default)
    parser.add_argument("--least", type=float, default=300.0, help="the ratio to (b) asked for")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    if arguments.random_rows:
        dataset = noise(arguments.rows, arguments.val)
    else:
        dataset = open_dataset("avmnist", raw=arguments.raw).with_train_rows(arguments.rows, seed=0)
    fidelity = Fidelity(arguments.rows, arguments.epochs)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Ledger.open(Path(scratch) / "ledger.sqlite") as ledger,
    ):
        evaluator = Evaluator(dataset, METRICS["accuracy"], ledger, Path(scratch) / "bank")
        digests, backbones = [], []
        for name, block in BACKBONES.items():  # untrained: what they show does not matter here
            genotype = MixGenotype.single(name, block)
            state = build_seeded(genotype, dataset.schema, 0).state_dict()
            one = Proposal(genotype, replace(fidelity, epochs=1), Recipe(batch_size=128), keep=True)
            digests.append(kept(ledger, evaluator, one, state))
            backbones.append(one)
        recipe = Recipe(batch_size=128, schedule="cosine", weight_decay=1e-4, frozen=True)
        space = MFASSpace(BACKBONES, FEATURES, length=arguments.length, width=arguments.width)
        asked = Proposal(space.singles()[0], fidelity, recipe, tuple(digests))
        cost = Cost(evaluator, candidates(space, arguments.candidates, asked), backbones)
        result = cost.measure(arguments.alone, arguments.batches)
    report(result, arguments.out)
    if result["ratio_to_rerun"] < arguments.least:
        sys.exit(1)


def kept(ledger: Ledger, evaluator: Evaluator, proposal: Proposal, state: Any) -> str:
    """Put weights into the ledger as a trial's would be; their digest."""
    from polymix.records import Cost as Spent
    from polymix.records import Role, Score, Status, Trial

    trial = Trial(proposal, evaluator.key(proposal), Status.DONE, Score(0.0, 0.0, 0), Spent(1, 1))
    (stored,) = ledger.put([(trial, state)], Role.SEARCH)
    assert stored.weights is not None
    return stored.weights


if __name__ == "__main__":
    main()
