"""What a frozen network says of each token, for layers above it that are tuned.

Shapes: B batch, T tokens, C channels.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn import functional

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.descriptions.description import Description
from polymix.nn.encoders.pretrained import PretrainedEncoder
from polymix.nn.encoders.pretrained_text import by_length
from polymix.nn.encoders.upper import ImageBlocks, UpperLayers
from polymix.nn.tokens import Tokens


class TokenStates(Description):
    """One state of a frozen network, its tokens kept; padding is zeros.

    Args:
        encoder: of texts or images; what is above the state is taken off it.
        modality: token ids, or an image.
        states: the state's index, alone.
        length: tokens of a text that are read, the first ones; 0 for all.

    Attributes:
        length: T.

    Raises:
        GenotypeError: not one state, none with layers above it, or a length that is none.
    """

    def __init__(
        self, encoder: PretrainedEncoder, modality: Modality, states: tuple[int, ...], length: int
    ) -> None:
        count = len(encoder.widths)
        if len(states) != 1 or not 0 < states[0] < count - 1:
            raise GenotypeError(
                f"{encoder.name}: tokens are kept of one state, a layer's below the last, 1 to "
                f"{count - 2}, but got states={states}"
            )
        text = modality.kind is Kind.TEXT
        if type(length) is not int or length < 0 or (length and not text):
            raise GenotypeError(
                f"{encoder.name}: length must be at least 0, and 0 for an image, but got {length}"
            )
        above = encoder.split(states[0])
        super().__init__(encoder.channels)
        if isinstance(above, ImageBlocks):
            self.length = math.prod(above.grid)
        else:
            self.length = min(length or modality.shape[0], modality.shape[0])
        self.encoder = encoder.requires_grad_(False)
        self.dtype, self.cuts, self.pads = torch.float16, text, text
        # Not a part of what is frozen: whoever tunes these layers keeps them, tuned.
        self._above = (above,)

    @property
    def above(self) -> UpperLayers:
        """The layers that follow the state, as the network came with them."""
        return self._above[0]

    def banking(self) -> AbstractContextManager[object]:
        """See `Encoder.banking`."""
        return self.encoder.banking()

    def columns(self, x: Tensor) -> Tensor:
        """Ids `(B, T)`, or images, to states `(B, T, C)`."""
        x = x[:, : self.length] if self.cuts else x
        if not self.cuts or x.is_meta or torch.compiler.is_exporting() or not x.any():
            whole: Tensor = self.encoder(x).x
            return whole
        order, parts = by_length(x)
        found = []
        for rows, length in parts:
            states = self.encoder(x[rows][:, :length]).x
            found.append(functional.pad(states, (0, 0, 0, x.shape[1] - length)))
        return torch.cat(found)[torch.argsort(order)]

    def features(self, x: Tensor) -> list[Tokens]:
        """The states, `(B, T, C)`."""
        return [Tokens(self.columns(x))]
