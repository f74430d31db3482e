"""How unsure a quick model is of each training row: the weights of the uncertainty sample.

MixMAS names such a sample as future work. The model is a small random forest on every modality's
raw values, averaged down to a few columns; it is fitted on a random share of the training rows
and asked about all of them. Validation and test rows have no part in it.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Task

COLUMNS = 64
FITTED = 2000
CHUNK = 2048


def uncertainty(dataset: Dataset, seed: int) -> np.ndarray:
    """A weight a training row, `(N,)`: predictive entropy, or the spread of the trees' values."""
    train = dataset.split.train
    x = np.concatenate(
        [_columns(m, dataset.arrays[m.name], train) for m in dataset.schema.modalities], 1
    )
    rng = seeds.stream(seed, "uncertainty")
    fitted = rng.permutation(len(train))[: max(2, min(FITTED, len(train) // 2))]
    y = dataset.targets[train]
    state = int(rng.integers(2**31))
    options = {"n_estimators": 50, "max_depth": 10, "max_features": 0.5, "random_state": state}
    if dataset.schema.target.task is Task.REGRESSION:
        forest = RandomForestRegressor(**options).fit(x[fitted], y[fitted])
        values = np.stack([tree.predict(x) for tree in forest.estimators_])
        return np.asarray(values.std(0))
    labels = y.astype(np.int64)
    classifier = RandomForestClassifier(**options).fit(x[fitted], labels[fitted])
    predicted = classifier.predict_proba(x)
    parts = predicted if isinstance(predicted, list) else [predicted]
    return np.asarray(np.mean([_entropy(p) for p in parts], 0))


def _entropy(p: np.ndarray) -> np.ndarray:
    return np.asarray(-(p * np.log(np.clip(p, 1e-12, None))).sum(1))


def _columns(modality: Modality, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A modality's rows as at most `COLUMNS` numbers each."""
    parts: list[np.ndarray] = []
    for start in range(0, len(rows), CHUNK):
        raw = np.asarray(array[rows[start : start + CHUNK]])
        flat = raw.reshape(len(raw), -1)
        if modality.kind is Kind.TEXT:
            hashed = flat % COLUMNS
            counts = [np.bincount(row, minlength=COLUMNS) for row in hashed]
            parts.append(np.array(counts, np.float32))
            continue
        edges = np.linspace(0, flat.shape[1], min(COLUMNS, flat.shape[1]) + 1).astype(int)
        sums = np.add.reduceat(flat.astype(np.float32), edges[:-1], 1)
        parts.append(sums / np.diff(edges))
    return np.asarray(np.nan_to_num(np.concatenate(parts)))
