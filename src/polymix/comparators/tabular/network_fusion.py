"""How a network on fixed views joins them: one vector `(B, C)` a view to one vector a row.

Shapes: B batch, V views, C channels, R ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.nn.fusion import Concat, FusionFunction, Max, Mean
from polymix.nn.tokens import Tokens

RANK = 8
"""Ranks of `LowRank`'s factors."""

HEADS = 4
"""Of `Attention`, at most: as many as divide the channels."""


class Joined(nn.Module):
    """A fusion function of `polymix.nn.fusion`, and a linear map of what it lays side by side.

    Args:
        function: what joins the views.
        views: V.
        channels: C.
    """

    def __init__(self, function: FusionFunction, views: int, channels: int) -> None:
        super().__init__()
        self.function = function
        same = function.same_channels
        self.project = nn.Identity() if same else nn.Linear(views * channels, channels)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Views `(B, C)` each to `(B, C)`."""
        pooled = self.function.pooled([Tokens(x[:, None]) for x in views])
        joined: Tensor = self.project(pooled)
        return joined


class Gated(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017): h = Σ_v z_v ⊙ tanh(W_v x_v).

    The gates z_v = σ(U_v [x_1, …, x_V]) read all views (their Eq. 3, for any number of them).

    Args:
        views: V.
        channels: C.
    """

    def __init__(self, views: int, channels: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(channels, channels) for _ in range(views))
        self.gates = nn.Linear(views * channels, views * channels)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Views `(B, C)` each to `(B, C)`."""
        gates = torch.sigmoid(self.gates(torch.cat(list(views), 1))).chunk(len(views), 1)
        parts = zip(gates, self.maps, views, strict=True)
        return torch.stack([gate * torch.tanh(linear(x)) for gate, linear, x in parts]).sum(0)


class LowRank(nn.Module):
    """Low-rank multimodal fusion (Liu et al. 2018, Eq. 8): h = Σ_r Π_v W_v^r [x_v, 1].

    Each factor starts near one (the bias of its 1), so that a product of many views neither
    vanishes nor explodes.

    Args:
        views: V.
        channels: C.
        rank: R.
    """

    def __init__(self, views: int, channels: int, rank: int = RANK) -> None:
        super().__init__()
        self.channels, self.rank = channels, rank
        self.factors = nn.ModuleList(nn.Linear(channels, rank * channels) for _ in range(views))
        for factor in self.factors:
            assert isinstance(factor, nn.Linear)
            nn.init.ones_(factor.bias)
        self.weights = nn.Parameter(torch.randn(rank, 1) / math.sqrt(rank))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Views `(B, C)` each to `(B, C)`."""
        product = torch.ones((), device=views[0].device, dtype=views[0].dtype)
        for factor, x in zip(self.factors, views, strict=True):
            product = product * factor(x)
        ranks = product.reshape(-1, self.rank, self.channels)
        return (ranks * self.weights).sum(1) + self.bias


class Attention(nn.Module):
    """One block of self-attention over views as tokens (Vaswani et al. 2017), then their mean.

    Each view has a learned vector of its own, and what comes in is normalised first.

    Args:
        views: V.
        channels: C.
    """

    def __init__(self, views: int, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(HEADS, channels)
        self.places = nn.Parameter(torch.randn(views, channels) * 0.02)
        self.norm, self.norm_hidden = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.widen, self.narrow = (
            nn.Linear(channels, 2 * channels),
            nn.Linear(2 * channels, channels),
        )

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Views `(B, C)` each to `(B, C)`."""
        x = torch.stack(list(views), 1) + self.places
        rows, count, channels = x.shape
        split = self.qkv(self.norm(x)).reshape(rows, count, 3, self.heads, channels // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (B, H, V, C / H) each
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]), -1)
        attended = (weights @ value).transpose(1, 2).reshape(rows, count, channels)
        x = x + self.out(attended)
        x = x + self.narrow(functional.gelu(self.widen(self.norm_hidden(x))))
        mean: Tensor = x.mean(1)
        return mean


NETWORK_FUSIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "concat": lambda views, channels: Joined(Concat(), views, channels),
    "mean": lambda views, channels: Joined(Mean(), views, channels),
    "max": lambda views, channels: Joined(Max(), views, channels),
    "gated": Gated,
    "low-rank": LowRank,
    "attention": Attention,
}
"""By name, what takes V and C."""
