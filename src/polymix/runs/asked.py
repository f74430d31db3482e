"""Whom a report asks, and on which rows: a model is never asked of rows that it was fitted on.

    chosen on validation rows     those rows, by the model that was trained without them
    chosen out of fold            the sealed rows, by the model that was fitted without them
    … where none are sealed       every row, each by a model fitted again without the row's fold
    rows of another table         those rows, by the model that ships

Reports come after the choice and change nothing, so that they may look at sealed rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from polymix.data.dataset import Dataset
from polymix.data.schema import Schema
from polymix.datasets import Progress
from polymix.errors import RunFolderError, UsageError
from polymix.genotype import Genotype
from polymix.nn.model import Model
from polymix.records import Trial
from polymix.runs.inference import Served, on_schema
from polymix.runs.open_run import OpenRun
from polymix.runs.rows import GIVEN, GivenRows, labelled, opened_rows
from polymix.runs.run_data import Data
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.without_fold import trained_without

SHIPPED = "the model that ships"
DEVELOPMENT = "the model that ships, as fitted without these rows"


@dataclass(frozen=True)
class Asked:
    """Models, and the rows that they are asked of.

    Attributes:
        rows: labelled.
        models: one, or one for each fold.
        told: which model it is, in words.
        folds: the fold of each of the dataset's rows `(N,)`, where each has a model of its own.
    """

    rows: GivenRows
    models: tuple[Served, ...]
    told: str
    folds: np.ndarray | None = None

    @property
    def schema(self) -> Schema:
        """What the models were built on."""
        return self.models[0].schema

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that are read, in the schema's order."""
        return self.models[0].reads

    def predict(
        self, dataset: Dataset, rows: np.ndarray, origin: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions `(N, K)`, each by a model that did not see the row.

        Args:
            dataset: the rows, or what was made of them.
            rows: indices into it `(N,)`.
            origin: the rows of `self.rows.dataset` that they were made of `(N,)`; `rows`
                themselves where not given.
        """
        found = np.zeros((len(rows), dataset.schema.target.outputs))
        for model, places in self._each(rows if origin is None else origin):
            found[places] = model.predict(dataset, rows[places])
        return found

    def _each(self, rows: np.ndarray) -> Iterator[tuple[Served, np.ndarray]]:
        """Each model, and which of some rows it is asked of."""
        if self.folds is None:
            yield self.models[0], np.arange(len(rows))
            return
        for fold, model in enumerate(self.models):
            yield model, np.flatnonzero(self.folds[rows] == fold)


def asked_of(run: OpenRun, data: Data | None, progress: Progress | None, most: int) -> Asked:
    """The rows to report on, and who did not see them.

    Args:
        run: whose model it is.
        data: what a user names, if anything.
        progress: called as `progress(done, total, what)` while rows are read and models fitted.
        most: at most so many rows are drawn.

    Raises:
        UsageError: none is to be drawn, or there is no such thing.
        DataError: no row has a label, or the rows are none of the model's.
        RunFolderError: the folder belongs to other data, or lacks a trial; or the search is not
            finished, and the sealed rows stay sealed.
    """
    if most < 1:
        raise UsageError(f"--rows must be at least 1, but got {most}")
    schema = run.served.schema  # before rows are read, which may take long
    opened, own = opened_rows(run, data, progress)
    dataset, split = on_schema(opened, schema), opened.split
    if not own:
        rows = labelled(dataset, np.arange(len(dataset)), GIVEN).drawn(most)
        return Asked(rows, (run.served,), SHIPPED)
    if not run.metrics.get("folds"):
        rows = labelled(dataset, split.val, "validation").drawn(most)
        return _one(run, rows, unvalidated(run, opened))
    if len(split.test):
        check_finished(run)
        rows = labelled(dataset, split.test.open(), "test").drawn(most)
        return _one(run, rows, unsealed(run, opened))
    assert split.folds is not None
    rows = labelled(dataset, split.development, "out-of-fold").drawn(most)
    models = _without_folds(run, opened, int(split.folds.max()) + 1, progress)
    folds = np.full(len(dataset), -1)
    folds[split.development] = split.folds
    told = f"{len(models)} models, each fitted without the rows that it is asked of"
    return Asked(rows, models, told, folds)


def check_finished(run: OpenRun) -> None:
    """Make sure that the choice is made: until then the test rows stay sealed.

    Raises:
        RunFolderError: it is not.
    """
    if not run.finished:
        raise RunFolderError(
            f"{run.path}: the run is not finished, and the test rows stay sealed until "
            f"it is: `polymix resume {run.path}` goes on with it"
        )


def _one(run: OpenRun, rows: GivenRows, model: Served) -> Asked:
    return Asked(rows, (model,), SHIPPED if model is run.served else DEVELOPMENT)


def unsealed(run: OpenRun, dataset: Dataset) -> Served:
    """The model that did not see the sealed rows: what ships may have been fitted on them.

    Raises:
        RunFolderError: its weights are lost.
    """
    key = run.metrics.get("development") or run.metrics.get("refit")
    if key is not None and key != run.metrics.get("development"):
        with run.ledger() as ledger:
            refit = next((t for t in ledger.trials() if t.key == key), None)
        if refit is None or refit.proposal.recipe.sealed:
            key = _chosen(run)
    return _trained(run, dataset, key)


def unvalidated(run: OpenRun, dataset: Dataset) -> Served:
    """The model that was not fitted on the validation rows that chose it: a refit was.

    Raises:
        RunFolderError: its weights are lost.
    """
    return _trained(run, dataset, _chosen(run))


def _chosen(run: OpenRun) -> str | None:
    found = (run.metrics.get("chosen") or {}).get("key")
    return None if found is None else str(found)


def _trained(run: OpenRun, dataset: Dataset, key: str | None) -> Served:
    """The model of a trial; that of the folder where it is the same one."""
    shipped = run.metrics.get("refit") or _chosen(run)
    if key is None or key == shipped:
        return run.served
    with run.ledger() as ledger:
        trial = next((t for t in ledger.trials() if t.key == key), None)
        if trial is None or trial.weights is None:
            raise RunFolderError(
                f"{run.path}: the ledger has no model that was fitted without these rows: "
                "restore it, or run again"
            )
        model = run.evaluator(dataset, ledger).trained(trial)
    return Served(model, run.served.schema, run.device)


def _without_folds(
    run: OpenRun, dataset: Dataset, count: int, progress: Progress | None
) -> tuple[Served, ...]:
    """What was chosen, fitted again without each fold's rows: folds keep no weights."""
    with run.ledger() as ledger:
        chosen, parts = _scored(run, ledger)
        seconds = sum(part.cost.wall_s for part in parts)
        what = f"folds fitted again, which took about {seconds:.0f} s in the search"
        evaluator = run.evaluator(dataset, ledger)
        models = []
        for fold in range(count):
            if progress is not None:
                progress(fold, count, what)
            models.append(_without(evaluator, chosen.proposal.genotype, parts, fold))
    return tuple(Served(model, run.served.schema, run.device) for model in models)


def _scored(run: OpenRun, ledger: Ledger) -> tuple[Trial, list[Trial]]:
    """The trial that was chosen, and those of its parts; itself where it has none."""
    key = _chosen(run)
    every = [t for t in ledger.trials() if t.usable and t.proposal.fidelity.folds]
    chosen = next((t for t in every if t.key == key), None)
    best: dict[Genotype, Trial] = {}
    for trial in every:
        known = best.get(trial.proposal.genotype)
        if known is None or trial.value > known.value:
            best[trial.proposal.genotype] = trial
    parts = [] if chosen is None else list(chosen.proposal.genotype.parts())
    if chosen is None or not set(parts) <= best.keys():
        raise RunFolderError(
            f"{run.path}: the ledger lacks the trial that was chosen: restore it, or run again"
        )
    return chosen, [best[part] for part in parts] or [chosen]


def _without(evaluator: Evaluator, genotype: Genotype, parts: list[Trial], fold: int) -> Model:
    """A genotype's model that did not see a fold's rows, put together from its parts' models."""
    models = [trained_without(evaluator, part.proposal, fold) for part in parts]
    if not genotype.parts():
        return models[0]
    whole = evaluator.model(replace(parts[0].proposal, genotype=genotype, init=()))
    for place, model in enumerate(models):
        whole.take(place, model.state_dict())
    return whole.eval()
