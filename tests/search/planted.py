"""Problems whose good answer is known, for BM-NAS: tokens are given, and the label is a function
of them that one choice expresses and the others do not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from polymix import seeds
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import stratified_codes
from polymix.nn.encoder import Encoder
from polymix.nn.tokens import Tokens
from polymix.search.bm_nas import BMNAS
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.feed import Feed, FeedTrainer
from polymix.train.metrics import METRICS

from .common import task

LENGTH = 4


class Given(Encoder):
    """A series, as it is."""

    name = "given"
    VERSION = 1
    kinds = frozenset({Kind.TIMESERIES})
    presets = {"small": {}}  # noqa: RUF012

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.widths = (modality.shape[1],)

    def features(self, x):
        return [Tokens(x)]


def dataset_of(arrays, target, seed) -> Dataset:
    """Half of the rows are training rows, the other half validation rows."""
    schema = Schema(
        modalities=tuple(
            Modality(name=n, kind=Kind.TIMESERIES, shape=a.shape[1:], dtype="float32")
            for n, a in arrays.items()
        ),
        target=Target(name="y", task=Task.MULTICLASS, classes=("no", "yes")),
    )
    codes = stratified_codes(target, 0.4, 0.05, seed)
    given = {n: a.astype(np.float32) for n, a in arrays.items()}
    return Dataset.from_arrays("planted", schema, given, target, codes)


def above(score):
    return (score > np.median(score)).astype(np.int64)


def gated(rows, seed):
    """LinearGLU: x ⊙ (2σ(4y) - 1), read with signs that differ by channel and position."""
    rng = seeds.stream(seed, "gated")
    a, b = (rng.standard_normal((rows, 2, 3)) for _ in "ab")
    signs = rng.choice([-1, 1], (2, 3))
    gate = 2 / (1 + np.exp(-4 * b)) - 1
    return dataset_of({"a": a, "b": b}, above((a * gate * signs).sum((1, 2))), seed)


def tokens_of(rng, rows):
    """Tokens, a key and a value each, in any order."""
    order = np.argsort(rng.random((rows, LENGTH)), 1)
    values = rng.choice([-1.0, 1.0], (rows, LENGTH))
    return order, values, np.concatenate([np.eye(LENGTH)[order], values[..., None]], -1)


def found_by(asked, order, values):
    """The value whose key is asked for, as a label."""
    found = values[np.arange(len(order)), (order == asked[:, None]).argmax(1)]
    return (found > 0).astype(np.int64)


def attended(rows, seed):
    """Attention: the first token of x asks among y's keys. What its others ask does not count."""
    rng = seeds.stream(seed, "attended")
    order, values, tokens = tokens_of(rng, rows)
    asked = rng.integers(LENGTH, size=(rows, LENGTH))
    given = {"a": np.eye(LENGTH)[asked], "b": tokens}
    blurred = {n: x + 0.05 * rng.standard_normal(x.shape) for n, x in given.items()}
    return dataset_of(blurred, found_by(asked[:, 0], order, values), seed)


def doubled(rows, seed):
    """The same input twice: x's first token asks for one of its others; y is noise."""
    rng = seeds.stream(seed, "doubled")
    order, values, tokens = tokens_of(rng, rows)
    asked = rng.integers(LENGTH, size=rows)
    target, flag = found_by(asked, order, values), np.zeros((rows, LENGTH, 1))
    first = np.concatenate([np.eye(LENGTH)[asked], flag[:, 0], flag[:, 0] + 1], -1)
    tokens = np.concatenate([tokens, flag], -1)
    a = np.concatenate([first[:, None], tokens], 1)
    a = a + 0.05 * rng.standard_normal(a.shape)
    return dataset_of({"a": a, "b": rng.standard_normal(a.shape)}, target, seed)


def search(make: Callable[[int, int], Dataset], seed: int, rows: int, **options) -> tuple:
    """A search on a planted problem: the strategy at its end, and its epochs' records."""
    data = make(rows, seed)
    strategy = BMNAS(backbones=dict.fromkeys(data.schema.names, "given"), **options)
    strategy.setup(task(data.schema, rows=len(data.split.train), seed=seed))
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "l.sqlite") as ledger:
        evaluator = Evaluator(data, METRICS["accuracy"], ledger, Path(folder) / "bank")
        trainer = FeedTrainer(evaluator, seed)
        source = RowSource(data, evaluator.device)
        train, val = (Feed(source, r, seed) for r in (data.split.train, data.split.val))
        records = [
            strategy.epoch(trainer, train, val) for _ in range(strategy.start(None, trainer))
        ]
    return strategy, records
