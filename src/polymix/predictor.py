"""The Python front door."""

from __future__ import annotations

import contextlib
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
from polymix.errors import PolymixError, RunFolderError, UsageError, did_you_mean
from polymix.runs.evaluation import evaluate_rows, evaluate_run
from polymix.runs.explain import explain_run
from polymix.runs.export import export_onnx
from polymix.runs.given import GIVEN, MOST, Rows, is_own, labelled, open_rows
from polymix.runs.inference import Served, on_schema, predict_arrays, served_target
from polymix.runs.linear_probe import linear_probe
from polymix.runs.predictions import predictions_frame
from polymix.runs.request import Problems, Request, reopen_table
from polymix.runs.robustness import robustness_run
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

Data = str | Path | pd.DataFrame | Dataset
"""A table, a dataset's folder or its name; or a frame, or a dataset."""


class Predictor:
    """Finds an architecture for multimodal data, trains it, and predicts with it.

    Args:
        label: the target's name, of a table its column; the dataset's own where not given.
        problem_type: `binary`, `multiclass`, `multilabel` or `regression`; found in a table's
            target where not given.
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
        problem_type: str | None = None,
        eval_metric: str | None = None,
        path: str | Path | None = None,
        *,
        device: str | None = None,
        jobs: int = 1,
    ) -> None:
        if jobs < 1:
            raise UsageError(f"jobs >= 1 must hold, but got {jobs}")
        self.label, self.problem_type, self.eval_metric = label, problem_type, eval_metric
        self.path = None if path is None else Path(path)
        self.device, self.jobs = device, jobs
        self._dataset: Dataset | None = None
        self._params = {"label": label, "problem_type": problem_type, "eval_metric": eval_metric,
                        "path": path, "device": device, "jobs": jobs}  # fmt: skip

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
        train_data: str | Path | pd.DataFrame | Dataset,
        tuning_data: str | Path | pd.DataFrame | None = None,
        *,
        time_limit: float | str | None = None,
        trials: int | None = None,
        strategy: str | Strategy | None = None,
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
            train_data: a dataset's name, a table's file, a `DataFrame`, or a `Dataset`; it has its
                own validation and test rows, or they are drawn from it.
            tuning_data: a table of the rows that validate, with the columns of `train_data`, a
                table as well: all of that is then trained on, and there are no test rows.
            time_limit: seconds, or text such as "10m"; none for no limit.
            trials: trials to make in all, the finalists' included; none for no limit.
            strategy: its name, or an object; `auto` for a table and `mixmas` for a dataset where
                not given.
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
                train_data,
                label=self.label,
                problem=self.problem_type,
                tuning=tuning_data,
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
        tuning_data: pd.DataFrame | None = None,
        *,
        strategy: Strategy | None = None,
        ledger: str | None = None,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> Predictor:
        """Go on with a run that was interrupted; a finished one is returned as it is.

        Args:
            path: the run folder.
            data: its data, if it was given as an object.
            tuning_data: its tuning data, if they were a frame.
            strategy: its strategy, if that was of a class polymix does not know.
            ledger: see `load`.
            callbacks: watch the run.
            progress: see `fit`.

        Raises:
            RunFolderError: it is no run folder, or belongs to other data.
        """
        predictor = cls.load(path, ledger=ledger)
        with RunFolder.open(Path(path), write=True) as folder:
            if folder.status == "finished":
                return predictor
            dataset = predictor._data(folder, data, progress, tuning_data)
            session = Session.resume(folder, dataset, strategy, callbacks)
            predictor._dataset = dataset
            session.run()
        return predictor

    # Using.

    @classmethod
    def load(cls, path: str | Path, *, ledger: str | None = None) -> Predictor:
        """Open a run folder. Nothing in it is executed, and no path in it leads outside.

        Args:
            path: the run folder.
            ledger: its ledger's address, where that is a database outside of the folder: said by
                whoever trusts it, not by the folder alone.

        Raises:
            RunFolderError: it is no run folder, or something in it cannot be trusted.
        """
        with RunFolder.open(Path(path)) as folder:
            config = RunConfig.parse(dict(folder.config), str(folder.path / "config.yaml"))
            if config.ledger != ledger:
                raise RunFolderError(
                    f"{path} keeps its ledger outside of it, at {config.ledger}: if you trust that "
                    "database, name it in Predictor.load(…, ledger=…)"
                    if config.ledger
                    else f"{path} has a ledger of its own: leave ledger={ledger!r} out"
                )
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
        with (
            RunFolder.open(self._path(), write=True),  # held: nobody writes while it is copied
            tempfile.TemporaryDirectory(dir=target.parent) as draft,
        ):
            copy = Path(draft) / "run"
            shutil.copytree(self._path(), copy, ignore=shutil.ignore_patterns(".lock", "bank"))
            copy.rename(target)

    def leaderboard(self) -> pd.DataFrame:
        """What was tried and what won: finalists first, by rank."""
        return pd.DataFrame(self.leaderboard_json()["rows"])

    def leaderboard_json(self) -> dict[str, Any]:
        """The leaderboard as plain data; see `polymix.search.leaderboard`."""
        with RunFolder.open(self._path()) as folder:
            config = self._config(folder)
            rows, epochs = [], []
            if config.ledger or folder.ledger_path.exists():
                with Ledger.open(config.ledger or folder.ledger_path, read_only=True) as ledger:
                    rows = [trial_row(r.trial, r.role, r.origin) for r in ledger.rows()]
                    epochs = ledger.epochs("search")
            metrics = None if folder.metrics is None else dict(folder.metrics)
            board = leaderboard(metrics, rows, config.metric, epochs)
            return {**board, "status": folder.status, "run": str(folder.path)}

    def evaluate(
        self, data: Data | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Score on the run's test rows, once the choice is made; written to `evaluation.json`.

        Args:
            data: where the run's data were an object, the same ones; else, rows of one's own (a
                table, or a dataset's folder or name), on which the model alone is scored, and
                nothing is written.
            progress: see `fit`.
        """
        with RunFolder.open(self._path(), write=True) as folder:
            if folder.status != "finished":
                raise RunFolderError(
                    f"{folder.path}: the run is not finished, and the test rows stay sealed until "
                    f"it is: `polymix resume {folder.path}` goes on with it"
                )
            if isinstance(data, str | Path | pd.DataFrame):
                data = self._own(folder, data, progress) or self._opened(folder, data, progress)
                if not is_own(folder, data):
                    served = self._served(folder)
                    given = on_schema(data, served.schema)
                    every = np.arange(len(given))
                    return evaluate_rows(folder, served, labelled(given, every, GIVEN))
            rows = self._data(folder, data or self._dataset, progress)
            return evaluate_run(folder, rows, self._device())

    def explain(
        self, data: Data | None = None, *, rows: int = MOST, progress: Progress | None = None
    ) -> dict[str, Any]:
        """How much each modality matters, and whether fusion helped; see `polymix.runs.explain`.

        Args:
            data: a table, a dataset or its folder or name; the run's own validation rows where
                not given.
            rows: at most so many are drawn.
            progress: see `fit`.
        """
        with RunFolder.open(self._path()) as folder:
            served = self._served(folder)
            scored = self._scored(folder, served, data, rows, progress)
            return explain_run(folder, served, scored, progress)

    def robustness(
        self, data: Data | None = None, *, rows: int = MOST, progress: Progress | None = None
    ) -> dict[str, Any]:
        """How the score holds up as modalities get noisier or fewer; arguments as in `explain`."""
        with RunFolder.open(self._path()) as folder:
            served = self._served(folder)
            scored = self._scored(folder, served, data, rows, progress)
            return robustness_run(folder, served, scored, progress)

    def export_onnx(
        self, path: str | Path, data: Data | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Write the model as an ONNX file, once it predicts alike; see `polymix.runs.export`.

        Args:
            path: the file.
            data: rows on which the two are compared; the run's own validation rows where not given.
            progress: see `fit`.
        """
        with RunFolder.open(self._path()) as folder:
            served = self._served(folder)
            if data is None:
                rows = self._scored(folder, served, None, MOST, progress)
            else:
                given = on_schema(self._opened(folder, data, progress), served.schema)
                rows = Rows(given, np.arange(len(given)), GIVEN, len(given))
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
            rows = self._data(folder, data or self._dataset, progress)
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
            progress: see `fit`.
        """
        with RunFolder.open(self._path()) as folder:
            served = self._served(folder)
            if isinstance(data, Mapping):
                return predict_arrays(served.model, served.schema, data, present, served.device)
            given = on_schema(self._opened(folder, data, progress), served.schema)
        return served.predict(given, np.arange(len(given)))

    def predict(
        self,
        data: Data | Mapping[str, np.ndarray | None],
        present: Mapping[str, np.ndarray] | None = None,
        *,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Class names `(N,)`, label sets `(N, L)` bool, or values `(N,)`; see `predict_proba`."""
        return self._said(self.predict_proba(data, present, progress=progress))

    def predictions(self, data: Data, *, progress: Progress | None = None) -> pd.DataFrame:
        """What `predict` and `predict_proba` say, a row for each row; see `predictions_frame`."""
        probabilities = self.predict_proba(data, progress=progress)
        with RunFolder.open(self._path()) as folder:
            target = folder.schema.target
        return predictions_frame(target, self._said(probabilities), probabilities)

    # Helpers.

    def _said(self, probabilities: np.ndarray) -> np.ndarray:
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

    def _config(self, folder: RunFolder) -> RunConfig:
        return RunConfig.parse(dict(folder.config), str(folder.path / "config.yaml"))

    def _served(self, folder: RunFolder) -> Served:
        return Served.of(folder, self._device())

    def _opened(self, folder: RunFolder, data: Data, progress: Progress | None) -> Dataset:
        """Rows that need not be the run's own."""
        if isinstance(data, Dataset):
            return data
        return open_rows(folder, self._config(folder), data, progress)

    def _own(self, folder: RunFolder, data: Data, progress: Progress | None) -> Dataset | None:
        """The run's own table, with its splits, where that is what is given."""
        table = self._config(folder).source.table
        if table is None or isinstance(data, Dataset):
            return None
        path = table.get("path")
        if isinstance(data, pd.DataFrame):
            with contextlib.suppress(PolymixError):  # another frame is none of the run's
                return self._data(folder, data, progress) if path is None else None
            return None
        same = path is not None and Path(data).exists() and Path(data).samefile(path)
        return self._data(folder, None, progress) if same else None

    def _scored(
        self,
        folder: RunFolder,
        served: Served,
        data: Data | None,
        most: int,
        progress: Progress | None,
    ) -> Rows:
        """Labelled rows: those given, or, of the run's own data, the validation rows."""
        if most < 1:
            raise UsageError(f"--rows {most}: one row at least is scored")
        opened = None
        if data is not None:
            opened = self._own(folder, data, progress) or self._opened(folder, data, progress)
        if opened is None or is_own(folder, opened):
            own = self._data(folder, opened or self._dataset, progress)
            dataset = on_schema(own, served.schema)
            return labelled(dataset, dataset.split.val, "validation").drawn(most)
        dataset = on_schema(opened, served.schema)
        return labelled(dataset, np.arange(len(dataset)), GIVEN).drawn(most)

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
        tuning: pd.DataFrame | None = None,
    ) -> Dataset:
        config = self._config(folder)
        source = config.source
        if source.table is not None and (given is None or isinstance(given, pd.DataFrame)):
            given = reopen_table(source.table, given, str(folder.path), progress, tuning)
        if isinstance(given, pd.DataFrame):
            raise UsageError(f"the data of {folder.path} were no table")
        if given is None:
            if not source.reopen:
                raise UsageError(f"the data of {folder.path} were an object: give them again")
            raw = None if source.raw is None else Path(source.raw)
            given = open_dataset(
                source.name,
                raw=raw,
                options=source.options,
                progress=progress,
                fingerprint=dict(folder.description["data"]).get("fingerprint"),
            )
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
