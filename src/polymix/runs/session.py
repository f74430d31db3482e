"""A run from its start, or from where it stood, to a finished folder."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymix.comparators.ensemble.ensemble import GreedyEnsemble
from polymix.comparators.standard import STANDARD
from polymix.data.dataset import Dataset
from polymix.data.schema import Schema
from polymix.datasets.own_table import files_of_table
from polymix.errors import DataError, RunFolderError, UsageError
from polymix.methods.strategies import make_strategy
from polymix.nn.model import load_matching
from polymix.records import Budget, Role, Trial
from polymix.runs.config import RunConfig
from polymix.runs.leaderboard import metrics_json
from polymix.runs.run_log import run_log
from polymix.scoring.calibration import calibration, fit_decision
from polymix.scoring.metrics import metric_for
from polymix.search.callbacks import Callback
from polymix.search.driver import Driver, Outcome
from polymix.search.protocol import Strategy
from polymix.search.trial_runner import LocalRunner, Runner
from polymix.search.workers import ProcessRunner
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
from polymix.train.evaluate import Evaluator
from polymix.version import __version__


@dataclass
class Session:
    """One process's work on a run folder.

    Attributes:
        folder: open for writing.
        config: of the run.
        dataset: the rows, cut to `config.source.rows`.
        strategy: set up from the configuration, or given.
        callbacks: watch.
        raise_errors: raise what a candidate raises; all is trained in this process, then.
    """

    folder: RunFolder
    config: RunConfig
    dataset: Dataset
    strategy: Strategy
    callbacks: Sequence[Callback] = ()
    raise_errors: bool = False

    @classmethod
    def start(
        cls,
        path: Path,
        config: RunConfig,
        dataset: Dataset,
        strategy: Strategy | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Session:
        """Begin a run in a new folder.

        Raises:
            RunFolderError: the folder exists.
            PolymixError: the configuration cannot be used on these data.
        """
        strategy = strategy or make_strategy(config.strategy, config.options)
        check_device(config.device)
        folder = RunFolder.create(
            path,
            config.model_dump(mode="json"),
            dataset.schema,
            describe_run(config, dataset),
            files_of_table(dataset),
        )
        return cls(folder, config, dataset, strategy, callbacks)

    @classmethod
    def resume(
        cls,
        folder: RunFolder,
        dataset: Dataset,
        strategy: Strategy | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Session:
        """Go on with a run.

        Args:
            folder: open for writing.
            dataset: the run's, already cut to its rows.
            strategy: in place of the configuration's, for one that has no name.
            callbacks: watch.

        Raises:
            RunFolderError: the folder belongs to other data.
        """
        config = RunConfig.of(folder)
        check_data(folder, dataset)
        check_device(config.device)
        strategy = strategy or make_strategy(config.strategy, config.options)
        return cls(folder, config, dataset, strategy, callbacks)

    def run(self) -> Outcome:
        """Search to the end; the folder holds a usable model as soon as there is one."""
        config = self.config
        before = torch.get_num_threads()
        torch.set_num_threads(config.threads)
        try:
            with (
                run_log(self.folder.path),
                Ledger.open(config.ledger or self.folder.ledger_path, config.reuse) as ledger,
            ):
                evaluator = Evaluator(
                    dataset=self.dataset,
                    metric=metric_for(self.dataset.schema.target.task, config.metric),
                    memory=ledger,
                    bank=self.folder.path / "bank",
                    device=torch.device(config.device),
                    raise_errors=self.raise_errors,
                )
                driver = Driver(
                    evaluator=evaluator,
                    runner=self._runner(evaluator),
                    ledger=ledger,
                    strategy=self.strategy,
                    budget=Budget(config.time_limit, config.trials),
                    seed=config.seed,
                    compare=config.compare,
                    comparators=STANDARD,
                    combiner=GreedyEnsemble() if config.ensemble else None,
                    refit=config.refit and config.source.table is not None,
                    callbacks=self.callbacks,
                    publish=lambda outcome: self._publish(outcome, evaluator),
                )
                outcome = driver.run()
                self._publish(outcome, evaluator)
                self.folder.update_description(
                    status="finished",
                    searched={"strategy": config.strategy, "why": list(self.strategy.reasons())},
                    used_seconds=round(ledger.used_seconds(), 3),
                    cpu_seconds=round(ledger.spent_cpu_s(), 3),
                )
                return outcome
        finally:
            torch.set_num_threads(before)

    def _runner(self, evaluator: Evaluator) -> Runner:
        if self.config.jobs == 1 or self.raise_errors:
            return LocalRunner(evaluator)
        return ProcessRunner(
            evaluator,
            jobs=self.config.jobs,
            threads=self.config.threads,
            ledger=self.config.ledger or self.folder.ledger_path,
        )

    def _publish(self, outcome: Outcome, evaluator: Evaluator) -> None:
        """Write the best model so far, if it is another than the one that is there."""
        chosen = outcome.standings.chosen
        shipped = outcome.refitted or chosen
        if chosen is None or shipped is None or shipped.weights is None:
            return
        metrics = metrics_json(outcome, self.config.metric)
        schema = served_schema(evaluator, chosen)
        metrics["schema"] = schema.model_dump(mode="json")
        metrics["calibration"] = calibration(
            schema.target.decision,
            _scored_targets(evaluator, chosen),
            validation_predictions(chosen),
        )
        metrics["decisions"] = _decisions(outcome, evaluator)
        model = evaluator.trained(shipped)
        weights = {name: t.detach().cpu() for name, t in model.state_dict().items()}
        self.folder.finish_model(shipped.proposal.genotype.to_json(), weights, metrics)


def served_schema(evaluator: Evaluator, trial: Trial) -> Schema:
    """The schema that a trial's model was built on, with what was decided for that model."""
    schema = evaluator.schema_for(trial.proposal.recipe)
    targets = _scored_targets(evaluator, trial)
    decision = fit_decision(schema.target, targets, validation_predictions(trial))
    target = schema.target.model_copy(update={"decision": decision})
    return schema.model_copy(update={"target": target})


