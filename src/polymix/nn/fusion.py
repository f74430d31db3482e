"""Fusion functions: the modalities' tokens to one sequence of tokens, or to one pooled vector.

`concat` lays tokens end to end (M2-Mixer, Eq. 3); `mean` and `max` go element by element, on
tokens pooled to the shortest sequence. Without a fusion network the head reads `pooled`: for
`concat` that keeps each modality's own pooled channels, side by side, for the others it is the
mean over the fused tokens. Shapes: B batch, T tokens, C channels, k modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymix.nn.tokens import Tokens, resize_tokens


class Concat(nn.Module):
    """Tokens end to end: `(B, ΣT, C)`; pooled side by side: `(B, ΣC)`."""

    name: ClassVar[str] = "concat"
    VERSION: ClassVar[int] = 1
    same_channels: ClassVar[bool] = False

    def forward(self, tokens: Sequence[Tokens]) -> Tokens:
        """Tokens of one width C."""
        return Tokens(torch.cat([t.x for t in tokens], 1))

    def pooled(self, tokens: Sequence[Tokens]) -> Tensor:
        """Tokens of any widths."""
        return torch.cat([t.pooled() for t in tokens], 1)


class _Elementwise(nn.Module):
    same_channels: ClassVar[bool] = True

    def combine(self, stacked: Tensor) -> Tensor:  # noqa: ARG002
        raise TypeError(f"{type(self).__name__} must define combine")

    def forward(self, tokens: Sequence[Tokens]) -> Tokens:
        """Tokens of one width C, to `(B, min T, C)`."""
        count = min(t.x.shape[1] for t in tokens)
        stacked = torch.stack([resize_tokens(t.x, count) for t in tokens])
        grids = {t.grid for t in tokens}
        return Tokens(self.combine(stacked), grids.pop() if len(grids) == 1 else None)

    def pooled(self, tokens: Sequence[Tokens]) -> Tensor:
        """`(B, C)`."""
        return self.forward(tokens).pooled()


class Mean(_Elementwise):
    """The mean over modalities, element by element."""

    name: ClassVar[str] = "mean"
    VERSION: ClassVar[int] = 1

    def combine(self, stacked: Tensor) -> Tensor:
        """`(k, B, T, C)` to `(B, T, C)`."""
        return stacked.mean(0)


class Max(_Elementwise):
    """The maximum over modalities, element by element."""

    name: ClassVar[str] = "max"
    VERSION: ClassVar[int] = 1

    def combine(self, stacked: Tensor) -> Tensor:
        """`(k, B, T, C)` to `(B, T, C)`."""
        return stacked.amax(0)


FusionFunction = Concat | Mean | Max
