"""Modalities hidden in training, so that a model learns to do without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from polymix.data.batch import Batch


def draw_hidden(
    rows: int, used: Sequence[int], count: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Which modalities of which rows to hide, `(rows, count)` bool.

    Args:
        rows: how many.
        used: columns of the modalities that the model reads.
        count: of all modalities.
        share: the chance of each.
        rng: draws.
    """
    drawn = rng.random((rows, len(used))) < share
    # Never a row's last modality: one of those used, at random, always stays.
    drawn[np.arange(rows), rng.integers(len(used), size=rows)] = False
    hidden = np.zeros((rows, count), bool)
    hidden[:, used] = drawn
    return hidden


def hide(batch: Batch, hidden: np.ndarray | None) -> Batch:
    """The batch with some modalities hidden, `(B, k)` bool; a row always keeps one it has."""
    if hidden is None:
        return batch
    shown = torch.from_numpy(~hidden)
    if batch.present is not None:
        there = batch.present.cpu()
        shown = shown & there
        shown = torch.where(shown.any(1, keepdim=True), shown, there)
    assert batch.target is not None
    return Batch(batch.inputs, shown.to(batch.target.device), batch.target)
