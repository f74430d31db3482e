"""Tokens, what every encoder returns, and how raw inputs become tokens.

Shapes: B batch, T tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError


class Tokens(NamedTuple):
    """A feature: `x` `(B, T, C)`, and the tokens' grid `(H, W)`, T = H·W, where there is one."""

    x: Tensor
    grid: tuple[int, int] | None = None

    def pooled(self) -> Tensor:
        """The mean over tokens, `(B, C)`: global average pooling."""
        return self.x.mean(1) if self.x.shape[1] > 1 else self.x[:, 0]


Features = Mapping[str, Sequence[Tokens]]
"""What a model's second half reads, by modality."""

Moments = Mapping[str, Sequence[tuple[Tensor, Tensor]]]
"""Mean and standard deviation, `(C,)` each, of every feature, pooled, by modality."""


class Output(NamedTuple):
    """Logits (or values): the fused head's `(B, K)`, and each modality's own, if it has one."""

    fused: Tensor
    unimodal: dict[str, Tensor]


class PatchTokens(nn.Module):
    """An image or spectrogram `(B, C, H, W)` cut into patches by a strided convolution.

    What the patch does not divide is padded with zeros, to the right and below.

    Source: M2-Mixer, section III; MLP-Mixer (Tolstikhin et al. 2021).

    Args:
        shape: `(C, H, W)`.
        channels: width of a token.
        patch: side of a square patch.

    Raises:
        GenotypeError: a patch is larger than the image.
    """

    def __init__(self, shape: tuple[int, ...], channels: int, patch: int) -> None:
        super().__init__()
        depth, height, width = shape
        if not 1 <= patch <= max(height, width):
            raise GenotypeError(
                f"patch must fit into the {height} x {width} input, but got patch={patch}"
            )
        self.padding = (0, -width % patch, 0, -height % patch)
        self.grid = (math.ceil(height / patch), math.ceil(width / patch))
        self.tokens = self.grid[0] * self.grid[1]
        self.patch = patch
        self.project = nn.Conv2d(depth, channels, patch, stride=patch)

    def forward(self, x: Tensor) -> Tokens:
        """`(B, C, H, W)` to tokens."""
        # A convolution whose stride is its kernel is a matrix product on the patches, and three
        # times as fast as one on a CPU.
        if any(self.padding):
            x = functional.pad(x, self.padding)
        b, c, _, _ = x.shape
        (rows, columns), p = self.grid, self.patch
        patches = x.reshape(b, c, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)
        flat = patches.reshape(b, rows * columns, c * p * p)
        weight = self.project.weight.reshape(self.project.out_channels, -1)
        return Tokens(nn.functional.linear(flat, weight, self.project.bias), self.grid)


class SequenceTokens(nn.Module):
    """A time series or a sequence of features `(B, T, D)`, one token a step."""

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.tokens = shape[0]
        self.project = nn.Linear(shape[1], channels)

    def forward(self, x: Tensor) -> Tokens:
        """`(B, T, D)` to tokens `(B, T, C)`."""
        return Tokens(self.project(x))


class TextTokens(nn.Module):
    """Token ids `(B, T)` to embeddings; id 0 pads."""

    def __init__(self, vocabulary: int, length: int, channels: int) -> None:
        super().__init__()
        self.tokens = length
        self.embed = nn.Embedding(vocabulary, channels, padding_idx=0)

    def forward(self, x: Tensor) -> Tokens:
        """`(B, T)` int64 to tokens `(B, T, C)`."""
        return Tokens(self.embed(x))


class VectorTokens(nn.Module):
    """A vector `(B, D)` as one token `(B, 1, C)`."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.tokens = 1
        self.project = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tokens:
        """`(B, D)` to one token."""
        return Tokens(self.project(x).unsqueeze(1))


InputTokens = PatchTokens | SequenceTokens | TextTokens | VectorTokens


def tokenizer(modality: Modality, channels: int, patch: int = 0) -> InputTokens:
    """The tokenizer that a modality's kind and shape call for.

    Args:
        modality: what comes in.
        channels: width of a token.
        patch: side of a patch; 0 takes the divisor of both sides that gives nearest to 16 patches.
    """
    if modality.kind in (Kind.IMAGE, Kind.AUDIO):
        return PatchTokens(modality.shape, channels, patch or default_patch(modality.shape))
    if modality.kind is Kind.TEXT:
        assert modality.vocabulary is not None
        return TextTokens(modality.vocabulary, modality.shape[0], channels)
    if len(modality.shape) == 2:
        return SequenceTokens(modality.shape, channels)
    return VectorTokens(modality.shape[0], channels)


def default_patch(shape: tuple[int, ...], tokens: int = 16) -> int:
    """The patch side, dividing both sides of `(C, H, W)`, that gives nearest to `tokens`."""
    _, height, width = shape
    sides = [p for p in range(1, min(height, width) + 1) if not (height % p or width % p)]
    return min(sides, key=lambda p: (abs(math.log((height // p) * (width // p) / tokens)), -p))


def mean_there(x: Tensor, there: Tensor | None) -> Tensor:
    """Tokens `(B, T, C)` to `(B, C)`, the mean over those that are there, `(B, T)` bool, or all."""
    if there is None:
        return x.mean(1)
    counted = there.to(x.dtype)[..., None]
    return (x * counted).sum(1) / counted.sum(1).clamp(min=1)


def flatten_grid(x: Tensor) -> Tokens:
    """A feature map `(B, C, H, W)` as tokens `(B, H·W, C)` with their grid."""
    return Tokens(x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]))


def resize_tokens(tokens: Tensor, count: int) -> Tensor:
    """`(B, T, C)` to `(B, count, C)` by adaptive average pooling over tokens."""
    if tokens.shape[1] == count:
        return tokens
    if count == 1:
        return tokens.mean(1, keepdim=True)
    return torch.nn.functional.adaptive_avg_pool1d(tokens.transpose(1, 2), count).transpose(1, 2)


@dataclass(frozen=True)
class Pool:
    """Brings a feature to a number of tokens, whatever it has.

    Attributes:
        count: L.
        mode: `mean` over neighbouring tokens; `max`, over the grid's neighbours where there is a
            grid, to a x b = L cells, a the largest divisor of L up to its root (8 gives 2 x 4).
    """

    count: int
    mode: Literal["mean", "max"] = "mean"

    def __str__(self) -> str:
        return str(self.count) if self.mode == "mean" else f"{self.mode}{self.count}"

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns, a x b."""
        a = max(d for d in range(1, math.isqrt(self.count) + 1) if self.count % d == 0)
        return a, self.count // a

    def __call__(self, tokens: Tokens) -> Tokens:
        """Tokens `(B, T, C)` to `(B, L, C)`, without a grid."""
        if self.mode == "mean" or (tokens.grid is None and tokens.x.shape[1] == self.count):
            return Tokens(resize_tokens(tokens.x, self.count))
        x = tokens.x.transpose(1, 2)
        if tokens.grid is None:
            return Tokens(functional.adaptive_max_pool1d(x, self.count).transpose(1, 2))
        maps = functional.adaptive_max_pool2d(x.reshape(*x.shape[:2], *tokens.grid), self.sides)
        return Tokens(maps.flatten(2).transpose(1, 2))
