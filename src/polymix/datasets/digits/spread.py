"""Stratified draws of any size from one order."""

from __future__ import annotations

import numpy as np


def spread(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of all rows, `(N,)`, of which every beginning is stratified.

    The rows of a class stand at even distances, so that the first `n` hold each class in its
    proportion, within one row.
    """
    position = np.empty(len(labels))
    for digit in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == digit))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")
