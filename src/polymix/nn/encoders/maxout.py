"""The Maxout MLP (Goodfellow et al. 2013): MFAS's and BM-NAS's backbone for text vectors."""

from __future__ import annotations

import math

from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.nn.encoder import Encoder, check_sizes
from polymix.nn.tokens import Tokens
from polymix.registry import register


@register
class Maxout(Encoder):
    """Layers of the largest of several Linear maps, max_j (W_j x + b_j); one token `(B, 1, C)`.

    Args:
        modality: a vector, a table's columns, a sequence of features (flattened), or text
            (embedded and averaged over its words).
        channels: C of every layer.
        layers: how many; each is a feature.
        pieces: Linear maps a unit takes the largest of.
        dropout: before each layer but the first.

    Raises:
        GenotypeError: a size below 1, or a dropout outside [0, 1).
    """

    name = "maxout"
    VERSION = 1
    kinds = frozenset({Kind.TEXT, Kind.TABULAR, Kind.FEATURES})
    presets = {  # noqa: RUF012
        "small": {"channels": 64},
        "paper": {"channels": 128, "dropout": 0.1},
    }

    def __init__(
        self,
        modality: Modality,
        *,
        channels: int = 64,
        layers: int = 2,
        pieces: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(self.name, dropout, channels=channels, layers=layers, pieces=pieces)
        width = math.prod(modality.shape)
        self.embed: nn.Embedding | None = None
        if modality.kind is Kind.TEXT:
            assert modality.vocabulary is not None
            width = channels
            self.embed = nn.Embedding(modality.vocabulary, channels, padding_idx=0)
        self.layers = nn.ModuleList(
            nn.Linear(width if i == 0 else channels, channels * pieces) for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.pieces = pieces
        self.widths = (channels,) * layers

    def features(self, x: Tensor) -> list[Tokens]:
        """Each layer's output as one token, `(B, 1, C)`."""
        if self.embed is not None:
            words = (x != 0).sum(1, keepdim=True).clamp(min=1)  # id 0 pads, and embeds to zeros
            x = self.embed(x).sum(1) / words
        x = x.flatten(1)
        found = []
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else self.dropout(x))
            x = x.reshape(-1, self.pieces, x.shape[1] // self.pieces).amax(1)
            found.append(Tokens(x.unsqueeze(1)))
        return found
