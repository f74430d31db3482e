"""The Python front door."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils import Tags, TargetTags

from polymix.data.dataset import Dataset
from polymix.datasets import Progress, open_dataset
from polymix.datasets.table import report_of
from polymix.errors import RunFolderError, UsageError, did_you_mean
from polymix.runs.evaluation import evaluate_run
from polymix.runs.inference import (
    load_model,
    on_schema,
    predict_arrays,
    predict_dataset,
    served_target,
)
from polymix.runs.linear_probe import linear_probe
from polymix.runs.request import Problems, Request, reopen_table
from polymix.runs.session import Session, check_data, default_device
from polymix.search.callbacks import Callback
from polymix.search.config import RunConfig
from polymix.search.driver import Compare
from polymix.search.leaderboard import leaderboard, trial_row
from polymix.search.protocol import Strategy
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
from polymix.train.decide import codes_of, for_metric, said
from polymix.train.metrics import metric_for


class Predictor:
    """Finds an architecture for multimodal data, trains it, and predicts with it.

    Args:
        label: the target's name, of a table its column; the dataset's own where not given.
        eval_metric: what is maximised, by scikit-learn's name; the task's own where not given.
        path: the run folder to make; a new one under `runs/` where not given.
        device: `cpu`, `cuda`, …; the best there is where not given.
        jobs: how many processes train.

    Example:
        >>> predictor = Predictor().fit("demo", time_limit=120)      # doctest: +SKIP
        >>> predictor.leaderboard()                                  # doctest: +SKIP
        >>> predictor.evaluate()["metrics"]["accuracy"]              # doctest: +SKIP
    """

    def __init__(
        self,
        label: str | None = None,
        *,
        eval_metric: str | None = None,
        path: str | Path | None = None,
        device: str | None = None,
        jobs: int = 1,
    ) -> None:
        if jobs < 1:
            raise UsageError(f"jobs >= 1 must hold, but got {jobs}")
        self.label, self.eval_metric = label, eval_metric
        self.path = None if path is None else Path(path)
        self.device, self.jobs = device, jobs
        self._dataset: Dataset | None = None
        self._params = {"label": label, "eval_metric": eval_metric, "path": path,
                        "device": device, "jobs": jobs}  # fmt: skip

    # As scikit-learn's estimators: `clone`, `get_params` and `set_params` work.

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The constructor's arguments, as they were given."""
        return dict(self._params)

    def set_params(self, **params: Any) -> Predictor:
        """Change the constructor's arguments; what was fitted is let go.

        Raises:
            UsageError: there is no such argument; all of them are named.
        """
        unknown = [name for name in params if name not in self._params]
        if unknown:
            raise UsageError(
                [f"Predictor has no '{n}': {did_you_mean(n, self._params)}" for n in unknown]
            )
        type(self).__init__(self, **{**self._params, **params})
        return self

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn asks first: neither classifier nor regressor before it has data."""
        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

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
            classes = folder.schema.target.classes
        if not classes:
            raise AttributeError("a regression has no classes")
        return np.array(classes)

    # Fitting.

    def fit(
        self,
        data: str | Path | pd.DataFrame | Dataset,
        *,
        time_limit: float | str | None = None,
        trials: int | None = None,
        strategy: str | Strategy = "mixmas",
        options: Mapping[str, Any] | None = None,
        data_options: Mapping[str, Any] | None = None,
        rows: int | None = None,
        raw: str | Path | None = None,
        column_types: Mapping[str, str] | None = None,
        table: Mapping[str, Any] | None = None,
        seed: int = 0,
        compare: Compare = "fifth",
        reuse: Sequence[str | Path] = (),
        ledger: str | None = None,
        class_weights: str | None = None,
        ensemble: bool = False,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> Predictor:
        """Search, compare, train, choose; the run folder is `self.path`.

        Args:
            data: a dataset's name, a table's file, a `DataFrame`, or a `Dataset`.
            time_limit: seconds, or text such as "10m"; none for no limit.
            trials: trials to make in all, the finalists' included; none for no limit.
            strategy: its name, or an object.
            options: of a strategy given by name.
            data_options: of a dataset given by name, e.g. `{"task": "icd9-7"}` for `mimic`.
            rows: training rows to use; all where not given.
            raw: folder of the dataset's raw files.
            column_types: of a table's columns, in place of what would be found in them.
            table: how else a table is read, e.g. `{"group": "patient"}`; see `TableOptions`.
            seed: of everything.
            compare: random search gets a `fifth` of the search, or as much (`full`).
            reuse: run folders whose trials may be taken over.
            ledger: a database's URL, in place of the folder's own ledger.
            class_weights: `balanced` weighs each class in the loss by how rare it is.
            ensemble: let a weighted mean of the finalists stand among them.
            callbacks: watch the run.
            progress: called as `progress(done, total, what)` while a dataset is built.

        Raises:
            PolymixError: something cannot be used; nothing was written.
        """
        return self.run(
            Request(
                data,
                label=self.label,
                metric=self.eval_metric,
                device=self.device,
                jobs=self.jobs,
                time_limit=time_limit,
                trials=trials,
                strategy=strategy,
                options=options or {},
                data_options=data_options or {},
                rows=rows,
                raw=raw,
                table={**(table or {}), **({"types": dict(column_types)} if column_types else {})},
                seed=seed,
                compare=compare,
                reuse=reuse,
                ledger=ledger,
                class_weights=class_weights,
                ensemble=ensemble,
            ),
            callbacks,
            progress,
        )

    def run(
        self,
        request: Request,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> Predictor:
        """Run what was asked for; see `fit`.

        Raises:
            PolymixError: something cannot be used; nothing was written.
        """
        problems = Problems()
        with problems.caught():
            path = free_path(self.path, request.name)
        request.check(problems)
        problems.raise_any()
        plan = request.resolve(progress)
        report = report_of(plan.dataset)
        for callback in callbacks if report else ():
            callback.on_table(report)
        session = Session.start(path, plan.config, plan.dataset, plan.strategy, callbacks)
        self.path, self._dataset = path, plan.dataset
        with session.folder:
            session.run()
        return self

    @classmethod
    def resume(
        cls,
        path: str | Path,
        data: Dataset | pd.DataFrame | None = None,
        *,
        strategy: Strategy | None = None,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> Predictor:
        """Go on with a run that was interrupted; a finished one is returned as it is.

        Args:
            path: the run folder.
            data: its data, if it was given as an object.
            strategy: its strategy, if that was of a class polymix does not know.
            callbacks: watch the run.
            progress: see `fit`.

        Raises:
            RunFolderError: it is no run folder, or belongs to other data.
        """
        predictor = cls.load(path)
        with RunFolder.open(Path(path), write=True) as folder:
            if folder.status == "finished":
                return predictor
            dataset = predictor._data(folder, data, progress)
            session = Session.resume(folder, dataset, strategy, callbacks)
            predictor._dataset = dataset
            session.run()
        return predictor

    # Using.

    @classmethod
    def load(cls, path: str | Path) -> Predictor:
        """Open a run folder. Nothing in it is executed.

        Raises:
            RunFolderError: it is no run folder, or something in it cannot be trusted.
        """
        with RunFolder.open(Path(path)) as folder:
            config = RunConfig.parse(dict(folder.config), str(folder.path / "config.yaml"))
            device = config.device if config.device == "cpu" else default_device()
            label = folder.schema.target.name
        predictor = cls(label, eval_metric=config.metric, path=path, device=device)
        predictor.jobs = config.jobs
        return predictor

    def save(self, path: str | Path) -> None:
        """Copy the run folder.

        Raises:
            RunFolderError: `path` exists, or nothing was fitted.
        """
        target = Path(path)
        if target.exists():
            raise RunFolderError(f"{target} exists: name another place")
        target.parent.mkdir(parents=True, exist_ok=True)
        with RunFolder.open(self._path()), tempfile.TemporaryDirectory(dir=target.parent) as draft:
            copy = Path(draft) / "run"
            shutil.copytree(self._path(), copy, ignore=shutil.ignore_patterns(".lock", "bank"))
            copy.rename(target)

    def leaderboard(self) -> pd.DataFrame:
        """What was tried and what won: finalists first, by rank."""
        return pd.DataFrame(self.leaderboard_json()["rows"])

    def leaderboard_json(self) -> dict[str, Any]:
        """The leaderboard as plain data; see `polymix.search.leaderboard`."""
        with RunFolder.open(self._path()) as folder:
            config = RunConfig.parse(dict(folder.config), "config.yaml")
            with Ledger.open(config.ledger or folder.ledger_path) as ledger:
                rows = [trial_row(r.trial, r.role, r.origin) for r in ledger.rows()]
            metrics = None if folder.metrics is None else dict(folder.metrics)
            board = leaderboard(metrics, rows, config.metric)
            return {**board, "status": folder.status, "run": str(folder.path)}

    def evaluate(
        self, data: Dataset | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Score on the test rows, once the choice is made; written to `evaluation.json`."""
        with RunFolder.open(self._path(), write=True) as folder:
            if folder.status != "finished":
                raise RunFolderError(
                    f"{folder.path}: the run is not finished, and the test rows stay sealed until "
                    f"it is: `polymix resume {folder.path}` goes on with it"
                )
            rows = self._data(folder, data or self._dataset, progress)
            return evaluate_run(folder, rows, self._device())

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
            rows = self._data(folder, data or self._dataset, progress)
            return linear_probe(folder, rows, self._device(), epochs=epochs, callbacks=callbacks)

    def predict_proba(
        self,
        data: Dataset | Mapping[str, np.ndarray | None],
        present: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Probabilities of classes or labels, `(N, K)`, or values `(N, 1)`, a row for each row.

        Args:
            data: raw arrays by modality, `(N, *shape)`, one that is left out is absent; or a
                dataset, all of whose rows are predicted.
            present: `(N,)` bool by modality, where only some rows lack one.
        """
        with RunFolder.open(self._path()) as folder:
            model, schema = load_model(folder)
        if isinstance(data, Dataset):
            data = on_schema(data, schema)
            return predict_dataset(model, data, np.arange(len(data)), self._device())
        return predict_arrays(model, schema, data, present, self._device())

    def predict(
        self,
        data: Dataset | Mapping[str, np.ndarray | None],
        present: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Class names `(N,)`, label sets `(N, L)` bool, or values `(N,)`; see `predict_proba`."""
        probabilities = self.predict_proba(data, present)
        with RunFolder.open(self._path()) as folder:
            return said(served_target(folder), probabilities)

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
            config = RunConfig.parse(dict(folder.config), "config.yaml")
            target = served_target(folder)
        metric = metric_for(target.task, config.metric)
        if y is None and not isinstance(data, Dataset):
            raise UsageError("score needs y, what is right, where the data do not have it")
        right = codes_of(target, y) if y is not None else np.asarray(data.targets)  # type: ignore[union-attr]
        return metric(right, for_metric(metric, target, probabilities))

    # Helpers.

    def _device(self) -> torch.device:
        return torch.device(self.device or default_device())

    def _path(self) -> Path:
        if self.path is None:
            raise RunFolderError("nothing was fitted yet: call fit, or load a run folder")
        return self.path

    def _data(
        self,
        folder: RunFolder,
        given: Dataset | pd.DataFrame | None,
        progress: Progress | None,
    ) -> Dataset:
        config = RunConfig.parse(dict(folder.config), str(folder.path / "config.yaml"))
        source = config.source
        if source.table is not None and (given is None or isinstance(given, pd.DataFrame)):
            given = reopen_table(source.table, given, str(folder.path), progress)
        if isinstance(given, pd.DataFrame):
            raise UsageError(f"the data of {folder.path} were no table")
        if given is None:
            if not source.reopen:
                raise UsageError(f"the data of {folder.path} were an object: give them again")
            raw = None if source.raw is None else Path(source.raw)
            given = open_dataset(source.name, raw=raw, options=source.options, progress=progress)
        if source.rows is not None and len(given.split.train) != source.rows:
            given = given.with_train_rows(source.rows, seed=0)
        check_data(folder, given)
        return given if config.class_weights is None else given.with_balanced_classes()


def free_path(path: Path | None, name: str) -> Path:
    """A run folder that can be made: `path`, or the first of `runs/NAME`, `runs/NAME-2`, ….

    Raises:
        RunFolderError: `path` is there already.
    """
    if path is None:
        path, count = Path("runs") / name, 1
        while path.exists():
            count += 1
            path = Path("runs") / f"{name}-{count}"
    elif path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file: name another place with --run-dir")
    elif path.exists() and any(path.iterdir()):
        raise RunFolderError(
            f"{path} exists: `polymix resume {path}` goes on with it, "
            "or name another with --run-dir"
        )
    return path
