"""Several descriptions of one modality, each a feature of its own: the views of fitted models.

A bank can so compute each (modality, view) once for all models that read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polymix import seeds
from polymix.data.batch import Source
from polymix.genotype import Block
from polymix.nn.descriptions import Description
from polymix.nn.encoder import Encoder
from polymix.nn.model import Model
from polymix.nn.tokens import Tokens

FITTED = 4096
"""Rows that descriptions are fitted to, at most."""

CHUNK = 256


class Views(Encoder):
    """Several descriptions of one modality, in order.

    Args:
        parts: the descriptions.
        blocks: what each was built from.
    """

    pads = False

    def __init__(self, parts: Sequence[Description], blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.parts = nn.ModuleList(parts)
        self.widths = tuple(part.channels for part in parts)

    def features(self, x: Tensor) -> list[Tokens]:
        """One token a view, `(B, 1, D)` each."""
        return [part.features(x)[0] for part in self]

    def __iter__(self) -> Iterator[Description]:
        parts: Any = self.parts
        return iter(parts)


@torch.no_grad()
def fit_views(model: Model, source: Source, rows: np.ndarray, seed: int) -> None:
    """Fit a model's views that are not ready to some of these rows, without their targets.

    Args:
        model: whose encoders are `Views`.
        source: supplies batches of raw rows.
        rows: to fit to, `(N,)`; at most `FITTED` of them are read.
        seed: of what is drawn.
    """
    waiting = {
        name: parts
        for name, views in model.encoders.items()
        if isinstance(views, Views) and (parts := [part for part in views if not part.ready])
    }
    if not waiting:
        return
    places = getattr(model, "places", {})
    state = seeds.derive(seed, "views") % 2**31
    drawn = np.sort(seeds.stream(seed, "descriptions").permutation(rows)[:FITTED])
    batches = [source.batch(drawn[i : i + CHUNK]) for i in range(0, len(drawn), CHUNK)]
    for name, parts in waiting.items():
        inputs: list[Any] = [batch.inputs[name] for batch in batches]
        x = torch.cat(inputs)
        if batches[0].present is not None:
            there = [b.present[:, places[name]] for b in batches if b.present is not None]
            x = x[torch.cat(there)]
        for part in parts:
            if len(x):
                part.fit(x, state)
