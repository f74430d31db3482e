"""gMLP (Liu et al. 2021): a channel MLP whose middle is gated by a linear map over tokens.

    Z  = GELU(LN(X) U)
    Z1, Z2 = Z split over channels
    s(Z) = Z1 ⊙ (W LN(Z2) + b)          the spatial gating unit; W over tokens
    X' = X + s(Z) V

W starts near zero and b at one, so that a block starts as a plain MLP on each token.
A LayerNorm closes the stack. Shapes: B batch, T tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from polymix.errors import GenotypeError
from polymix.nn.encoder import Stack, check_sizes
from polymix.nn.tokens import Tokens
from polymix.registry import register


class GatedBlock(nn.Module):
    """One block, `(B, T, C)` to `(B, T, C)`; T is fixed."""

    def __init__(self, tokens: int, channels: int, channel_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.u = nn.Linear(channels, channel_dim)
        self.gate_norm = nn.LayerNorm(channel_dim // 2)
        self.gate = nn.Linear(tokens, tokens)  # W, b
        self.v = nn.Linear(channel_dim // 2, channels)
        self.dropout = nn.Dropout(dropout)
        nn.init.uniform_(self.gate.weight, -1e-3 / tokens, 1e-3 / tokens)
        nn.init.ones_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, T, C)`."""
        z1, z2 = nn.functional.gelu(self.u(self.norm(x))).chunk(2, -1)
        gate = self.gate(self.gate_norm(z2).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.dropout(self.v(z1 * gate))
        return out


@register
class GMLP(Stack):
    """A stack of gMLP blocks, closed by a LayerNorm.

    Args:
        tokens: T.
        channels: C.
        blocks: number of blocks.
        channel_dim: width of Z; even.
        dropout: after V.

    Raises:
        GenotypeError: a size below 1, an odd `channel_dim`, or a dropout outside [0, 1).
    """

    name = "gmlp"
    VERSION = 1
    presets = {  # noqa: RUF012
        "small": {"channels": 64, "blocks": 3, "channel_dim": 256},
        "paper": {"channels": 128, "blocks": 30, "channel_dim": 768},  # gMLP-Ti
    }
    network_presets = {  # noqa: RUF012
        "small": {"blocks": 1, "channel_dim": 256},
        "paper": {"blocks": 4, "channel_dim": 768},
    }

    def __init__(
        self,
        tokens: int,
        channels: int,
        *,
        blocks: int = 3,
        channel_dim: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, blocks=blocks, channel_dim=channel_dim)
        if channel_dim % 2:
            raise GenotypeError(f"gmlp: channel_dim must be even, but got {channel_dim}")
        self.depth = blocks
        self.blocks = nn.ModuleList(
            GatedBlock(tokens, channels, channel_dim, dropout) for _ in range(blocks)
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
