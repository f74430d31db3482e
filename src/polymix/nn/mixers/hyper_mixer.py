"""HyperMixer (Mai et al. 2023): an MLP over tokens whose weights the tokens themselves generate.

    s  = LN(x)·scale + position                   what a token says of itself; √C in the paper's
    W1, W2 = h1(s), h2(s)         (B, T, d')      bias-free Linear-GELU-Linear on each token
    u  = LN(W2 · GELU(W1ᵀ · LN(x)))               mixes tokens: W1ᵀ LN(x) sums over T
    x1 = x + u
    x' = x1 + FF(LN(x1))

Any T at any time: no weight has a token axis. (The public code of MixMAS mixes over channels
where tokens are meant, and adds x again where x1 is meant.) With √C the positions drown: on
small images the `small` preset then stays near two thirds where every other mixer passes nine
tenths, so it scales by 0.3; the `paper` preset keeps √C.
Shapes: B batch, T tokens, C channels, d' token_dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polymix.errors import GenotypeError
from polymix.nn.encoder import Stack, check_sizes
from polymix.nn.mixers.mlp_mixer import feed_forward
from polymix.nn.tokens import Tokens
from polymix.registry import register


def positions(tokens: int, channels: int, like: Tensor) -> Tensor:
    """Sinusoids `(T, C)` (Vaswani et al. 2017): a position for any T, without a parameter."""
    steps = torch.arange(tokens, device=like.device, dtype=like.dtype)[:, None]
    half = (channels + 1) // 2
    rate = torch.exp(
        torch.arange(half, device=like.device, dtype=like.dtype) * (-math.log(10_000.0) / half)
    )
    angle = steps * rate
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, :channels]


def hyper_network(channels: int, token_dim: int) -> nn.Sequential:
    """Bias-free Linear-GELU-Linear, C to d', applied to each token."""
    return nn.Sequential(
        nn.Linear(channels, channels, bias=False),
        nn.GELU(),
        nn.Linear(channels, token_dim, bias=False),
    )


class HyperBlock(nn.Module):
    """One block, `(B, T, C)` to `(B, T, C)`, for any T."""

    def __init__(
        self, channels: int, token_dim: int, channel_dim: int, dropout: float, scale: float
    ) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.LayerNorm(channels)
        self.weights_in = hyper_network(channels, token_dim)
        self.weights_out = hyper_network(channels, token_dim)
        self.mixed_norm = nn.LayerNorm(channels)
        self.channel_norm = nn.LayerNorm(channels)
        self.channel_mix = feed_forward(channels, channel_dim, dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """`(B, T, C)` and positions `(T, C)` to `(B, T, C)`."""
        normed = self.norm(x)
        says = normed * self.scale + position
        w_in, w_out = self.weights_in(says), self.weights_out(says)
        hidden = nn.functional.gelu(w_in.transpose(1, 2) @ normed)  # (B, d', C)
        x = x + self.mixed_norm(w_out @ hidden)
        out: Tensor = x + self.channel_mix(self.channel_norm(x))
        return out


@register
class HyperMixer(Stack):
    """A stack of HyperMixer blocks, closed by a LayerNorm.

    Args:
        tokens: ignored; any T is taken.
        channels: C.
        blocks: number of blocks.
        token_dim: d', hidden width over tokens.
        channel_dim: hidden width over channels.
        dropout: after each Linear of the channel MLP.
        scale: of what a token says of itself, against its position; 0 is √C.

    Raises:
        GenotypeError: a size below 1, or a dropout outside [0, 1).
    """

    name = "hyper-mixer"
    VERSION = 1
    any_length = True
    presets = {  # noqa: RUF012
        "small": {
            "channels": 64, "blocks": 2, "token_dim": 32, "channel_dim": 256, "scale": 0.3,
        },
        "paper": {
            "channels": 128, "blocks": 4, "token_dim": 32, "channel_dim": 3072, "dropout": 0.1,
        },
    }  # fmt: skip
    network_presets = {  # noqa: RUF012
        "small": {"blocks": 1, "token_dim": 32, "channel_dim": 256, "scale": 0.3},
        "paper": {"blocks": 4, "token_dim": 32, "channel_dim": 3072, "dropout": 0.1},
    }

    def __init__(
        self,
        tokens: int,  # noqa: ARG002
        channels: int,
        *,
        blocks: int = 2,
        token_dim: int = 32,
        channel_dim: int = 256,
        dropout: float = 0.0,
        scale: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, blocks=blocks, token_dim=token_dim, channel_dim=channel_dim)
        if not 0 <= scale < math.inf:
            raise GenotypeError(f"{self.name}: scale >= 0 must hold, but got {scale=}")
        self.depth = blocks
        self.blocks = nn.ModuleList(
            HyperBlock(channels, token_dim, channel_dim, dropout, scale or math.sqrt(channels))
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)

    def features(self, tokens: Tokens) -> list[Tokens]:
        """Each block's output, `(B, T, C)`, the last one normalised."""
        x, grid = tokens
        position = positions(x.shape[1], x.shape[2], x)
        found = []
        for block in self.blocks:
            x = block(x, position)
            found.append(Tokens(x, grid))
        found[-1] = Tokens(self.norm(x), grid)
        return found
