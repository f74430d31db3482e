"""What is asked of a run, checked as one: every problem is told, and nothing is written before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.data.table_file import READ
from polymix.datasets import DATASETS, Progress, make_builder, open_dataset
from polymix.datasets.table import TableOptions, open_table_dataset
from polymix.errors import PolymixError, UsageError, did_you_mean
from polymix.runs.own_data import reopen_table
from polymix.runs.rehearsal import rehearse
from polymix.runs.session import check_device, default_device, default_threads
from polymix.runs.table_options import column_types_of, is_table, table_options
from polymix.search import make_strategy
from polymix.search.config import RunConfig, SourceConfig
from polymix.search.driver import RANDOM_SHARE
from polymix.search.protocol import Strategy
from polymix.train.metrics import METRICS, Metric, metric_for
from polymix.units import parse_duration

MOST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Plan:
    """What will run: everything resolved.

    Attributes:
        config: of the run.
        dataset: the rows, cut to those asked for.
        strategy: with its options.
    """

    config: RunConfig
    dataset: Dataset
    strategy: Strategy


class Problems:
    """Collects errors, so that all of them can be told at once."""

    def __init__(self) -> None:
        self._errors: list[PolymixError] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep what is raised within."""
        try:
            yield
        except PolymixError as error:
            self._errors.append(error)

    def raise_any(self) -> None:
        """Raise what was kept.

        Raises:
            PolymixError: the one that was kept, or a `UsageError` with the problems of all.
        """
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            said = [problem for error in self._errors for problem in error.problems]
            raise UsageError(list(dict.fromkeys(said)))


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

    def resolve(self, progress: Progress | None = None) -> Plan:
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
            if not self._table and self.label is not None and self.label != target.name:
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
        )
        with problems.caught():
            _check_metric(metric, dataset)
        with problems.caught():
            rehearse(config, dataset, strategy)
        problems.raise_any()
        return Plan(config, dataset, strategy)

    # Each of these raises a UsageError.

    @property
    def _table(self) -> bool:
        return is_table(self.data)

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

    def _check_source(self) -> None:
        if self._table:
            self._table_options()
            if self.data_options or self.raw is not None:
                raise UsageError("a table has no --raw folder and no -d settings: leave them out")
            return
        given = [*sorted(self.table), *(["tuning data"] if self.tuning is not None else [])]
        if given:
            raise UsageError(f"{', '.join(given)}: of tables alone, but '{self.name}' is none")
        if not isinstance(self.data, str):
            if self.data_options:
                raise UsageError("the data's options go with a dataset's name, not with an object")
            return
        if self.data not in DATASETS:
            raise UsageError(
                f"no dataset '{self.data}': {did_you_mean(self.data, DATASETS)} "
                f"A table is a file that ends in {', '.join(READ)}."
            )
        if self.raw is not None and not Path(self.raw).is_dir():
            raise UsageError(f"--raw {self.raw}: no such folder")
        make_builder(self.data, self.data_options)

    def _check_numbers(self) -> None:
        least = {"rows": 1, "trials": 1, "jobs": 1, "seed": 0}
        given = {name: getattr(self, name) for name in least}
        problems = [
            f"--{name} {given[name]}: {name} >= {least[name]} must hold"
            for name in least
            if given[name] is not None and given[name] < least[name]
        ]
        if self.seed > MOST_SEED:
            problems.append(f"--seed {self.seed}: seed <= {MOST_SEED} must hold")
        if problems:
            raise UsageError(problems)

    def _check_names(self) -> None:
        problems = []
        if self.compare not in RANDOM_SHARE:
            hint = did_you_mean(self.compare, RANDOM_SHARE)
            problems.append(f"--compare {self.compare}: {hint}")
        if self.class_weights not in (None, "balanced"):
            problems.append(f"--class-weights {self.class_weights}: there is 'balanced' alone")
        if self.metric is not None and self.metric not in METRICS:
            problems.append(f"no metric '{self.metric}': {did_you_mean(self.metric, METRICS)}")
        if self.problem is not None and self.problem not in list(Task):
            problems.append(f"no problem type '{self.problem}': {did_you_mean(self.problem, Task)}")
        if problems:
            raise UsageError(problems)

    def _seconds(self) -> float | None:
        if isinstance(self.time_limit, str):
            return parse_duration(self.time_limit)
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise UsageError(f"a time limit is positive and finite, but got {self.time_limit} s")
        return self.time_limit

    def _strategy(self) -> Strategy:
        if isinstance(self.strategy, Strategy):
            return self.strategy.fresh()
        usual = "auto" if is_table(self.data) else "mixmas"
        return make_strategy(self.strategy or usual, dict(self.options))

    def _device(self) -> str:
        device = self.device or default_device()
        check_device(device)
        return device

    def _reused(self) -> list[Path]:
        return [_ledger_of(path) for path in self.reuse]

    def _open(self, progress: Progress | None) -> Dataset:
        if is_table(self.data):
            return open_table_dataset(self.data, self._table_options(), progress, self.tuning)
        if isinstance(self.data, Dataset):
            return self.data
        raw = None if self.raw is None else Path(self.raw)
        return open_dataset(str(self.data), raw=raw, options=self.data_options, progress=progress)


def _path_of(table: str | Path | pd.DataFrame) -> str | None:
    return None if isinstance(table, pd.DataFrame) else str(Path(table).resolve())


def _check_metric(metric: Metric, dataset: Dataset) -> None:
    """Raise a UsageError where the validation rows give the metric nothing to measure."""
    targets = np.asarray(dataset.targets[dataset.split.val])
    outputs = dataset.schema.target.outputs
    rng = seeds.stream(0, "metric")
    try:
        value = metric(targets, rng.dirichlet(np.ones(max(outputs, 2)), len(targets))[:, :outputs])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"--metric {metric.name}: it is undefined on the validation rows of '{dataset.name}' "
            "(a class may be missing there); choose another metric"
        )


def _ledger_of(path: str | Path) -> Path:
    """A run folder whose ledger may be reused.

    Raises:
        UsageError: it has none.
    """
    found = Path(path)
    if not (found / "ledger.sqlite").is_file() and not found.is_file():
        raise UsageError(f"--reuse {path}: there is no ledger; name another run's folder")
    return found.resolve()


__all__ = ["Plan", "Problems", "Request", "column_types_of", "reopen_table"]
