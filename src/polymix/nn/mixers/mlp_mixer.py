"""MLP-Mixer (Tolstikhin et al. 2021), the block of M2-Mixer.

    x = x + FF_tok(LN(x)ᵀ)ᵀ        tokens mix, each channel alike
    x = x + FF_ch(LN(x))           channels mix, each token alike

A LayerNorm closes the stack. Shapes: B batch, T tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from polymix.nn.encoder import Stack, check_sizes
from polymix.nn.tokens import Tokens
from polymix.registry import register


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """FF(a→h→a): Linear, GELU, Dropout, Linear, Dropout."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )


class MixerBlock(nn.Module):
    """One block, `(B, T, C)` to `(B, T, C)`; T is fixed."""

    def __init__(
        self, tokens: int, channels: int, token_dim: int, channel_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(channels)
        self.token_mix = feed_forward(tokens, token_dim, dropout)
        self.channel_norm = nn.LayerNorm(channels)
        self.channel_mix = feed_forward(channels, channel_dim, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, T, C)`."""
        x = x + self.token_mix(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channel_mix(self.channel_norm(x))
        return out


@register
class MLPMixer(Stack):
    """A stack of mixer blocks, closed by a LayerNorm.

    Args:
        tokens: T.
        channels: C.
        blocks: number of blocks.
        token_dim: hidden width over tokens.
        channel_dim: hidden width over channels.
        dropout: after each Linear.

    Raises:
        GenotypeError: a size below 1, or a dropout outside [0, 1).
    """

    name = "mlp-mixer"
    VERSION = 1
    presets = {  # noqa: RUF012
        "small": {"channels": 64, "blocks": 2, "token_dim": 32, "channel_dim": 256},
        "paper": {
            "channels": 128, "blocks": 4, "token_dim": 32, "channel_dim": 3072, "dropout": 0.1,
        },
    }  # fmt: skip
    network_presets = {  # noqa: RUF012
        "small": {"blocks": 1, "token_dim": 32, "channel_dim": 256},
        "paper": {"blocks": 2, "token_dim": 32, "channel_dim": 3072, "dropout": 0.1},
    }

    def __init__(
        self,
        tokens: int,
        channels: int,
        *,
        blocks: int = 2,
        token_dim: int = 32,
        channel_dim: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, blocks=blocks, token_dim=token_dim, channel_dim=channel_dim)
        self.depth = blocks
        self.blocks = nn.ModuleList(
            MixerBlock(tokens, channels, token_dim, channel_dim, dropout) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)

    def features(self, tokens: Tokens) -> list[Tokens]:
        """Each block's output, `(B, T, C)`, the last one normalised."""
        x, grid = tokens
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(Tokens(x, grid))
        found[-1] = Tokens(self.norm(x), grid)
        return found
