"""A run from its start, or from where it stood, to a finished folder."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
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
from polymix.methods.strategies import make_strategy
from polymix.records import Budget, Trial
from polymix.runs.config import RunConfig
from polymix.runs.devices import check_device
from polymix.runs.evaluator import evaluator_of
from polymix.runs.leaderboard import metrics_json
from polymix.runs.request import RunPlan
from polymix.runs.run_data import data_key
from polymix.runs.run_log import run_log
from polymix.scoring.calibration import calibration, fit_decision
from polymix.search.callbacks import Callback
from polymix.search.driver import Driver, Outcome
from polymix.search.protocol import Strategy
from polymix.search.trial_runner import LocalRunner, Runner
from polymix.search.workers import ProcessRunner
from polymix.store.files import to_json
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
        ledger: the address of a ledger outside of the folder, secrets included.
    """

    folder: RunFolder
    config: RunConfig
    dataset: Dataset
    strategy: Strategy
    callbacks: Sequence[Callback] = ()
    raise_errors: bool = False
    ledger: str | None = None

    @classmethod
    def start(cls, plan: RunPlan, callbacks: Sequence[Callback] = ()) -> Session:
        """Begin a run in a new folder.

        Raises:
            RunFolderError: the folder exists.
        """
        assert plan.path is not None  # no dry run
        folder = RunFolder.create(
            plan.path,
            plan.config.model_dump(mode="json"),
            plan.dataset.schema,
            describe_run(plan.config, plan.dataset),
            files_of_table(plan.dataset),
        )
        work = plan.config, plan.dataset, plan.strategy
        return cls(folder, *work, callbacks, plan.raise_errors, plan.ledger)

    @classmethod
    def resume(
        cls,
        folder: RunFolder,
        dataset: Dataset,
        strategy: Strategy | None = None,
        callbacks: Sequence[Callback] = (),
        ledger: str | None = None,
    ) -> Session:
        """Go on with a run.

        Args:
            folder: open for writing.
            dataset: the run's, as `open_own` gives them.
            strategy: in place of the configuration's, for one that has no name.
            callbacks: watch.
            ledger: its address, where it lies outside of the folder.

        Raises:
            UsageError: the device or the strategy cannot be used here.
        """
        config = RunConfig.of(folder)
        check_device(config.device)
        strategy = strategy or make_strategy(config.strategy, config.options)
        return cls(folder, config, dataset, strategy, callbacks, ledger=ledger)

    def run(self) -> Outcome:
        """Search to the end; the folder holds a usable model as soon as there is one."""
        config = self.config
        before = torch.get_num_threads()
        torch.set_num_threads(config.threads)
        try:
            with (
                run_log(self.folder.path),
                Ledger.open(
                    self.ledger or self.folder.ledger_path, config.reuse, run=self.folder.run
                ) as ledger,
            ):
                evaluator = evaluator_of(
                    config, self.dataset, ledger, self.folder.path, raise_errors=self.raise_errors
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
                    combiner=GreedyEnsemble() if _combines(config) else None,
                    refit=config.source.table is not None and not config.no_refit,
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
            ledger=self.ledger or self.folder.ledger_path,
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
        model = evaluator.trained(shipped)
        weights = {name: t.detach().cpu() for name, t in model.state_dict().items()}
        self.folder.finish_model(shipped.proposal.genotype.to_json(), weights, metrics)


def _combines(config: RunConfig) -> bool:
    """Whether an ensemble is tried: where it is asked for, and on tables."""
    return not config.single and (config.ensemble or config.source.table is not None)


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


def validation_predictions(trial: Trial) -> np.ndarray:
    """A scored trial's predictions of the validation rows."""
    assert trial.predictions is not None
    return trial.predictions


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
        "config": hashlib.sha256(to_json(config.model_dump(mode="json"))).hexdigest()[:16],
    }
