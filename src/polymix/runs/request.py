"""What is asked of a run, checked as one: every problem is told, and nothing is written before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from polymix import plugins
from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.datasets import Progress, open_dataset
from polymix.datasets.own_table import TableOptions, open_table_dataset
from polymix.errors import Problems, UsageError
from polymix.runs.checks import (
    check_metric,
    check_names,
    check_source,
    device_of,
    ledger_of,
    strategy_of,
)
from polymix.runs.config import RunConfig, SourceConfig
from polymix.runs.devices import default_threads
from polymix.runs.options import RunOptions, SharedOptions, checked_options
from polymix.runs.paths import folder_name, free_path, reserved
from polymix.runs.preflight import check_setup
from polymix.runs.presets import with_preset
from polymix.runs.run_data import Data
from polymix.runs.table_options import is_table, table_options
from polymix.scoring.metrics import metric_for
from polymix.search.protocol import Strategy
from polymix.store.database import public_address
from polymix.tables.join import MoreTables


@dataclass(frozen=True)
class RunPlan:
    """What will run: everything resolved.

    Attributes:
        path: the run folder to make; none for a dry run.
        config: of the run.
        dataset: the rows, cut to those asked for.
        strategy: with its options.
        raise_errors: whether to raise what a candidate raises.
        ledger: the ledger's address, of which `config` has all but what is secret.
    """

    path: Path | None
    config: RunConfig
    dataset: Dataset
    strategy: Strategy
    raise_errors: bool = False
    ledger: str | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of a run, all that can be checked before the data are opened being right.

    Attributes:
        data: a dataset's name, a table's file, a `DataFrame`, or a `Dataset`.
        named: tables of the rows that validate, and of the sealed ones, where the data are a
            table.
        path: the run folder to make; none for a dry run.
        name: of a folder under `runs/`, where the person named none.
        asked: the options.
        table: how a table is read; none where the data are none.
        strategy: with its options.
        device: where models run.
        reuse: ledgers whose trials may be taken over.
    """

    data: Data
    named: MoreTables
    path: Path | None
    name: str | None
    asked: RunOptions
    table: TableOptions | None
    strategy: Strategy
    device: str
    reuse: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        data: Data,
        options: Mapping[str, Any],
        *,
        named: MoreTables | None = None,
        path: str | Path | None = None,
        dry: bool = False,
        problems: Problems | None = None,
    ) -> Request:
        """Check everything that can be said before the data are opened, once.

        Args:
            data: what to search on.
            options: `RunOptions`, by their fields' names.
            named: tables of the rows that validate, and of the sealed ones.
            path: the run folder to make; a new one under `runs/` where not given.
            dry: no folder is made.
            problems: what is wrong already.

        Raises:
            PolymixError: something cannot be used; every problem is listed.
        """
        problems = Problems() if problems is None else problems
        named = named or MoreTables()
        asked, wrong = checked_options(options)
        with problems.caught():
            if wrong:
                raise UsageError(wrong)
        table, strategy, device, reuse, place = None, None, None, None, None
        with problems.caught():
            table = _table_options(data, asked, named)
        with problems.caught():
            of_tables = sorted(asked.table_fields)
            check_source(
                data,
                data_options=asked.data_options,
                raw=asked.raw,
                of_tables=[*of_tables, *named.flags],
            )
        with problems.caught():
            check_names(metric=asked.metric, problem=asked.problem)
        wanted = asked.strategy or ("auto" if is_table(data) else "mixmas")
        asked = with_preset(asked, wanted)
        with problems.caught():
            strategy = strategy_of(wanted, asked.options)
        with problems.caught():
            device = device_of(asked.device)
        with problems.caught():
            reuse = tuple(str(ledger_of(path)) for path in asked.reuse)
        with problems.caught():
            place = None if dry else free_path(None if path is None else Path(path), _name(data))
        problems.raise_any()
        assert strategy is not None
        assert device is not None
        assert reuse is not None
        name = _name(data) if path is None and not dry else None
        return cls(data, named, place, name, asked, table, strategy, device, reuse)

    @contextmanager
    def reserved(self) -> Iterator[Request]:
        """The request, with a run folder that no other run takes meanwhile.

        Raises:
            RunFolderError: no folder can be made.
        """
        if self.name is None:
            yield self
            return
        with reserved(self.name) as path:
            yield replace(self, path=path)

    def resolve(self, progress: Progress | None = None) -> RunPlan:
        """Open the data, and check what they alone can tell.

        Args:
            progress: called as `progress(done, total, what)` while a dataset is built.

        Raises:
            PolymixError: something cannot be used; every problem is listed.
        """
        asked, problems = self.asked, Problems()
        dataset = self._open(progress)
        target = dataset.schema.target
        metric = metric_for(target.task)
        with problems.caught():
            if self.table is None and asked.target not in (None, target.name):
                raise UsageError(
                    f"the label of '{dataset.name}' is '{target.name}', not '{asked.target}'"
                )
        with problems.caught():
            if asked.problem not in (None, target.task):
                raise UsageError(
                    f"the target of '{dataset.name}' is {target.task}, not {asked.problem}"
                )
        with problems.caught():
            metric = metric_for(target.task, asked.metric)
        with problems.caught():
            if asked.rows is not None:
                dataset = dataset.with_train_rows(asked.rows, seed=0)
        with problems.caught():
            if asked.class_weights is not None:
                dataset = dataset.with_balanced_classes()
        shared = {name: getattr(asked, name) for name in SharedOptions.model_fields}
        config = RunConfig(
            **shared
            | {"reuse": self.reuse, "ledger": asked.ledger and public_address(asked.ledger)},
            source=SourceConfig(
                name=dataset.name,
                raw=None if asked.raw is None else str(asked.raw.resolve()),
                options=asked.data_options,
                rows=asked.rows,
                table=self._table_source(),
                reopen=isinstance(self.data, str | Path),
            ),
            strategy=self.strategy.name,
            options=self.strategy.model_dump(mode="json"),
            metric=metric.name,
            device=self.device,
            threads=default_threads(asked.jobs),
            imports=plugins.imported(),
        )
        with problems.caught():
            check_metric(metric, dataset)
        with problems.caught():
            check_setup(config, dataset, self.strategy)
        problems.raise_any()
        return RunPlan(self.path, config, dataset, self.strategy, asked.raise_errors, asked.ledger)

    def _table_source(self) -> dict[str, Any] | None:
        if self.table is None:
            return None
        found: dict[str, Any] = {
            "path": _path_of(self.data), "options": self.table.model_dump(mode="json")
        }  # fmt: skip
        for key, table in (("tuning", self.named.valid), ("test", self.named.test)):
            if table is not None:
                found[key] = _path_of(table)
        return found

    def _open(self, progress: Progress | None) -> Dataset:
        if isinstance(self.data, Dataset):
            return self.data
        if self.table is not None:
            return open_table_dataset(self.data, self.table, progress, self.named)
        settings = self.asked.data_options
        return open_dataset(str(self.data), raw=self.asked.raw, options=settings, progress=progress)


def _table_options(data: Data, asked: RunOptions, named: MoreTables) -> TableOptions | None:
    """How the data are read, where they are a table."""
    if not is_table(data):
        return None
    fields = asked.table_fields
    if named.flags and fields.get("test_share") is not None:
        raise UsageError(
            f"--test-share and {' and '.join(named.flags)} exclude each other: no row of the first "
            "table is sealed where another table is named; omit --test-share"
        )
    if asked.target is None:
        raise UsageError("a table needs a target: name its column with --target")
    told = {"task": asked.problem} if asked.problem in list(Task) else {}
    sealed = {"test_share": 0.0} if named.flags else {}
    return table_options(asked.target, {**fields, **sealed, **told})


def _name(data: Data) -> str:
    """What the folder of a run on the data is called."""
    if is_table(data):
        return "table" if isinstance(data, pd.DataFrame) else folder_name(Path(data).stem)
    return folder_name(data.name if isinstance(data, Dataset) else str(data))


def _path_of(table: Data) -> str | None:
    return str(Path(table).resolve()) if isinstance(table, str | Path) else None
