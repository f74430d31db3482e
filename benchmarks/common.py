"""What the benchmarks share: rows, an evaluator over a ledger, and the result file.

Trials go through a ledger, as everywhere: a benchmark that was stopped goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.datasets import open_dataset
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.records import Proposal, Role, Trial
from polymix.scoring.intervals import Referee, spread
from polymix.scoring.metrics import metric_for
from polymix.search.callbacks import Callback
from polymix.search.clock import Clock
from polymix.search.protocol import SearchTask
from polymix.search.trial_runner import LocalRunner, TrialRunner
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator


class Says(Callback):
    """A line a trial."""

    def on_trial_end(self, trial: Trial, role: Role, fresh: bool) -> None:  # noqa: ARG002
        """A trial ended."""
        print(
            f"{trial.value:.4f} {trial.proposal.stage:<16} seed {trial.proposal.fidelity.seed} "
            f"{trial.proposal.genotype} {trial.cost.cpu_s:.1f} CPU s {trial.error or ''}",
            flush=True,
        )


@dataclass
class Lab:
    """An evaluator over a ledger."""

    dataset: Dataset
    evaluator: Evaluator
    ledger: Ledger
    bench: TrialRunner

    def run(self, proposals: Sequence[Proposal]) -> list[Trial]:
        """The proposals' trials."""
        trials: list[Trial] = []
        for proposal in proposals:
            trials += self.bench.evaluate([proposal], Role.SEARCH, None)
        failed = [t.error for t in trials if not t.usable]
        if failed:
            raise SystemExit(f"a trial failed: {failed[0]}")
        return trials


def task_of(evaluator: Evaluator, seed: int) -> SearchTask:
    """What a strategy is told, without a budget."""
    return SearchTask(
        schema=evaluator.dataset.schema,
        rows=len(evaluator.dataset.split.train),
        seed=seed,
        metric=evaluator.metric.name,
        seconds=None,
        trials=None,
        cost=evaluator.cost,
        difference=Referee(evaluator.metric, evaluator.val_targets).difference,
        predict=lambda _: 0.0,
    )


def stages(lab: Lab, strategy: MixMAS, seed: int) -> list[Trial]:
    """Run MixMAS's stages as the driver does, without a clock; `strategy` then knows its winner."""
    strategy.setup(task_of(lab.evaluator, seed))
    trials: list[Trial] = []
    while cohort := list(strategy.ask()):
        told = lab.run(cohort)
        strategy.tell(told)
        trials += told
    return trials


def parser(doc: str | None, rows: int) -> argparse.ArgumentParser:
    """Options that all have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--raw", type=Path, required=True, help="folder of AV-MNIST's raw files")
    made.add_argument("--rows", type=int, default=rows, help="training rows")
    made.add_argument("--ledger", type=Path, help="goes on where another call stopped")
    made.add_argument("--out", type=Path, help="write the result as JSON")
    return made


@contextmanager
def lab(arguments: argparse.Namespace) -> Iterator[Lab]:
    """Open AV-MNIST, cut to `--rows`, and a ledger beside it."""
    dataset = open_dataset("avmnist", raw=arguments.raw).with_train_rows(arguments.rows, seed=0)
    with lab_on(dataset, arguments.ledger) as made:
        yield made


@contextmanager
def lab_on(dataset: Dataset, ledger_path: Path | None) -> Iterator[Lab]:
    """A lab on any dataset, and a ledger beside it unless one is given."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        where = ledger_path or Path(scratch) / "ledger.sqlite"
        with Ledger.open(where) as ledger:
            metric = metric_for(dataset.schema.target.task)
            evaluator = Evaluator(dataset, metric, ledger, Path(scratch) / "bank")
            clock = Clock(ledger, None)
            runner = LocalRunner(evaluator)
            bench = TrialRunner(evaluator, runner, ledger, clock, [Says()], lambda _: 0.0)
            yield Lab(dataset, evaluator, ledger, bench)


@torch.no_grad()
def on_test(bench: Lab, trials: Sequence[Trial], *, thawed: bool) -> list[float]:
    """Test accuracy of each; backbones that stayed as they were are run once for all.

    Nothing may be chosen from here on.
    """
    rows = bench.dataset.split.test.open()
    models = [bench.evaluator.trained(trial) for trial in trials]
    source = RowSource(bench.dataset, bench.evaluator.device)
    found = []
    for start in range(0, len(rows), 32):
        batch = source.batch(rows[start : start + 32])
        inputs: Any = batch.inputs
        shared = None if thawed else models[0].encode(inputs)
        outputs = [m.fuse(m.encode(inputs) if thawed else shared, batch.present) for m in models]  # type: ignore[arg-type]
        found.append(torch.stack([o.fused.argmax(1) for o in outputs]).cpu())
    right = torch.cat(found, 1).numpy() == bench.dataset.targets[rows]
    return [float(share) for share in right.mean(1)]


def last(trial: Trial) -> float:
    """The score after the last epoch: no epoch was chosen for it."""
    return trial.curve[-1]


def mean_interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean over seeds, with Student's 95% interval."""
    mean = sum(values) / len(values)
    half = spread([values])
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": list(values)}


def report(result: dict[str, Any], out: Path | None) -> None:
    """Print the result, and write it where asked."""
    result = {
        **result,
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(result, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
