"""The Python front door: a run is made, or gone on with, and used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from sklearn.utils import Tags, TargetTags

from polymix.data.dataset import Dataset
from polymix.datasets import Progress
from polymix.errors import RunFolderError, UsageError, did_you_mean
from polymix.runs import predict as predicting
from polymix.runs import search as searching
from polymix.runs.evaluation import evaluate
from polymix.runs.explain import explain
from polymix.runs.export import export_run
from polymix.runs.leaderboard import board_of
from polymix.runs.linear_probe import linear_probe
from polymix.runs.open_run import OpenRun
from polymix.runs.options import FitOptions, checked_options
from polymix.runs.paths import copy_run
from polymix.runs.predict import Rows
from polymix.runs.python_names import check_keywords, describe_keywords, named_as_in_python
from polymix.runs.request import Request
from polymix.runs.robustness import robustness
from polymix.runs.rows import MAX_EXPLAINED_ROWS
from polymix.runs.run_data import Data
from polymix.search.callbacks import Callback
from polymix.search.protocol import Strategy
from polymix.tables.join import MoreTables


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

    Examples:
        >>> predictor = Predictor().fit("demo", time_limit=120)      # doctest: +SKIP
        >>> predictor.leaderboard()                                  # doctest: +SKIP
        >>> predictor.evaluate()["metrics"]["accuracy"]              # doctest: +SKIP
    """

    @named_as_in_python()
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
        _, wrong = checked_options({"jobs": jobs})
        if wrong:
            raise UsageError(wrong)
        self._params = {"label": label, "problem_type": problem_type, "eval_metric": eval_metric,
                        "path": path, "device": device, "jobs": jobs}  # fmt: skip
        self.label, self.problem_type, self.eval_metric = label, problem_type, eval_metric
        self.path = None if path is None else Path(path)
        self.device, self.jobs = device, jobs
        self._ledger: str | None = None  # where it is, if a database outside of the run folder
        self._place: str | Path | None = None  # of its data, where they were moved
        self._dataset: Dataset | None = None  # the run's own, where it is still open
        self._opened: OpenRun | None = None

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

    @named_as_in_python()
    def fit(
        self,
        train_data: Data,
        tuning_data: str | Path | pd.DataFrame | None = None,
        test_data: str | Path | pd.DataFrame | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
        **options: Unpack[FitOptions],
    ) -> Predictor:
        """Search, compare, train, choose; the run folder is `self.path`.

        Args:
            train_data: a dataset's name, a table's file, a `DataFrame`, or a `Dataset`; it has its
                own validation and test rows, or they are drawn from it.
            tuning_data: a table of the rows that validate, with the columns of `train_data`, a
                table as well: all of that is then trained on, and none of it is sealed.
            test_data: a table of the sealed rows, alike: `evaluate` scores on them, and they
                choose nothing; no row of `train_data` is sealed then.
            callbacks: watch the run.
            progress: called as `progress(done, total, what)` while a dataset is built.
            options: see below; `strategy` may also be a strategy object.

        Raises:
            PolymixError: something cannot be used; nothing was written.

        Options:
        """
        check_keywords(options)
        own = {"target": self.label, "problem": self.problem_type, "metric": self.eval_metric,
               "device": self.device, "jobs": self.jobs}  # fmt: skip
        request = Request.checked(
            train_data,
            {**own, **options},
            named=MoreTables(tuning_data, test_data),
            path=self.path,
        )
        with request.reserved() as held:
            self._dataset = searching.search(held, callbacks, progress)
        self.path, self._ledger, self._opened = held.path, held.asked.ledger, None
        self._place = None
        return self

    @classmethod
    @named_as_in_python()
    def resume(
        cls,
        path: str | Path,
        data: str | Path | Dataset | pd.DataFrame | None = None,
        tuning_data: pd.DataFrame | None = None,
        test_data: pd.DataFrame | None = None,
        *,
        strategy: Strategy | None = None,
        ledger: str | None = None,
        allow_download: bool = False,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> Predictor:
        """Go on with a run that was interrupted; a finished one is returned as it is.

        Args:
            path: the run folder.
            data: its data, if it was given as an object; or their new place, if they were moved.
            tuning_data: its tuning data, if they were a frame.
            test_data: its test data, if they were a frame.
            strategy: its strategy, if that was of a class polymix does not know.
            ledger: see `load`.
            allow_download: fetch pretrained models that it names and are not here.
            callbacks: watch the run.
            progress: see `fit`.

        Raises:
            RunFolderError: it is no run folder, or belongs to other data.
        """
        place = data if isinstance(data, str | Path) else None
        predictor = cls.load(path, ledger=ledger, data=place)
        predictor._dataset = searching.resume(
            predictor._run, None if isinstance(data, str | Path) else data,
            MoreTables(tuning_data, test_data),
            strategy=strategy, allow_download=allow_download,
            callbacks=callbacks, progress=progress,
        )  # fmt: skip
        return predictor

    @classmethod
    @named_as_in_python()
    def load(
        cls, path: str | Path, *, ledger: str | None = None, data: str | Path | None = None
    ) -> Predictor:
        """Open a run folder. Nothing in it is executed, and no path in it leads outside.

        Args:
            path: the run folder.
            ledger: its ledger's address, where that is a database outside of the folder: said by
                whoever trusts it, not by the folder alone.
            data: where its table, or its raw files, lie now, where they were moved.

        Raises:
            RunFolderError: it is no run folder, or something in it cannot be trusted.
            UsageError: nothing is where the data are said to be.
        """
        run = OpenRun.open(path, ledger=ledger, data=data)
        label, config = run.folder.schema.target.name, run.config
        predictor = cls(
            label, eval_metric=config.metric, path=path, device=str(run.device), jobs=config.jobs
        )
        predictor._ledger, predictor._opened, predictor._place = ledger, run, data
        return predictor

    @property
    def _run(self) -> OpenRun:
        """The run, opened once it is finished; until then it changes, and is opened each time.

        Raises:
            RunFolderError: nothing was fitted, or it is no run folder.
        """
        if self.path is None:
            raise RunFolderError("nothing was fitted yet: call fit, or load a run folder")
        kept = self._opened
        if kept is None or not kept.finished or kept.path != self.path:
            kept = OpenRun.open(
                self.path, device=self.device, ledger=self._ledger, data=self._place
            )
        kept.own = self._dataset
        self._opened = kept
        return kept

    @property
    def classes_(self) -> np.ndarray:
        """The classes or labels, in the order of `predict_proba`'s columns.

        Raises:
            AttributeError: nothing was fitted, or a regression.
        """
        if not self.__sklearn_is_fitted__():
            raise AttributeError("nothing was fitted yet, so that there are no classes")
        if not self._run.target.classes:
            raise AttributeError("a regression has no classes")
        return predicting.classes(self._run)

    def save(self, path: str | Path) -> None:
        """Copy the run folder.

        Raises:
            RunFolderError: `path` exists, or nothing was fitted.
        """
        copy_run(self._run.folder, Path(path))

    def leaderboard(self) -> pd.DataFrame:
        """What was tried and what won: finalists first, by rank."""
        return pd.DataFrame(self.leaderboard_json()["rows"])

    def leaderboard_json(self) -> dict[str, Any]:
        """The leaderboard as plain data; see `polymix.runs.leaderboard`."""
        return board_of(self._run)

    @named_as_in_python()
    def evaluate(
        self,
        data: Data | None = None,
        *,
        tuning_data: pd.DataFrame | None = None,
        test_data: pd.DataFrame | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Score on the run's test rows, once the choice is made; written to `evaluation.json`.

        Args:
            data: where the run's data were an object, the same ones; else, rows of one's own (a
                table, or a dataset's folder or name), on which the model alone is scored, and
                nothing is written.
            tuning_data: its tuning data, where they were a frame, and so were the data.
            test_data: its test data, where they were a frame.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        return evaluate(self._run, data, progress, MoreTables(tuning_data, test_data))

    @named_as_in_python()
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
        return explain(self._run, data, rows=rows, progress=progress)

    @named_as_in_python()
    def robustness(
        self,
        data: Data | None = None,
        *,
        rows: int = MAX_EXPLAINED_ROWS,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """How the score holds up as modalities get noisier or fewer; arguments as in `explain`."""
        return robustness(self._run, data, rows=rows, progress=progress)

    @named_as_in_python()
    def export_onnx(
        self, path: str | Path, data: Data | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Export to ONNX, after checking that it gives the same predictions.

        Args:
            path: the file to write.
            data: rows on which the two are compared; the run's own validation rows where not given.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        return export_run(self._run, Path(path), data, progress)

    @named_as_in_python()
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
        return linear_probe(self._run, data, epochs=epochs, callbacks=callbacks, progress=progress)

    @named_as_in_python()
    def predict_proba(
        self,
        data: Rows,
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
        return predicting.predict_proba(self._run, data, present, progress)

    @named_as_in_python()
    def predict(
        self,
        data: Rows,
        present: Mapping[str, np.ndarray] | None = None,
        *,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Classes `(N,)`, label sets `(N, L)` bool, or values `(N,)`; see `predict_proba`.

        Classes are of the type that they have in the table that was fitted: text, int, float, bool.
        """
        return predicting.predict(self._run, data, present, progress)

    @named_as_in_python()
    def predictions(
        self, data: Data, *, keep: Sequence[str] = (), progress: Progress | None = None
    ) -> pd.DataFrame:
        """What `predict` and `predict_proba` say, a row for each row; see `predictions_frame`.

        Args:
            data: a table, or a dataset or its folder or name.
            keep: columns of the table that stand before the predictions, such as an id.
            progress: called as `progress(done, total, what)` while rows are read.
        """
        return predicting.predictions(self._run, data, keep=keep, progress=progress)

    @named_as_in_python()
    def score(self, data: Rows, y: np.ndarray | None = None) -> float:
        """The metric on rows, higher is better.

        Args:
            data: as `predict_proba` takes them.
            y: what is right: class names `(N,)`, label sets `(N, L)`, or values `(N,)`; a
                dataset has its own.

        Raises:
            UsageError: `y` is missing, or names classes that were not trained.
        """
        return predicting.score(self._run, data, y)


describe_keywords(Predictor.fit)