def _scored_targets(evaluator: Evaluator, trial: Trial) -> np.ndarray:
    """Targets of the rows that scored a trial."""
    return evaluator.scored_targets(trial.proposal.fidelity.folds)


def _decisions(outcome: Outcome, evaluator: Evaluator) -> dict[str, Any]:
    """What was decided for each model of one modality, by its trial's key.

    It is asked again on rows that are not the run's, where nothing may be fitted.
    """
    return {
        trial.key: decision.model_dump(mode="json")
        for row in outcome.standings.rows
        if Role.SINGLE in row.finalist.roles
        for trial in row.finalist.trials
        if trial.predictions is not None
        if (decision := served_schema(evaluator, trial).target.decision) is not None
    }


def validation_predictions(trial: Trial) -> np.ndarray:
    """A scored trial's predictions of the validation rows."""
    assert trial.predictions is not None
    return trial.predictions


def check_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        UsageError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); try cpu") from None
    return device


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_threads(jobs: int) -> int:
    """Threads of each of `jobs` processes, all processors together."""
    return max(1, len(os.sched_getaffinity(0)) // jobs if hasattr(os, "sched_getaffinity")
               else (os.cpu_count() or 1) // jobs)  # fmt: skip


def data_key(dataset: Dataset) -> dict[str, Any]:
    """What stands for a run's rows."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split": dataset.split.fingerprint,
        "train": len(dataset.split.train),
        "val": len(dataset.split.val),
        "test": len(dataset.split.test),
    }


def describe_run(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """What `description.json` says at the start."""
    return {
        "status": "running",
        "seed": config.seed,
        "data": data_key(dataset),
        "versions": {
            "polymix": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "device": config.device,
            "executable": Path(sys.executable).name,
        },
        "used_seconds": 0.0,
        "config": hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16],
    }


def check_data(folder: RunFolder, dataset: Dataset) -> None:
    """Make sure that a run folder's data are these.

    Raises:
        RunFolderError: they are not.
    """
    there = folder.description.get("data")
    here = data_key(dataset)
    if not isinstance(there, Mapping) or dict(there) != here:
        shown = dict(there) if isinstance(there, Mapping) else there
        raise RunFolderError(
            f"{folder.path} belongs to other data: it was made on {shown}, these are {here}. "
            "Bring back the data it was made on, or start a new run with --run-dir"
        )


def check_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load weights that must fit whole.

    Raises:
        RunFolderError: a tensor is missing, too many, or of another shape.
    """
    own = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    theirs = {name: tuple(t.shape) for name, t in weights.items()}
    if own != theirs:
        wrong = sorted(
            name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name)
        )
        raise RunFolderError(
            f"{path}: the weights are not this genotype's: "
            + ", ".join(f"{n} {theirs.get(n)} for {own.get(n)}" for n in wrong[:3])
        )
    load_matching(model, weights)


__all__ = [
    "DataError",
    "Session",
    "check_data",
    "check_device",
    "check_weights",
    "data_key",
    "default_device",
    "default_threads",
]
