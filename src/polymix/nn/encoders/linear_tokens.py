"""The plainest tokens: each linearly mapped, and told where it stands; padding is zeros."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.nn.encoder import ALL_KINDS, Encoder, check_sizes
from polymix.nn.tokens import Tokens, tokenizer
from polymix.registry import register


@register
class LinearTokens(Encoder):
    """A linear map of each token, plus a learned vector for its place, `(B, T, C)`.

    Source: MRO, section 3.2 ("linear transformation layers are used to project each input
    modality into a fixed embedding space"). Without places, an utterance could not be told from
    its neighbours. Padding, of a padded modality or of text, is a token of zeros.

    Args:
        modality: any kind.
        channels: C.
        patch: side of a patch of an image or a spectrogram; see `tokenizer`.

    Raises:
        GenotypeError: a size below 1, or a patch that is larger than the image.
    """

    name = "linear-tokens"
    VERSION = 1
    kinds = ALL_KINDS
    presets = {"small": {"channels": 64}, "paper": {"channels": 256}}  # noqa: RUF012

    def __init__(self, modality: Modality, *, channels: int = 64, patch: int = 0) -> None:
        super().__init__()
        check_sizes(self.name, channels=channels)
        self.text = modality.kind is Kind.TEXT
        self.padded = modality.padded
        self.pads = self.text or self.padded
        if modality.padded:
            length, width = modality.shape
            plain = {"shape": (length, width - 1), "padded": False, "statistics": None}
            modality = modality.model_copy(update=plain)
        self.tokenize = tokenizer(modality, channels, patch)
        self.place = nn.Parameter(torch.randn(self.tokenize.tokens, channels) * 0.02)
        self.widths = (channels,)

    def features(self, x: Tensor) -> list[Tokens]:
        """The tokens, `(B, T, C)`."""
        tokens = self.tokenize(x[..., 1:] if self.padded else x)
        placed = tokens.x + self.place
        if self.pads:
            there = x != 0 if self.text else x[..., 0] != 0
            placed = torch.where(there[..., None], placed, 0.0)
        return [tokens._replace(x=placed)]
