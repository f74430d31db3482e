"""Problems whose good answer is known, for BM-NAS.

Tokens are given; the target, a class or a number, is a function of them that some choice expresses,
and others do not. Each takes rows and a seed, and gives a dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from torch import Tensor

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import stratified_codes
from polymix.nn.encoder import Encoder
from polymix.nn.tokens import Tokens

LENGTH = 4


class Given(Encoder):
    """A series, as it is; without weights.

    Args:
        modality: what comes in.
    """

    name: ClassVar[str] = "given"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TIMESERIES})
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"small": {}}  # type: ignore[assignment]

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.widths = (modality.shape[1],)

    def features(self, x: Tensor) -> list[Tokens]:
        """`(B, T, C)` as tokens."""
        return [Tokens(x)]


def dataset_of(
    arrays: Mapping[str, np.ndarray], target: np.ndarray, seed: int, val: float = 0.2
) -> Dataset:
    """So much of the rows are validation rows, a twentieth test rows, the others training rows.

    Args:
        arrays: a series `(N, T, C)` each.
        target: `(N,)`: two classes as int64, or numbers.
        seed: of the split.
        val: share of validation rows.
    """
    numbers = np.issubdtype(target.dtype, np.floating)
    schema = Schema(
        modalities=tuple(
            Modality(name=n, kind=Kind.TIMESERIES, shape=a.shape[1:], dtype="float32")
            for n, a in arrays.items()
        ),
        target=Target(name="y", task=Task.REGRESSION)
        if numbers
        else Target(name="y", task=Task.MULTICLASS, classes=("no", "yes")),
    )
    codes = stratified_codes(target, val, 0.05, seed)
    given = {n: a.astype(np.float32) for n, a in arrays.items()}
    wanted = target.astype(np.float32) if numbers else target
    return Dataset.from_arrays("planted", schema, given, wanted, codes)


def gated(rows: int, seed: int) -> Dataset:
    """LinearGLU: x ⊙ (2σ(4y) - 1), read with the signs of channels."""
    rng = seeds.stream(seed, "gated")
    a, b = (rng.standard_normal((rows, 3)) for _ in "ab")
    target = _above((a * _gate(b)) @ [1, -1, 1])
    return dataset_of({"a": _repeated(rng, a), "b": _repeated(rng, b)}, target, seed, 0.4)


def gates(rows: int, seed: int) -> Dataset:
    """LinearGLU: the number x ⊙ σ(2y), summed with the signs of channels."""
    rng = seeds.stream(seed, "soft")
    a, b = (rng.standard_normal((rows, 2, 8)) for _ in "ab")
    signs = np.resize([1, -1], 8)
    return dataset_of({"a": a, "b": b}, (a / (1 + np.exp(-2 * b)) * signs).sum((1, 2)), seed)


def crossed(rows: int, seed: int) -> Dataset:
    """LinearGLU, hard to find: x ⊙ (2σ(4y) - 1), so that no part of it is linear, as a class."""
    rng = seeds.stream(seed, "glu")
    a, b = (rng.standard_normal((rows, 2, 4)) for _ in "ab")
    return dataset_of({"a": a, "b": b}, _above((a * _gate(b)).sum((1, 2))), seed)


def attended(rows: int, seed: int) -> Dataset:
    """Attention: the first token of y asks among x's keys; its others are empty."""
    rng = seeds.stream(seed, "asked")
    query, tokens, target = _looked_up(rng, rows)
    empty = np.zeros((rows, LENGTH - 1, LENGTH))
    given = {"a": tokens, "b": np.concatenate([query[:, None], empty], 1)}
    given = {n: x + 0.05 * rng.standard_normal(x.shape) for n, x in given.items()}
    return dataset_of(given, target, seed)


def doubled(rows: int, seed: int) -> Dataset:
    """The same input twice: x's first token asks for one of its others; y is noise."""
    rng = seeds.stream(seed, "doubled")
    query, tokens, target = _looked_up(rng, rows)
    tokens = np.concatenate([tokens, np.zeros((rows, LENGTH, 1))], -1)
    first = np.concatenate([query, np.zeros((rows, 1)), np.ones((rows, 1))], -1)
    a = np.concatenate([first[:, None], tokens], 1)
    a = a + 0.05 * rng.standard_normal(a.shape)
    return dataset_of({"a": a, "b": rng.standard_normal(a.shape)}, target, seed)


def squared(rows: int, seed: int) -> Dataset:
    """The same input twice: half of y's channels through the gates of the others; x is noise."""
    rng = seeds.stream(seed, "squared")
    a, b = (rng.standard_normal((rows, 2, 6)) for _ in "ab")
    products = a[..., :3] * _gate(a[..., 3:])
    return dataset_of({"a": b, "b": a}, _above(products.sum((1, 2))), seed)


def kinked(rows: int, seed: int) -> Dataset:
    """ConcatFC, and a layer after it: a number, high where both |x_i - y_i| are large, or neither.

    One hidden layer, what Sum comes to before the head, does not get there. LinearGLU of a Sum with
    itself, which is such a layer as well, does.
    """
    rng = seeds.stream(seed, "p1")
    a, b = (rng.standard_normal((rows, 2, 2)) for _ in "ab")
    large = np.tanh(3 * (np.abs(a - b) - 0.95))
    return dataset_of({"a": a, "b": b}, (large.prod(-1) + 0.3 * large.sum(-1)).sum(1), seed)


def chained(rows: int, seed: int) -> Dataset:
    """A Cell that feeds a Cell: the number x ⊙ σ(4y) ⊙ σ(4z), with the signs of channels.

    Whatever fuses two modalities at a time has no product of three.
    """
    rng = seeds.stream(seed, "chain2")
    a, b, c = (rng.standard_normal((rows, 2, 4)) for _ in "abc")
    gates = (1 + np.exp(-4 * b)) * (1 + np.exp(-4 * c))
    return dataset_of({"a": a, "b": b, "c": c}, (a / gates * [1, -1, 1, -1]).sum((1, 2)), seed)


def _gate(x: np.ndarray) -> np.ndarray:
    gates: np.ndarray = 2 / (1 + np.exp(-4 * x)) - 1
    return gates


def _repeated(rng: np.random.Generator, vectors: np.ndarray) -> np.ndarray:
    """Vectors `(N, D)` as two tokens each, a little blurred."""
    tokens = np.repeat(vectors[:, None], 2, 1)
    blurred: np.ndarray = tokens + 0.05 * rng.standard_normal(tokens.shape)
    return blurred


def _above(score: np.ndarray) -> np.ndarray:
    labels: np.ndarray = (score > np.median(score)).astype(np.int64)
    return labels


def _looked_up(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A query for one of some tokens, in any order; the tokens; the value that it finds."""
    keys = np.eye(LENGTH)
    order = np.argsort(rng.random((rows, LENGTH)), 1)
    values = rng.choice([-1.0, 1.0], (rows, LENGTH))
    asked = rng.integers(LENGTH, size=rows)
    tokens = np.concatenate([keys[order], values[..., None]], -1)
    found = values[np.arange(rows), (order == asked[:, None]).argmax(1)]
    return keys[asked], tokens, (found > 0).astype(np.int64)
