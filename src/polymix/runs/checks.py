"""What can be said of what is asked of a run; each check tells all that is wrong with its part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.datasets import DATASETS, make_builder
from polymix.errors import UsageError, did_you_mean
from polymix.methods.strategies import make_strategy
from polymix.runs.devices import check_device, default_device
from polymix.runs.run_data import Data
from polymix.runs.table_options import is_table
from polymix.scoring.metrics import Metric, check_known
from polymix.search.protocol import Strategy
from polymix.tables.files import READ


def check_source(
    data: Data,
    *,
    data_options: Mapping[str, Any],
    raw: str | Path | None,
    of_tables: Sequence[str],
) -> None:
    """Make sure that the data are known, and that what was said of them goes with them.

    Args:
        data: what is asked for.
        data_options: of a dataset given by name.
        raw: folder of its raw files.
        of_tables: what was said that goes with tables alone, by name.

    Raises:
        UsageError: there is no such dataset or folder, or something does not go with the data.
    """
    if is_table(data):
        if data_options or raw is not None:
            raise UsageError("a table has no raw files or settings: omit --raw and --data-option")
        return
    if of_tables:
        name = data.name if isinstance(data, Dataset) else data
        raise UsageError(f"{', '.join(of_tables)}: only for tables, but '{name}' is none")
    if not isinstance(data, str):
        if data_options:
            raise UsageError("--data-option is for datasets given by name: omit it")
        return
    if data not in DATASETS:
        raise UsageError(
            f"no dataset '{data}': {did_you_mean(data, DATASETS)} "
            f"A table is a file that ends in {', '.join(READ)}."
        )
    if raw is not None and not Path(raw).is_dir():
        raise UsageError(f"--raw {raw}: no such folder")
    make_builder(data, data_options)


def check_names(*, metric: str | None, problem: str | None) -> None:
    """Make sure that names are known.

    Raises:
        UsageError: one is not; all of them are told.
    """
    problems: list[str] = []
    try:
        if metric is not None:
            check_known(metric)
    except UsageError as error:
        problems += error.problems
    if problem is not None and problem not in list(Task):
        problems.append(f"no problem type '{problem}': {did_you_mean(problem, Task)}")
    if problems:
        raise UsageError(problems)


def strategy_of(strategy: object, options: Mapping[str, Any]) -> Strategy:
    """A new strategy object, by its name and options, or as the one that is given.

    Raises:
        UsageError: there is no such strategy, or an option cannot be used.
    """
    if isinstance(strategy, Strategy):
        return strategy.fresh()
    if not isinstance(strategy, str):
        raise UsageError(f"--strategy must be a name or a strategy, but got {strategy!r}")
    return make_strategy(strategy, dict(options))


def device_of(name: str | None) -> str:
    """A device's name, of the best there is where none is given.

    Raises:
        UsageError: there is no such device here.
    """
    device = name or default_device()
    check_device(device)
    return device


def ledger_of(path: str | Path) -> Path:
    """A run folder whose ledger may be reused.

    Raises:
        UsageError: it has none.
    """
    found = Path(path)
    if not (found / "ledger.sqlite").is_file() and not found.is_file():
        raise UsageError(f"--reuse {path}: there is no ledger; name another run's folder")
    return found.resolve()


def check_metric(metric: Metric, dataset: Dataset) -> None:
    """Make sure that the validation rows give the metric something to measure.

    Raises:
        UsageError: they do not.
    """
    targets = np.asarray(dataset.targets[dataset.split.val])
    outputs = dataset.schema.target.outputs
    rng = seeds.stream(0, "metric")
    try:
        value = metric(targets, rng.dirichlet(np.ones(max(outputs, 2)), len(targets))[:, :outputs])
    except ValueError:
        value = math.nan
    if not metric.fits(targets):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"--metric {metric.name}: it is undefined on the validation rows of '{dataset.name}' "
            "(a class may be missing there); choose another metric"
        )
