"""The plain MLP: an encoder of one token, and, over pooled features, late fusion's network."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.nn.encoder import ALL_KINDS, Encoder, Options, check_sizes
from polymix.nn.tokens import Tokens
from polymix.registry import register


@register
class MLPEncoder(Encoder):
    """Everything flattened, Linear layers with ReLU between, one token `(B, 1, C)`.

    Source: M2-Mixer, section IV (MIMIC-III's static vector). Text is embedded and averaged first.

    Args:
        modality: any kind.
        channels: C, the width of every layer.
        layers: number of Linear layers.
        dropout: after each ReLU.

    Raises:
        GenotypeError: a size below 1, or a dropout outside [0, 1).
    """

    name = "mlp"
    VERSION = 1
    kinds = ALL_KINDS
    presets = {  # noqa: RUF012
        "small": {"channels": 64, "layers": 3},
        "paper": {"channels": 128, "layers": 3, "dropout": 0.1},
    }

    def __init__(
        self, modality: Modality, *, channels: int = 64, layers: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, channels=channels, layers=layers)
        width = math.prod(modality.shape)
        self.embed: nn.Embedding | None = None
        if modality.kind is Kind.TEXT:
            assert modality.vocabulary is not None
            width = channels
            self.embed = nn.Embedding(modality.vocabulary, channels, padding_idx=0)
        self.layers = nn.ModuleList(
            nn.Linear(width if i == 0 else channels, channels) for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.widths = (channels,) * layers

    def features(self, x: Tensor) -> list[Tokens]:
        """Each layer's output as one token, `(B, 1, C)`."""
        if self.embed is not None:
            words = (x != 0).sum(1, keepdim=True).clamp(min=1)  # id 0 pads, and embeds to zeros
            x = self.embed(x).sum(1) / words
        x = x.flatten(1)
        found = []
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else self.dropout(nn.functional.relu(x)))
            found.append(Tokens(x.unsqueeze(1)))
        return found


class PooledNetwork(nn.Module):
    """A fusion network over the pooled, concatenated features: late fusion.

    Args:
        width: D, of what comes in.
        hidden: width of every layer.
        layers: number of Linear layers, each followed by a ReLU and dropout.
        dropout: after each ReLU.
    """

    name: ClassVar[str] = "mlp"
    VERSION: ClassVar[int] = 1
    network_presets: ClassVar[dict[str, Options]] = {
        "small": {"hidden": 128},
        "paper": {"hidden": 512, "dropout": 0.1},
    }

    def __init__(
        self, width: int, *, hidden: int = 128, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, hidden=hidden, layers=layers)
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [nn.Linear(width if i == 0 else hidden, hidden), nn.ReLU()]
            parts += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*parts)
        self.channels = hidden

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D)` to `(B, hidden)`."""
        out: Tensor = self.layers(x)
        return out
