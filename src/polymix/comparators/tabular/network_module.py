"""TabM on fused views (Gorishniy et al. 2025, "TabM", arXiv 2410.24210).

Every view is mapped to one width, the views are fused, and k networks that share their weights
predict from it: each scales what comes in by a vector of its own (TabM-mini's adapter) and has
its own head.

Shapes: B batch, V views, C channels, E members, S sums, D numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from polymix import seeds
from polymix.comparators.tabular.network_fusion import NETWORK_FUSIONS, Attention
from polymix.nn.absent import AbsentToken
from polymix.nn.tokens import Tokens

EMBEDDED = 8
"""Channels that a number is embedded in."""


@dataclass(frozen=True)
class Part:
    """Columns that are one view.

    Attributes:
        width: how many there are.
        numbers: how many of them are numbers to embed, the last ones.
    """

    width: int
    numbers: int


class PeriodicEmbedding(nn.Module):
    """Numbers as sines and cosines of learned frequencies (Gorishniy et al. 2022, "PLR").

    f(x) = ReLU(W_j [sin(2πc_j x), cos(2πc_j x)] + b_j), with c_j ~ N(0, σ²) and weights of each
    column's own (arXiv 2203.05556, Eq. 3 and section 3.3).

    Args:
        numbers: D.
        frequencies: of each.
        sigma: σ.
    """

    def __init__(self, numbers: int, frequencies: int, sigma: float) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(numbers, frequencies) * sigma)
        bound = (2 * frequencies) ** -0.5
        size = (numbers, 2 * frequencies, EMBEDDED)
        self.weight = nn.Parameter(torch.empty(size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers, 1, EMBEDDED).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D)` to `(B, D · EMBEDDED)`."""
        angles = 2 * math.pi * self.frequencies[:, None] * x.T[..., None]  # (D, B, F)
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        found = torch.relu(torch.bmm(waves, self.weight) + self.bias)
        return found.transpose(0, 1).flatten(1)


class ViewEncoder(nn.Module):
    """One view's columns to C channels; its numbers are embedded, and given as they are, too.

    Args:
        part: the view.
        channels: C.
        frequencies: of a number's embedding; zero gives it none.
        sigma: of the frequencies.
    """

    def __init__(self, part: Part, channels: int, frequencies: int, sigma: float) -> None:
        super().__init__()
        self.numbers = part.numbers if frequencies else 0
        width = part.width
        self.embed: PeriodicEmbedding | None = None
        if self.numbers:
            self.embed = PeriodicEmbedding(self.numbers, frequencies, sigma)
            width += self.numbers * EMBEDDED
        self.project = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, W)` to `(B, C)`."""
        if self.embed is not None:
            x = torch.cat([x, self.embed(x[:, -self.numbers :])], 1)
        found: Tensor = self.project(x)
        return torch.relu(found)


class SeededDropout(nn.Module):
    """Dropout (Srivastava et al. 2014) that draws from a stream of its own.

    Networks that are trained in threads beside each other would share torch's.

    Args:
        share: of the numbers that are dropped.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.seed, self.draws = share, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; in training each draw is another."""
        if not self.training or not self.share:
            return x
        self.draws += 1
        drawn = torch.Generator(x.device).manual_seed(seeds.derive(self.seed, self.draws))
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=drawn)
        return x * (kept / (1 - self.share))


class Members(nn.Module):
    """k networks in one, of shared weights (TabM-mini): each has its own scales, shifts and head.

    Args:
        channels: C, of what comes in.
        width: of hidden layers.
        layers: hidden layers.
        members: E.
        sums: S.
        dropout: after each hidden layer.
    """

    def __init__(
        self, channels: int, width: int, layers: int, members: int, sums: int, dropout: float
    ) -> None:
        super().__init__()
        # Signs at random start the members far apart (Wen et al. 2020, "BatchEnsemble").
        self.scale = nn.Parameter(torch.randint(0, 2, (members, channels)).float() * 2 - 1)
        sizes = [channels, *[width] * layers]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.dropout = SeededDropout(dropout)
        bound = sizes[-1] ** -0.5
        size = (members, sizes[-1], sums)
        self.heads = nn.Parameter(torch.empty(size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, 1, sums))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C)` to each member's sums `(E, B, S)`."""
        hidden = x * self.scale[:, None]
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return torch.baddbmm(self.bias, hidden, self.heads)


class TabM(nn.Module):
    """Columns of views, and flags of the views that a row lacks, to each member's sums.

    Args:
        parts: the views.
        sums: S.
        fusion: one of `NETWORK_FUSIONS`.
        channels: C.
        width: of hidden layers.
        layers: hidden layers.
        members: E.
        dropout: after each hidden layer.
        frequencies: of a number's embedding.
        sigma: of the frequencies.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        sums: int,
        *,
        fusion: str,
        channels: int,
        width: int,
        layers: int,
        members: int,
        dropout: float,
        frequencies: int,
        sigma: float,
    ) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.encoders = nn.ModuleList(
            ViewEncoder(part, channels, frequencies, sigma) for part in parts
        )
        self.absent = nn.ModuleList(AbsentToken(channels, optional=True) for _ in parts)
        self.fuse = NETWORK_FUSIONS[fusion](len(parts), channels)
        self.members = Members(channels, width, layers, members, sums, dropout)

    def encoded(self, x: Tensor) -> list[Tensor]:
        """Each view's channels `(B, C)`, of whatever stands where a row lacks it, too."""
        widths = [part.width for part in self.parts]
        columns = torch.split(x[:, : -len(self.parts)], widths, 1)
        return [encode(own) for encode, own in zip(self.encoders, columns, strict=True)]

    def present(self, x: Tensor) -> list[Tensor]:
        """Which rows have each view, `(B,)` bool."""
        return list((x[:, -len(self.parts) :] < 0.5).unbind(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D)`, the flags last, to `(E, B, S)`."""
        parts = zip(self.absent, self.encoded(x), self.present(x), strict=True)
        views = [absent(Tokens(own[:, None]), there).x[:, 0] for absent, own, there in parts]
        found: Tensor = self.members(self.fuse(views))
        return found

    @property
    def multiplications(self) -> int:
        """Of a row, about: each weight once, those that views or members share for each."""
        repeated = len(self.parts) if isinstance(self.fuse, Attention) else 1
        shared = len(self.members.scale) * _count(self.members.layers)
        return _count(self.encoders) + repeated * _count(self.fuse) + shared + _count(self.members)

    @torch.no_grad()
    def settle(self, x: Tensor) -> None:
        """Set the token of a view that no row lacked, and so nothing trained, to its mean."""
        for absent, own, there in zip(self.absent, self.encoded(x), self.present(x), strict=True):
            assert isinstance(absent, AbsentToken)
            if bool(there.all()):
                absent.token.copy_(own.mean(0))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
