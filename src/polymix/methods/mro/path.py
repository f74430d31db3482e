"""A cross-modal attention path i→j: i asks, j answers (MRO, section 3.2; MulT, Tsai et al. 2019).

Shapes: B batch, T tokens of i, S tokens of j, H heads, D channels.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymix.nn.tokens import mean_there


class CrossModalPath(nn.Module):
    """One Transformer layer (Vaswani et al. 2017), queries from one modality, the rest of another.

    LayerNorm goes before each half, as in MulT; a last one brings paths to one scale before they
    are averaged. Padding neither answers nor counts in the mean over tokens.

    Args:
        dim: D.
        heads: H, dividing D.
        ff: hidden channels of the feed-forward half, in multiples of D.
        dropout: of attention weights, and of each half's output.
    """

    VERSION: ClassVar[int] = 1

    def __init__(self, dim: int, heads: int, ff: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_asked = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm_ff, self.norm_out = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ff = nn.Sequential(
            nn.Linear(dim, ff * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(ff * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def attend(
        self, query: Tensor, asked: Tensor, there: Tensor | None, asked_there: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The pooled output, and the attention weights.

        Args:
            query: `(B, T, D)`.
            asked: `(B, S, D)`.
            there: `(B, T)` bool, which of the query's tokens are no padding; none for all.
            asked_there: `(B, S)` bool, likewise.

        Returns:
            `(B, D)`, the mean over tokens, and `(B, H, T, S)`.
        """
        # i asks, j answers: queries of the one, keys and values of the other.
        q = self._split(self.query(self.norm_query(query)))
        answering = self.norm_asked(asked)
        k, v = self._split(self.key(answering)), self._split(self.value(answering))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if asked_there is not None:
            # Not minus infinity: a row of padding alone spreads evenly, and stays finite.
            least = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(~asked_there[:, None, None, :], least)
        weights = torch.softmax(scores, -1)
        # (B, H, T, D / H) to (B, T, D): the heads side by side again.
        mixed = (self.dropout(weights) @ v).transpose(1, 2).flatten(2)
        x = query + self.dropout(self.out(mixed))
        x = x + self.dropout(self.ff(self.norm_ff(x)))
        return mean_there(self.norm_out(x), there), weights

    def forward(
        self,
        query: Tensor,
        asked: Tensor,
        there: Tensor | None = None,
        asked_there: Tensor | None = None,
    ) -> Tensor:
        """The pooled output `(B, D)`; see `attend`."""
        return self.attend(query, asked, there, asked_there)[0]

    def _split(self, x: Tensor) -> Tensor:
        """`(B, T, D)` to `(B, H, T, D / H)`."""
        b, t, d = x.shape
        return x.reshape(b, t, self.heads, d // self.heads).transpose(1, 2)
