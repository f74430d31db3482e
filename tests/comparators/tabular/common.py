"""Rows of words, categories, numbers and a series, some of them absent, whose target shows."""

from __future__ import annotations

import numpy as np
import torch

from polymix.comparators.tabular import model as _model  # noqa: F401 - registers what builds
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.genotype import Block
from polymix.nn.build import build_seeded

CPU = torch.device("cpu")
VOCABULARY = 60

WORDS = Modality(name="words", kind=Kind.TEXT, shape=(8,), dtype="int32", vocabulary=VOCABULARY)
TABLE = Modality(
    name="t", kind=Kind.TABULAR, shape=(7,), dtype="float32", scaled=True, categories=((2, 4),)
)
SERIES = Modality(name="s", kind=Kind.TIMESERIES, shape=(5, 2), dtype="float32")

VECTORS = (
    ("words", Block.of("token-ids")), ("t", Block.of("columns")), ("s", Block.of("summary")),
)  # fmt: skip
TREES = (("words", Block.of("tf-idf", dims=6)), ("t", Block.of("codes")),
         ("s", Block.of("summary")))  # fmt: skip
DENSE = (("words", Block.of("tf-idf", dims=6)), ("t", Block.of("columns")),
         ("s", Block.of("summary")))  # fmt: skip

FOREST = Block.of("extra-trees", trees=15, leaves=200)
BOOSTED = Block.of("gradient-boosting", rounds=15, leaves=7)
KERNEL = Block.of("kernel", rows=200)
LINEAR = Block.of("linear")
NETWORK = Block.of("network", channels=16, width=16, members=3, frequencies=4, epochs=5)


def made(views, learner, **fields) -> TabularGenotype:
    return TabularGenotype(views=views, learner=learner, **fields)


STACKED = made(TREES, FOREST, base=(made(VECTORS, LINEAR), made(VECTORS, KERNEL)))
EVERY = {
    "linear": made(VECTORS, LINEAR),
    "squares": made(VECTORS, Block.of("linear", loss="squares")),
    "kernel": made(VECTORS, KERNEL),
    "forest": made(TREES, FOREST),
    "boosted": made(TREES, BOOSTED),
    "network": made(DENSE, NETWORK),
    "stacked": STACKED,
}


def rows_of(task=Task.REGRESSION, rows=150, seed=0, absent=0.15, noise=0.3, weights=()) -> Dataset:
    """A fifth each are validation and test rows."""
    rng = np.random.default_rng(seed)
    classes = {Task.BINARY: 2, Task.REGRESSION: 1}.get(task, 3)
    hidden = rng.standard_normal((rows, classes))
    ids = rng.integers(0, VOCABULARY - 10, (rows, 8))
    ids[:, 0] = VOCABULARY - 10 + np.clip(np.round(2 * hidden[:, 0] + 4), 0, 9)
    table = np.zeros((rows, 7))
    table[:, :2] = hidden @ rng.standard_normal((classes, 2)) + noise * rng.standard_normal(
        (rows, 2)
    )
    table[np.arange(rows), 2 + rng.choice(4, rows, p=[0.5, 0.3, 0.15, 0.05])] = 1
    table[:, 6] = rng.random(rows) < 0.2
    series = hidden @ rng.standard_normal((classes, 10)) + noise * rng.standard_normal((rows, 10))
    targets: np.ndarray = hidden.argmax(1)
    if task is Task.MULTILABEL:
        targets = (hidden > 0).astype(np.float32)
    elif task is Task.REGRESSION:
        targets = np.exp(hidden[:, 0] + 2).astype(np.float32)
    names = tuple(f"c{i}" for i in range(classes)) if task is not Task.REGRESSION else ()
    schema = Schema(
        modalities=(WORDS, TABLE, SERIES),
        target=Target(name="y", task=task, classes=names, weights=weights),
    )
    arrays = {
        "words": ids.astype(np.int32),
        "t": table.astype(np.float32),
        "s": series.reshape(rows, 5, 2).astype(np.float32),
    }
    present = rng.random((rows, 3)) >= absent
    codes = (np.arange(rows) % 5 // 3 * (1 + np.arange(rows) % 2)).astype(np.uint8)
    return Dataset.from_arrays("rows", schema, arrays, targets, codes, present)


def fitted(data, genotype, *, seed=0, deadline=None, train=None, val=None):
    """The model, what supplies rows, and whether there was time for all."""
    model = build_seeded(genotype, data.schema, seed).eval()
    source = RowSource(data, CPU)
    train = data.split.train if train is None else train
    val = data.split.val if val is None else val
    return model, source, model.fit(source, train, val, seed, deadline)


def said(model, source, rows) -> np.ndarray:
    batch = source.batch(rows)
    with torch.no_grad():
        return model(batch.inputs, batch.present).fused.numpy()


def bits(model) -> dict[str, bytes]:
    return {n: t.contiguous().numpy().tobytes() for n, t in model.state_dict().items()}
