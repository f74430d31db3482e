"""Monarch Mixer (Fu et al. 2023): tokens and channels mixed by Monarch matrices, no attention.

    M  = P L P R P                      on n = m² entries; L, R block-diagonal, m blocks of m x m;
                                        P reads an m x m square column by column
    X̃  = (M2(k ⊙ (M1 Xᵀ)))ᵀ             tokens mix; k a kernel a channel
    Y  = M4 relu(k' ⊙ (M3 X̃))           channels mix
    X' = LN(Y + X̃)

T and C are padded with zeros to squares, and cut again after. As in the paper, nothing carries X
past the token mixer: there is no residual. Factors start at variance 1/m, so that each keeps its
input's scale (with unit variance the public code starts at a standard deviation near 300).
Shapes: B batch, T tokens, C channels, n = m² the padded size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polymix.data.schema import Kind
from polymix.nn.encoder import Stack, check_sizes
from polymix.nn.tokens import Tokens
from polymix.registry import register


class Monarch(nn.Module):
    """M on the last axis, `(..., size)` to `(..., size)`.

    Args:
        size: length of the axis, padded to n = m².
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.m = math.isqrt(size - 1) + 1
        self.left = nn.Parameter(torch.randn(self.m, self.m, self.m) / math.sqrt(self.m))
        self.right = nn.Parameter(torch.randn(self.m, self.m, self.m) / math.sqrt(self.m))

    def forward(self, x: Tensor) -> Tensor:
        """Two block-diagonal products between transposes of the square."""
        m = self.m
        x = nn.functional.pad(x, (0, m * m - self.size))
        blocks = x.reshape(-1, m, m).permute(2, 0, 1)  # P: block i is column i, (m, rows, m)
        blocks = blocks @ self.right
        blocks = blocks.permute(2, 1, 0)  # P: block j is entry j of every block before
        blocks = blocks @ self.left
        # The last P lays entry l of block j at l·m + j.
        return blocks.permute(1, 2, 0).reshape(*x.shape[:-1], m * m)[..., : self.size]


class MonarchBlock(nn.Module):
    """One block, `(B, T, C)` to `(B, T, C)`; T is fixed."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.m1, self.m2 = Monarch(tokens), Monarch(tokens)
        self.m3, self.m4 = Monarch(channels), Monarch(channels)
        self.token_kernel = nn.Parameter(torch.randn(channels, tokens))  # k
        self.channel_kernel = nn.Parameter(torch.randn(channels))  # k'
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, T, C)`."""
        mixed = self.m2(self.token_kernel * self.m1(x.transpose(1, 2))).transpose(1, 2)
        out = self.m4(nn.functional.relu(self.channel_kernel * self.m3(mixed)))
        normed: Tensor = self.norm(out + mixed)
        return normed


@register
class MonarchMixer(Stack):
    """A stack of Monarch Mixer blocks; each closes with its own LayerNorm.

    Args:
        tokens: T.
        channels: C.
        blocks: number of blocks.

    Raises:
        GenotypeError: a size below 1.
    """

    name = "monarch-mixer"
    VERSION = 1
    kinds = frozenset({Kind.AUDIO, Kind.TIMESERIES, Kind.TEXT, Kind.FEATURES})
    presets = {  # noqa: RUF012
        "small": {"channels": 144, "blocks": 2},
        "paper": {"channels": 144, "blocks": 45},
    }
    network_presets = {  # noqa: RUF012
        "small": {"blocks": 1},
        "paper": {"blocks": 4},
    }

    def __init__(self, tokens: int, channels: int, *, blocks: int = 2) -> None:
        super().__init__()
        check_sizes(self.name, tokens=tokens, channels=channels, blocks=blocks)
        self.depth = blocks
        self.blocks = nn.ModuleList(MonarchBlock(tokens, channels) for _ in range(blocks))

    def features(self, tokens: Tokens) -> list[Tokens]:
        """Each block's output, `(B, T, C)`."""
        x, grid = tokens
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(Tokens(x, grid))
        return found
