"""What is asked of a run, checked as one: every problem is told, and nothing is written before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from polymix import plugins
from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.datasets import Progress, open_dataset
from polymix.datasets.own_table import TableOptions, open_table_dataset
from polymix.errors import UsageError
from polymix.runs.checks import (
    check_metric,
    check_names,
    check_numbers,
    check_source,
    device_of,
    ledger_of,
    seconds_of,
    strategy_of,
)
from polymix.runs.config import RunConfig, SourceConfig
from polymix.runs.paths import free_path
from polymix.runs.preflight import check_setup
from polymix.runs.problems import Problems
from polymix.runs.run_data import reopen_table
from polymix.runs.session import default_threads
from polymix.runs.table_options import column_types_of, is_table, table_options
from polymix.scoring.metrics import metric_for
from polymix.search.protocol import Strategy


@dataclass(frozen=True)
class RunPlan:
    """What will run: everything resolved.

    Attributes:
        config: of the run.
        dataset: the rows, cut to those asked for.
        strategy: with its options.
    """

    config: RunConfig
    dataset: Dataset
    strategy: Strategy


@dataclass(frozen=True)
class Request:
    """What is asked of a run, before any of it is checked; `Predictor.fit` describes it.

    Attributes:
        data: a dataset's name, a table's file, a `DataFrame`, or a `Dataset`.
        label: what the target must be called; a table's target column.
        metric: what to maximise; the task's own where not given.
        device: the best there is where not given.
        jobs: how many processes train.
        time_limit: seconds, or text such as "10m".
        trials: how many.
        strategy: its name, or an object; `auto` for a table and `mixmas` for a dataset where not
            given.
        options: of a strategy given by name.
        data_options: of a dataset given by name.
        rows: training rows to use.
        raw: folder of the dataset's raw files.
        table: how a table is read; see `TableOptions`, whose target is the label.
        seed: of everything.
        compare: how much random search gets.
        reuse: run folders whose trials may be taken over.
        ledger: a database's URL.
        class_weights: `balanced`, or none.
        ensemble: whether a weighted mean of the finalists is a finalist too.
        tuning: a table of the rows that validate, where the data are a table.
        problem: what kind of prediction it is; found in the target where not given.
        raise_errors: whether to raise what a candidate raises.
    """

    data: str | Path | pd.DataFrame | Dataset
    label: str | None = None
    metric: str | None = None
    device: str | None = None
    jobs: int = 1
    time_limit: float | str | None = None
    trials: int | None = None
    strategy: str | Strategy | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None
    raw: str | Path | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    compare: str = "fifth"
    reuse: Sequence[str | Path] = ()
    ledger: str | None = None
    class_weights: str | None = None
    ensemble: bool = False
    tuning: str | Path | pd.DataFrame | None = None
    problem: str | None = None
    raise_errors: bool = False

    @property
    def name(self) -> str:
        """The data's name."""
        if is_table(self.data):
            return "table" if isinstance(self.data, pd.DataFrame) else Path(self.data).stem
        return self.data.name if isinstance(self.data, Dataset) else str(self.data)

    def check(self, problems: Problems) -> None:
        """All that can be said before the data are opened."""
        checks = (
            self._check_source, self._check_numbers, self._check_names, self._seconds,
            self._strategy, self._device, self._reused,
        )  # fmt: skip
        for check in checks:
            with problems.caught():
                check()

    def place(self, path: Path | None, problems: Problems | None = None) -> Path:
        """A free folder for the run, once all that can be said before the data are opened is fine.

        Args:
            path: the folder asked for; a new one under `runs/` where not given.
            problems: what is wrong already.

        Raises:
            PolymixError: something cannot be used; every problem is listed.
        """
        problems = Problems() if problems is None else problems
        self.check(problems)
        with problems.caught():
            found = free_path(path, self.name)
        problems.raise_any()
        return found

    def resolve(self, progress: Progress | None = None) -> RunPlan:
        """Open the data, and check everything.

        Args:
            progress: called as `progress(done, total, what)` while a dataset is built.

        Raises:
            PolymixError: something cannot be used; every problem is listed.
        """
        problems = Problems()
        self.check(problems)
        problems.raise_any()
        dataset = self._open(progress)
        target = dataset.schema.target
        metric = metric_for(target.task)
        with problems.caught():
            if not is_table(self.data) and self.label is not None and self.label != target.name:
                raise UsageError(
                    f"the label of '{dataset.name}' is '{target.name}', not '{self.label}'"
                )
        with problems.caught():
            if self.problem is not None and self.problem != target.task:
                raise UsageError(
                    f"the target of '{dataset.name}' is {target.task}, not {self.problem}"
                )
        with problems.caught():
            metric = metric_for(target.task, self.metric)
        with problems.caught():
            if self.rows is not None:
                dataset = dataset.with_train_rows(self.rows, seed=0)
        with problems.caught():
            if self.class_weights is not None:
                dataset = dataset.with_balanced_classes()
        strategy = self._strategy()
        config = RunConfig(
            source=SourceConfig(
                name=dataset.name,
                raw=None if self.raw is None else str(Path(self.raw).resolve()),
                options=dict(self.data_options),
                rows=self.rows,
                table=self._table_source(),
                reopen=isinstance(self.data, str | Path),
            ),
            strategy=strategy.name,
            options=strategy.model_dump(mode="json"),
            metric=metric.name,
            time_limit=self._seconds(),
            trials=self.trials,
            seed=self.seed,
            compare="full" if self.compare == "full" else "fifth",
            device=self._device(),
            jobs=self.jobs,
            threads=default_threads(self.jobs),
            reuse=tuple(str(path) for path in self._reused()),
            ledger=self.ledger,
            ensemble=self.ensemble,
            class_weights=None if self.class_weights is None else "balanced",
            imports=plugins.imported(),
        )
        with problems.caught():
            check_metric(metric, dataset)
        with problems.caught():
            check_setup(config, dataset, strategy)
        problems.raise_any()
        return RunPlan(config, dataset, strategy)

    def _check_source(self) -> None:
        if is_table(self.data):
            self._table_options()
        check_source(
            self.data,
            data_options=self.data_options,
            raw=self.raw,
            of_tables=[*sorted(self.table), *(["tuning data"] if self.tuning is not None else [])],
        )

    def _check_numbers(self) -> None:
        check_numbers(rows=self.rows, trials=self.trials, jobs=self.jobs, seed=self.seed)

    def _check_names(self) -> None:
        check_names(
            compare=self.compare,
            class_weights=self.class_weights,
            metric=self.metric,
            problem=self.problem,
        )

    def _table_options(self) -> TableOptions:
        if self.label is None:
            raise UsageError("a table needs a target: name its column with --target (label=)")
        told = {"task": self.problem} if self.problem in list(Task) else {}
        return table_options(self.label, {**self.table, **told})

    def _table_source(self) -> dict[str, Any] | None:
        if not is_table(self.data):
            return None
        found: dict[str, Any] = {
            "path": _path_of(self.data), "options": self._table_options().model_dump(mode="json")
        }  # fmt: skip
        return found if self.tuning is None else {**found, "tuning": _path_of(self.tuning)}

    def _seconds(self) -> float | None:
        return seconds_of(self.time_limit)

    def _strategy(self) -> Strategy:
        usual = "auto" if is_table(self.data) else "mixmas"
        return strategy_of(self.strategy or usual, self.options)

    def _device(self) -> str:
        return device_of(self.device)

    def _reused(self) -> list[Path]:
        return [ledger_of(path) for path in self.reuse]

    def _open(self, progress: Progress | None) -> Dataset:
        if is_table(self.data):
            return open_table_dataset(self.data, self._table_options(), progress, self.tuning)
        if isinstance(self.data, Dataset):
            return self.data
        raw = None if self.raw is None else Path(self.raw)
        return open_dataset(str(self.data), raw=raw, options=self.data_options, progress=progress)


def _path_of(table: str | Path | pd.DataFrame) -> str | None:
    return None if isinstance(table, pd.DataFrame) else str(Path(table).resolve())


__all__ = ["Problems", "Request", "RunPlan", "column_types_of", "reopen_table"]
