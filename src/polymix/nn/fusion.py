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

from polymix import built_in, registry
from polymix.nn.tokens import Tokens, resize_tokens
from polymix.registry import Parts, classes_of, register


class FusionFunction(nn.Module):
    """The modalities' tokens to one sequence; built without arguments.

    Attributes:
        name: what genotypes call it.
        VERSION: raise it when outputs change for the same weights; it is in the ledger's key.
        same_channels: whether it joins tokens element by element: of one width, the shortest
            sequence's number of them. If not, tokens are laid end to end, `(B, ΣT, C)`, and pooled
            vectors side by side, `(B, ΣC)`.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]
    same_channels: ClassVar[bool] = True

    def forward(self, tokens: Sequence[Tokens]) -> Tokens:  # noqa: ARG002
        """Tokens of one width, `(B, T_m, C)` each, to one sequence of tokens."""
        raise TypeError(f"{type(self).__name__} must define forward")

    def pooled(self, tokens: Sequence[Tokens]) -> Tensor:
        """Tokens to one vector for the head: the mean over the fused ones, `(B, C)`."""
        return self.forward(tokens).pooled()


class Elementwise(FusionFunction):
    """Joins tokens element by element; a subclass says how, in `combine`."""

    def combine(self, stacked: Tensor) -> Tensor:  # noqa: ARG002
        """`(k, B, T, C)` to `(B, T, C)`."""
        raise TypeError(f"{type(self).__name__} must define combine")

    def forward(self, tokens: Sequence[Tokens]) -> Tokens:
        """Tokens of one width C, to `(B, min T, C)`."""
        count = min(t.x.shape[1] for t in tokens)
        stacked = torch.stack([resize_tokens(t.x, count) for t in tokens])
        grids = {t.grid for t in tokens}
        return Tokens(self.combine(stacked), grids.pop() if len(grids) == 1 else None)


FUSIONS: Parts[type[FusionFunction]] = Parts(
    "a fusion function",
    "a class of polymix.nn.fusion.FusionFunction, of Elementwise most often",
    classes_of(FusionFunction),
    lambda cls: registry.lacking(
        cls, Elementwise if issubclass(cls, Elementwise) else FusionFunction, registry.VERSION,
        ["combine"] if issubclass(cls, Elementwise) else ["forward"],
    ),
    modules=built_in.FUSIONS,
)  # fmt: skip


@register
class Concat(FusionFunction):
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


@register
class Mean(Elementwise):
    """The mean over modalities, element by element."""

    name: ClassVar[str] = "mean"
    VERSION: ClassVar[int] = 1

    def combine(self, stacked: Tensor) -> Tensor:
        """`(k, B, T, C)` to `(B, T, C)`."""
        return stacked.mean(0)


@register
class Max(Elementwise):
    """The maximum over modalities, element by element."""

    name: ClassVar[str] = "max"
    VERSION: ClassVar[int] = 1

    def combine(self, stacked: Tensor) -> Tensor:
        """`(k, B, T, C)` to `(B, T, C)`."""
        return stacked.amax(0)
