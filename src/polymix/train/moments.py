"""Mean and deviation of features over training rows, for models that standardise them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymix.data.batch import Source
from polymix.nn.tokens import Features, Moments

ROWS = 1024


@torch.no_grad()
def moments_of(
    source: Source,
    native: Callable[[Any], Features],
    rows: np.ndarray,
    columns: Mapping[str, int],
) -> Moments:
    """Moments of every feature, pooled, over the rows that have its modality.

    Args:
        source: supplies batches.
        native: a batch's inputs to features.
        rows: which, `(N,)`.
        columns: each modality's column in the presence masks.
    """
    counts: dict[str, int] = dict.fromkeys(columns, 0)
    totals: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for start in range(0, len(rows), ROWS):
        batch = source.batch(rows[start : start + ROWS])
        for name, tokens in native(batch.inputs).items():
            pooled = [t.pooled().double() for t in tokens]
            if batch.present is not None:
                there = batch.present[:, columns[name]]
                pooled = [x[there] for x in pooled]
            counts[name] += len(pooled[0])
            sums = [(x.sum(0), (x * x).sum(0)) for x in pooled]
            so_far = totals.setdefault(name, [(torch.zeros_like(a),) * 2 for a, _ in sums])
            totals[name] = [(a + c, b + d) for (a, b), (c, d) in zip(so_far, sums, strict=True)]
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, sums in totals.items():
        count = max(counts[name], 1)
        means = [(first / count, second / count) for first, second in sums]
        found[name] = [(m, (square - m * m).clamp(min=0).sqrt()) for m, square in means]
    return found
