"""S²-MLP (Yu et al. 2022): channel MLPs alone; tokens meet by shifting groups of channels.

    X = X + FC2(shift(GELU(FC1(LN(X)))))
    X = X + FC4(GELU(FC3(LN(X))))

`shift` cuts the channels into four groups and moves them by one position: right, left, down, up;
the first position of a moved group keeps its value, as in the paper's Algorithm 1. Where tokens
have no grid (a sequence, or modalities laid end to end) there are two groups, forward and back.
No weight has a token axis: any T is taken. A LayerNorm closes the stack.
Shapes: B batch, T tokens, (H, W) their grid, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymix.nn.encoder import Stack, check_sizes
from polymix.nn.mixers.mlp_mixer import feed_forward
from polymix.nn.tokens import Tokens
from polymix.registry import register


def move(x: Tensor, axis: int, step: int) -> Tensor:
    """Moved by one position along an axis; the position that is left empty keeps its value."""
    size = x.shape[axis]
    if step > 0:
        return torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)), axis)
    return torch.cat((x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)), axis)


def shift(x: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Groups of channels of `(B, T, C)` moved by one position, each its own way."""
    if grid is None:
        ahead, back = x.tensor_split(2, -1)
        return torch.cat((move(ahead, 1, 1), move(back, 1, -1)), -1)
    square = x.reshape(x.shape[0], *grid, x.shape[2])
    ways = ((2, 1), (2, -1), (1, 1), (1, -1))  # right, left, down, up
    groups = square.tensor_split(4, -1)
    moved = [move(part, *way) for part, way in zip(groups, ways, strict=True)]
    return torch.cat(moved, -1).flatten(1, 2)


class ShiftBlock(nn.Module):
    """One block, `(B, T, C)` to `(B, T, C)`, for any T."""

    def __init__(self, channels: int, channel_dim: int, dropout: float) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(channels)
        self.before = nn.Linear(channels, channels)
        self.after = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.channel_norm = nn.LayerNorm(channels)
        self.channel_mix = feed_forward(channels, channel_dim, dropout)

    def forward(self, x: Tensor, grid: tuple[int, int] | None) -> Tensor:
        """`(B, T, C)` and its grid to `(B, T, C)`."""
        hidden = nn.functional.gelu(self.before(self.token_norm(x)))
        x = x + self.dropout(self.after(shift(hidden, grid)))
        out: Tensor = x + self.channel_mix(self.channel_norm(x))
        return out


@register
class S2MLP(Stack):
    """A stack of S²-MLP blocks, closed by a LayerNorm.

    Args:
        tokens: ignored; any T is taken.
        channels: C.
        blocks: number of blocks.
        channel_dim: hidden width over channels.
        dropout: after the Linears that end a residual branch, and in the channel MLP.

    Raises:
        GenotypeError: a size below 1, or a dropout outside [0, 1).
    """

    name = "s2-mlp"
    VERSION = 1
    any_length = True
    presets = {  # noqa: RUF012
        "small": {"channels": 64, "blocks": 3, "channel_dim": 256},
        "paper": {"channels": 384, "blocks": 36, "channel_dim": 1536},  # S²-MLP-deep
    }
    network_presets = {  # noqa: RUF012
        "small": {"blocks": 1, "channel_dim": 256},
        "paper": {"blocks": 4, "channel_dim": 1536},
    }

    def __init__(
        self,
        tokens: int,  # noqa: ARG002
        channels: int,
        *,
        blocks: int = 3,
        channel_dim: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, blocks=blocks, channel_dim=channel_dim)
        self.depth = blocks
        self.blocks = nn.ModuleList(
            ShiftBlock(channels, channel_dim, dropout) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)

    def features(self, tokens: Tokens) -> list[Tokens]:
        """Each block's output, `(B, T, C)`, the last one normalised."""
        x, grid = tokens
        found = []
        for block in self.blocks:
            x = block(x, grid)
            found.append(Tokens(x, grid))
        found[-1] = Tokens(self.norm(x), grid)
        return found
