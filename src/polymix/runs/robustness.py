"""How the score holds up: each modality made noisier, or taken from a growing share of the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality
from polymix.datasets import Progress
from polymix.runs.asked import Asked, asked_of
from polymix.runs.open_run import OpenRun
from polymix.runs.rows import MAX_EXPLAINED_ROWS, GivenRows
from polymix.runs.run_data import Data
from polymix.scoring.calibration import for_metric
from polymix.scoring.intervals import Predictions, Referee, interval_json

SCHEMA_VERSION = 1
NOISE = (0.25, 0.5, 1.0, 2.0)
"""Standard deviations of the noise, in those of the feature over the training rows."""
SHARES = (0.1, 0.25, 0.5, 0.75)
"""Shares of a text's tokens that noise puts others in the place of."""
DROPPED = (0.25, 0.5, 0.75, 1.0)
"""Shares of the rows from which a modality is taken."""
CHUNK = 256


@dataclass(frozen=True)
class Case:
    """One way to make one modality worse.

    Attributes:
        modality: which.
        how: `noise` or `dropped`.
        level: how much of it.
        unit: of the level.
    """

    modality: str
    how: str
    level: float
    unit: str


def cases(asked: Asked) -> list[Case]:
    """Every case, for the modalities that the model reads."""
    found = []
    for name in asked.reads:
        if asked.schema[name].kind is Kind.TEXT:
            found += [Case(name, "noise", level, "share of tokens") for level in SHARES]
        else:
            found += [Case(name, "noise", level, "training std") for level in NOISE]
        found += [Case(name, "dropped", level, "share of rows") for level in DROPPED]
    return found


def robustness(
    run: OpenRun,
    data: Data | None = None,
    *,
    rows: int = MAX_EXPLAINED_ROWS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The model's score in every case, and how far it fell.

    Args:
        run: whose model it is.
        data: rows of one's own; the run's own where not given: see `asked_of`.
        rows: at most so many are drawn.
        progress: called as `progress(done, total, what)`.

    Returns:
        `{schema_version, split, n, of, model, metric, score, rows: [{modality, how, level, unit,
        score, change}]}`, each score `{value, ci}`; `change` is paired by row.
    """
    metric, asked = run.metric, asked_of(run, data, progress, rows)
    scored = asked.rows
    referee = Referee(metric, scored.targets)
    target = asked.schema.target
    found = asked.predict(scored.dataset, scored.index)
    clean = Predictions("as they are", for_metric(metric, target, found))
    every, told = cases(asked), []
    for done, case in enumerate(every):
        if progress is not None:
            progress(done, len(every), "worse inputs")
        key = f"{case.modality} {case.how} {case.level}"
        worse = Predictions(key, for_metric(metric, target, predict_worse(asked, case)))
        told.append(
            {
                "modality": case.modality,
                "how": case.how,
                "level": case.level,
                "unit": case.unit,
                "score": interval_json(referee.combined([(1.0, worse)])),
                "change": interval_json(referee.combined([(1.0, worse), (-1.0, clean)])),
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "split": scored.split,
        "n": len(scored.index),
        "of": scored.of,
        "model": asked.told,
        "metric": metric.name,
        "score": interval_json(referee.combined([(1.0, clean)])),
        "rows": told,
    }


def predict_worse(asked: Asked, case: Case) -> np.ndarray:
    """Predictions `(N, K)` with one modality made worse."""
    rows = asked.rows
    if case.how == "dropped":
        return asked.predict(dropped(rows, case), rows.index)
    spread = deviations(rows, asked.schema[case.modality])
    parts = []
    for start in range(0, len(rows.index), CHUNK):
        index = rows.index[start : start + CHUNK]
        noise = seeds.stream(0, "noise", case.modality, start)
        worse = noisy(rows.dataset, index, case, spread, noise)
        parts.append(asked.predict(worse, np.arange(len(index)), origin=index))
    return np.concatenate(parts)


def dropped(rows: GivenRows, case: Case) -> Dataset:
    """The dataset with the modality absent from a share of the rows; a larger share has them all.

    The share is of the rows that have it.
    """
    column = rows.dataset.schema.index(case.modality)
    having = rows.index[rows.dataset.present[rows.index, column]]
    order = seeds.stream(0, "drop", case.modality).permutation(having)
    present = rows.dataset.present.copy()
    present[order[: round(case.level * len(order))], column] = False
    return replace(rows.dataset, present=present)


def deviations(rows: GivenRows, modality: Modality) -> np.ndarray:
    """The features' standard deviations over training rows, to be broadcast over a row.

    Where the numbers were scaled when they were read, there are none kept: then those of the rows
    at hand.
    """
    if modality.kind is Kind.TEXT:
        return np.ones(1)
    column = rows.dataset.schema.index(modality.name)
    if modality.statistics is not None:
        found = np.array(modality.statistics.std)
    else:
        having = rows.index[rows.dataset.present[rows.index, column]]
        values = np.asarray(rows.dataset.arrays[modality.name][having], np.float64)
        found = values.std(0) if len(having) else np.ones(modality.shape)
        return np.asarray(found)
    planes = modality.kind in (Kind.IMAGE, Kind.AUDIO)
    return found.reshape(-1, 1, 1) if planes else found


def noisy(
    dataset: Dataset,
    index: np.ndarray,
    case: Case,
    spread: np.ndarray,
    rng: np.random.Generator,
) -> Dataset:
    """Those rows alone, with noise on the modality, in the dtype that it has."""
    modality = dataset.schema[case.modality]
    arrays = {name: np.asarray(array[index]) for name, array in dataset.arrays.items()}
    change: Callable[..., np.ndarray] = _other_tokens if modality.vocabulary else _other_numbers
    arrays[case.modality] = change(arrays[case.modality], modality, case.level, spread, rng)
    return replace(
        dataset, arrays=arrays, present=dataset.present[index], targets=dataset.targets[index]
    )


def _other_tokens(
    raw: np.ndarray,
    modality: Modality,
    level: float,
    spread: np.ndarray,  # noqa: ARG001
    rng: np.random.Generator,
) -> np.ndarray:
    """A share of the tokens replaced by any others; padding stays padding."""
    assert modality.vocabulary is not None
    others = rng.integers(min(1, modality.vocabulary - 1), modality.vocabulary, raw.shape)
    hit = (rng.random(raw.shape) < level) & (raw != 0)
    return np.where(hit, others, raw).astype(raw.dtype)


def _other_numbers(
    raw: np.ndarray, modality: Modality, level: float, spread: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Normal noise added; integers are rounded, and stay within what their dtype holds."""
    x = raw.astype(np.float64) + level * spread * rng.standard_normal(raw.shape)
    if raw.dtype.kind in "iu":
        limits = np.iinfo(raw.dtype)
        x = np.clip(np.rint(x), limits.min, limits.max)
    x = x.astype(raw.dtype)
    if modality.padded:  # the first column says which tokens are there
        x[..., 0] = raw[..., 0]
        x = np.where(raw[..., :1] != 0, x, raw)
    return x
