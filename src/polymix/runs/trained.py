"""A run's folder, used: what it says of its search, its model's scores and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.datasets import Progress
from polymix.errors import RunFolderError, UsageError
from polymix.runs.config import RunConfig
from polymix.runs.evaluation import evaluate
from polymix.runs.explain import explain_run
from polymix.runs.export import export_onnx
from polymix.runs.inference import Served, on_schema, predict_arrays, served_target
from polymix.runs.leaderboard import board_of
from polymix.runs.linear_probe import linear_probe
from polymix.runs.paths import copy_run
from polymix.runs.predictions import kept_columns, own_classes, predictions_frame
from polymix.runs.robustness import robustness_run
from polymix.runs.rows import MAX_EXPLAINED_ROWS, GivenRows, open_rows, scored_rows
from polymix.runs.run_data import Data, open_own
from polymix.runs.session import default_device
from polymix.scoring.calibration import decode_predictions, encode_targets, for_metric
from polymix.scoring.metrics import metric_for
from polymix.search.callbacks import Callback
from polymix.store.run_folder import RunFolder
from polymix.tables.cells import text_of
from polymix.tables.recipe import TableRecipe, TargetRecipe
from polymix.tables.report import lost_lines


class TrainedRun:
    """What can be asked of a run's folder, once there is one.

    Args:
        path: the run folder, if there is one yet.
        device: `cpu`, `cuda`, …; the best there is where not given.
    """

    def __init__(self, path: str | Path | None = None, device: str | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.device = device
        self._dataset: Dataset | None = None  # the run's own, where it is still open

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model to predict with."""
        return self.path is not None and (self.path / "model.safetensors").is_file()

    @property
    def classes_(self) -> np.ndarray:
        """The classes or labels, in the order of `predict_proba`'s columns.

        Raises:
            AttributeError: nothing was fitted, or a regression.
        """
        if not self.__sklearn_is_fitted__():
            raise AttributeError("nothing was fitted yet, so that there are no classes")
        with RunFolder.open(self._path()) as folder:
            target, recipe = folder.schema.target, _target_recipe(folder)
        if not target.classes:
            raise AttributeError("a regression has no classes")
        names = np.array(target.classes)
        return names if target.task is Task.MULTILABEL else own_classes(recipe, names)

    def save(self, path: str | Path) -> None:
        """Copy the run folder.

        Raises:
            RunFolderError: `path` exists, or nothing was fitted.
        """
        copy_run(self._path(), Path(path))

    def leaderboard(self) -> pd.DataFrame:
        """What was tried and what won: finalists first, by rank."""
        return pd.DataFrame(self.leaderboard_json()["rows"])

    def leaderboard_json(self) -> dict[str, Any]:
        """The leaderboard as plain data; see `polymix.runs.leaderboard`."""
        with RunFolder.open(self._path()) as folder:
            lost = lost_lines(folder.data_report or {})
            return {**board_of(folder), **({"lost": lost} if lost else {})}

    def evaluate(
        self, data: Data | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Score on the run's test rows, once the choice is made; written to `evaluation.json`.

        Args:
            data: where the run's data were an object, the same ones; else, rows of one's own (a
                table, or a dataset's folder or name), on which the model alone is scored, and
                nothing is written.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        with RunFolder.open(self._path(), write=True) as folder:
            return evaluate(folder, data, self._device(), progress, kept=self._dataset)

    def explain(
        self,
        data: Data | None = None,
        *,
        rows: int = MAX_EXPLAINED_ROWS,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """How much each modality matters, and whether fusion helped; see `polymix.runs.explain`.

        Args:
            data: a table, a dataset or its folder or name; the run's own validation rows where
                not given.
            rows: at most so many are drawn.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        with RunFolder.open(self._path()) as folder:
            served, scored = self._scored(folder, data, rows, progress)
            return explain_run(folder, served, scored, progress)

    def robustness(
        self,
        data: Data | None = None,
        *,
        rows: int = MAX_EXPLAINED_ROWS,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """How the score holds up as modalities get noisier or fewer; arguments as in `explain`."""
        with RunFolder.open(self._path()) as folder:
            served, scored = self._scored(folder, data, rows, progress)
            return robustness_run(folder, served, scored, progress)

    def export_onnx(
        self, path: str | Path, data: Data | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Write the model as an ONNX file, once it predicts alike; see `polymix.runs.export`.

        Args:
            path: the file.
            data: rows on which the two are compared; the run's own validation rows where not given.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        with RunFolder.open(self._path()) as folder:
            served = self._served(folder)
            if data is None:
                rows = scored_rows(folder, served.schema, None, progress, kept=self._dataset)
            else:
                rows = GivenRows.every(on_schema(open_rows(folder, data, progress), served.schema))
            return export_onnx(served, Path(path), rows)

    def linear_probe(
        self,
        data: Dataset | None = None,
        *,
        epochs: int = 10,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """How good the encoders are that fused training left behind (M2-Mixer, Table III).

        See `polymix.runs.linear_probe`; scores are of the validation rows.
        """
        if epochs < 1:
            raise UsageError(f"--epochs {epochs}: a head is trained for one epoch at least")
        with RunFolder.open(self._path(), write=True) as folder:
            rows = open_own(folder, data or self._dataset, progress)
            return linear_probe(folder, rows, self._device(), epochs=epochs, callbacks=callbacks)

    def predict_proba(
        self,
        data: Data | Mapping[str, np.ndarray | None],
        present: Mapping[str, np.ndarray] | None = None,
        *,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Probabilities of classes or labels, `(N, K)`, or values `(N, 1)`, a row for each row.

        Args:
            data: raw arrays by modality, `(N, *shape)`, one that is left out is absent; or a
                table, or a dataset or its folder or name, all of whose rows are predicted.
            present: `(N,)` bool by modality, where only some rows of raw arrays lack one.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        with RunFolder.open(self._path()) as folder:
            served = self._served(folder)
            if isinstance(data, Mapping):
                return predict_arrays(served.model, served.schema, data, present, served.device)
            given = on_schema(open_rows(folder, data, progress), served.schema)
        return served.predict(given, np.arange(len(given)))

    def predict(
        self,
        data: Data | Mapping[str, np.ndarray | None],
        present: Mapping[str, np.ndarray] | None = None,
        *,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Classes `(N,)`, label sets `(N, L)` bool, or values `(N,)`; see `predict_proba`.

        Classes are of the type that they have in the table that was fitted: text, int, float, bool.
        """
        return self._said(self.predict_proba(data, present, progress=progress))

    def predictions(
        self, data: Data, *, keep: Sequence[str] = (), progress: Progress | None = None
    ) -> pd.DataFrame:
        """What `predict` and `predict_proba` say, a row for each row; see `predictions_frame`.

        Args:
            data: a table, or a dataset or its folder or name.
            keep: columns of the table that stand before the predictions, such as an id.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        kept = kept_columns(data, keep) if keep else None
        probabilities = self.predict_proba(data, progress=progress)
        with RunFolder.open(self._path()) as folder:
            target, recipe = folder.schema.target, _target_recipe(folder)
        return predictions_frame(target, self._said(probabilities), probabilities, recipe, kept)

    def score(
        self, data: Dataset | Mapping[str, np.ndarray | None], y: np.ndarray | None = None
    ) -> float:
        """The metric on rows, higher is better.

        Args:
            data: as `predict_proba` takes them.
            y: what is right: class names `(N,)`, label sets `(N, L)`, or values `(N,)`; a
                dataset has its own.

        Raises:
            UsageError: `y` is missing, or names classes that were not trained.
        """
        probabilities = self.predict_proba(data)
        with RunFolder.open(self._path()) as folder:
            config = RunConfig.of(folder)
            target, recipe = served_target(folder), _target_recipe(folder)
        if y is not None and recipe is not None and target.task in (Task.BINARY, Task.MULTICLASS):
            y = np.array([text_of(label) for label in np.asarray(y).tolist()], object)
        metric = metric_for(target.task, config.metric)
        if y is None and not isinstance(data, Dataset):
            raise UsageError("score needs y, what is right, where the data do not have it")
        right = encode_targets(target, y) if y is not None else np.asarray(data.targets)  # type: ignore[union-attr]
        return metric(right, for_metric(metric, target, probabilities))

    def _said(self, probabilities: np.ndarray) -> np.ndarray:
        with RunFolder.open(self._path()) as folder:
            target = served_target(folder)
            said = decode_predictions(target, probabilities)
            return own_classes(_target_recipe(folder), said) if said.dtype.kind == "U" else said

    def _scored(
        self, folder: RunFolder, data: Data | None, most: int, progress: Progress | None
    ) -> tuple[Served, GivenRows]:
        served = self._served(folder)
        return served, scored_rows(
            folder, served.schema, data, progress, kept=self._dataset, most=most
        )

    def _served(self, folder: RunFolder) -> Served:
        return Served.of(folder, self._device())

    def _device(self) -> torch.device:
        return torch.device(self.device or default_device())

    def _path(self) -> Path:
        if self.path is None:
            raise RunFolderError("nothing was fitted yet: call fit, or load a run folder")
        return self.path


def _target_recipe(folder: RunFolder) -> TargetRecipe | None:
    """What a run's table calls the target and its classes; none for a run on no table."""
    if folder.table_json is None:
        return None
    return TableRecipe.from_json(folder.table_json, str(folder.path / "table.json")).target
