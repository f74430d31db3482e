"""A toy dataset of any of four modalities, the last of which some rows lack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import stratified_codes

MODALITIES: dict[str, Modality] = {
    "image": Modality(name="image", kind=Kind.IMAGE, shape=(1, 8, 8), dtype="uint8"),
    "series": Modality(name="series", kind=Kind.TIMESERIES, shape=(6, 3), dtype="float32"),
    "table": Modality(name="table", kind=Kind.TABULAR, shape=(5,), dtype="float32"),
    "vectors": Modality(name="vectors", kind=Kind.FEATURES, shape=(4, 6), dtype="float32"),
}


def toy_dataset(
    rows: int = 200,
    modalities: Sequence[str] = ("image", "series", "table"),
    *,
    absent: float = 0.2,
    classes: int = 3,
    task: Task = Task.MULTICLASS,
    noise: float = 1.5,
    seed: int = 0,
) -> Dataset:
    """Rows whose target shows in every modality, through noise.

    Args:
        rows: how many; about a fifth are validation rows, and a fifth test rows.
        modalities: of `image`, `series`, `table` and `vectors`.
        absent: share of the rows that lack the last modality, where there are several.
        classes: of the target; two for a binary one, one for a regression's.
        task: what is predicted.
        noise: standard deviation of the noise, where the signal's is about 1.
        seed: of everything.
    """
    rng = seeds.stream(seed, "toy dataset")
    names = tuple(f"c{i}" for i in range(classes)) if task is not Task.REGRESSION else ()
    schema = Schema(
        modalities=tuple(MODALITIES[name] for name in modalities),
        target=Target(name="y", task=task, classes=names),
    )
    hidden = rng.standard_normal((rows, classes))
    targets: np.ndarray = hidden.argmax(1)
    if task is Task.MULTILABEL:
        targets = (hidden > 0).astype(np.float32)
    elif task is Task.REGRESSION:
        targets = hidden[:, 0].astype(np.float32) * 3 + 10
    arrays: dict[str, np.ndarray] = {}
    for name in modalities:
        shape = MODALITIES[name].shape
        signal = hidden @ rng.standard_normal((classes, int(np.prod(shape))))
        array = (signal + noise * rng.standard_normal(signal.shape)).reshape(rows, *shape)
        if name == "image":
            array = np.clip(128 + 30 * array, 0, 255)
        arrays[name] = array.astype(MODALITIES[name].dtype)
    present = np.ones((rows, len(modalities)), bool)
    if len(modalities) > 1:
        present[:, -1] = rng.random(rows) >= absent
    codes = stratified_codes(targets, 0.2, 0.2, seed)
    return Dataset.from_arrays("toy", schema, arrays, targets, codes, present)
