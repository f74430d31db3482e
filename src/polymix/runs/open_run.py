"""A run's folder, opened once, for all that is asked of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch

from polymix.data.dataset import Dataset
from polymix.data.schema import Target
from polymix.datasets import Progress
from polymix.errors import RunFolderError
from polymix.runs.config import RunConfig
from polymix.runs.devices import default_device
from polymix.runs.evaluator import evaluator_of
from polymix.runs.folder_bounds import check_folder
from polymix.runs.inference import Served, served_target
from polymix.runs.run_data import kept_dataset, moved, open_own
from polymix.scoring.metrics import Metric, metric_for
from polymix.store.database import public_address
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
from polymix.tables.join import MoreTables
from polymix.tables.recipe import TableRecipe, TargetRecipe
from polymix.train.evaluate import Evaluator


@dataclass
class OpenRun:
    """A run's folder, verified when it was opened; its model and rows are opened when asked for.

    Attributes:
        folder: for reading; whoever writes holds it for as long.
        config: of the run.
        device: where models run.
        own: the run's own rows, where they are still open.
        address: of a ledger outside of the folder, secrets included.
    """

    folder: RunFolder
    config: RunConfig
    device: torch.device
    own: Dataset | None = None
    address: str | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        ledger: str | None = None,
        own: Dataset | None = None,
        data: str | Path | None = None,
    ) -> Self:
        """Open a run folder. Nothing in it is executed, and no path in it leads outside.

        Args:
            path: the run folder.
            device: where models run; the CPU where the run was made on it, else the best there is.
            ledger: the ledger's address, where that is a database outside of the folder: said by
                whoever trusts it, not by the folder alone.
            own: the run's own rows, where they are still open.
            data: where its table, or its raw files, lie now, where they were moved.

        Raises:
            RunFolderError: it is no run folder, or something in it cannot be trusted.
            UsageError: nothing is where the data are said to be.
        """
        folder = RunFolder.open(Path(path))
        config = RunConfig.of(folder)
        if data is not None:
            config = moved(config, Path(data))
        check_folder(folder)
        if config.ledger != (None if ledger is None else public_address(ledger)):
            raise RunFolderError(
                f"{path} keeps its ledger outside of it, at {config.ledger}: if you trust that "
                "database, name it in Predictor.load(…, ledger=…)"
                if config.ledger
                else f"{path} has a ledger of its own: leave ledger= out"
            )
        usual = config.device if config.device == "cpu" else default_device()
        return cls(folder, config, torch.device(device or usual), own, ledger)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder.path

    @property
    def finished(self) -> bool:
        """Whether the search is over; then nothing but `evaluation.json` changes any more."""
        return self.folder.status == "finished"

    @property
    def metric(self) -> Metric:
        """What was maximised."""
        return metric_for(self.folder.schema.target.task, self.config.metric)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Finalists and choice, on validation rows.

        Raises:
            RunFolderError: there are none yet.
        """
        if self.folder.metrics is None:
            raise RunFolderError(f"{self.path} has no finalists yet: resume it first")
        return self.folder.metrics

    @cached_property
    def served(self) -> Served:
        """The model, loaded once.

        Raises:
            RunFolderError: there is none yet, or its files disagree.
        """
        return Served.of(self.folder, self.device)

    @property
    def target(self) -> Target:
        """What the model predicts, and how what it says is decided.

        Raises:
            RunFolderError: there is no model yet.
        """
        return served_target(self.folder)

    @cached_property
    def target_recipe(self) -> TargetRecipe | None:
        """What the run's table calls the target and its classes; none for a run on no table."""
        if self.folder.table_json is None:
            return None
        return TableRecipe.from_json(self.folder.table_json, str(self.path / "table.json")).target

    def ledger(self, *, write: bool = False) -> Ledger:
        """The run's ledger, to be closed.

        Raises:
            LedgerError: it cannot be opened.
        """
        where = self.address or self.folder.ledger_path
        return Ledger.open(where, read_only=not write, run=self.folder.run)

    def evaluator(self, dataset: Dataset, ledger: Ledger) -> Evaluator:
        """Builds the run's models on any rows of its schema; it keeps no checkpoints."""
        return evaluator_of(
            self.config, dataset, ledger, self.path, self.device, checkpoint_after=math.inf
        )

    def data(
        self,
        given: Dataset | pd.DataFrame | None = None,
        progress: Progress | None = None,
        named: MoreTables | None = None,
    ) -> Dataset:
        """The run's own rows; see `open_own`.

        Raises:
            UsageError: they were an object, and are not given.
            RunFolderError: these are other rows.
            DataError: they cannot be read.
        """
        given = self.own if given is None else given
        return open_own(self.folder, self.config, given, progress, named)

    def kept(self) -> Dataset | None:
        """The run's own rows where they are at hand: open, or in the cache."""
        return kept_dataset(self.folder, self.config) if self.own is None else self.own

    def owns(self, dataset: Dataset) -> bool:
        """Whether a dataset is the one that the run was made on: its splits keep their sense."""
        data = self.folder.description.get("data")
        return isinstance(data, Mapping) and data.get("fingerprint") == dataset.fingerprint
