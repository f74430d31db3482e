"""The Python front door: how a run is made, or gone on with; `TrainedRun` says how it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.utils import Tags, TargetTags

from polymix.data.dataset import Dataset
from polymix.datasets import Progress
from polymix.datasets.own_table import report_of
from polymix.errors import RunFolderError, UsageError, did_you_mean
from polymix.runs.config import RunConfig
from polymix.runs.request import Request
from polymix.runs.run_data import Data, open_own
from polymix.runs.session import Session, default_device
from polymix.runs.trained import TrainedRun
from polymix.search.callbacks import Callback
from polymix.search.driver import Compare
from polymix.search.protocol import Strategy
from polymix.store.run_folder import RunFolder


class Predictor(TrainedRun):
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
        super().__init__(path, device)
        self.label, self.problem_type, self.eval_metric = label, problem_type, eval_metric
        self.jobs = jobs
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

    def fit(
        self,
        train_data: Data,
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
        raise_errors: bool = False,
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
            raise_errors: raise what a candidate raises, with its traceback, in place of writing
                it down as failed: to debug an encoder of your own. All is trained in this process.
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
                raise_errors=raise_errors,
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
        path = request.place(self.path)
        plan = request.resolve(progress)
        report = report_of(plan.dataset)
        for callback in callbacks if report else ():
            callback.on_table(report)
        session = Session.start(path, plan.config, plan.dataset, plan.strategy, callbacks)
        session.raise_errors = request.raise_errors
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
            dataset = open_own(folder, data, progress, tuning_data)
            session = Session.resume(folder, dataset, strategy, callbacks)
            predictor._dataset = dataset
            session.run()
        return predictor

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
            config = RunConfig.of(folder)
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
