"""Rows that a model was fitted on, found again among rows that it is to be scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from polymix.data.dataset import Dataset
from polymix.runs.open_run import OpenRun
from polymix.runs.rows import GivenRows

CHUNK = 2048


def fitted_among(run: OpenRun, rows: GivenRows) -> int | None:
    """How many rows are, inputs and target, those of a row that the run's model was fitted on.

    Args:
        run: whose model scores the rows.
        rows: labelled, and none of the run's dataset.

    Returns:
        The number; none where the run's own rows are not at hand: they are not read again for it.
    """
    own = run.kept()
    theirs = [(m.name, m.shape, m.dtype) for m in rows.dataset.schema.modalities]
    if own is None or [(m.name, m.shape, m.dtype) for m in own.schema.modalities] != theirs:
        return None
    fitted = set(_digests(own, fitted_rows(run, own)))
    return sum(digest in fitted for digest in _digests(rows.dataset, rows.index))


def fitted_rows(run: OpenRun, own: Dataset) -> np.ndarray:
    """The rows of a run's dataset that the model that ships was fitted on."""
    split, metrics = own.split, run.metrics
    refit, folds = metrics.get("refit"), metrics.get("folds")
    development = metrics.get("development")  # fitted on all rows but the sealed ones
    parts = [split.train]
    if folds or refit is not None:
        parts.append(split.val)
    if None not in (refit, development) and refit != development:
        parts.append(split.test.open())
    return np.concatenate(parts)


def _digests(dataset: Dataset, rows: np.ndarray) -> Iterator[bytes]:
    """What stands for a row: all that its modalities hold, which of them it has, its target."""
    names = dataset.schema.names
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        present = dataset.present[some]
        parts = []
        for column, name in enumerate(names):
            values = np.ascontiguousarray(dataset.arrays[name][some])
            values[~present[:, column]] = 0  # what an absent cell holds is no matter
            parts.append(values)
        parts += [present, np.ascontiguousarray(dataset.targets[some])]
        for row in range(len(some)):
            digest = hashlib.blake2b(digest_size=16)
            for part in parts:
                digest.update(part[row].tobytes())
            yield digest.digest()
