"""Rows as learners see them: each view's numbers, and who has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """Rows by view.

    Attributes:
        views: `(N, W)` each, int64 token ids or double; states of tokens are `(N, T, C)`, half
            where they are those of many rows.
        present: `(N,)` bool each.
    """

    views: tuple[Tensor, ...]
    present: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.views[0])

    def take(self, rows: Tensor) -> Sample:
        """Some of the rows, by index or mask."""
        return Sample(tuple(v[rows] for v in self.views), tuple(p[rows] for p in self.present))

    def pick(self, places: list[int]) -> Sample:
        """Some of the views."""
        return Sample(tuple(self.views[i] for i in places), tuple(self.present[i] for i in places))

    def with_numbers(self, x: Tensor) -> Sample:
        """With one view more, that every row has."""
        there = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        return Sample((*self.views, x), (*self.present, there))
