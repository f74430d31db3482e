"""The last layers of a pretrained network, as a module of their own: what is tuned.

The network below them is frozen, so that what it says of each row's tokens is computed once; the
layers above are run again and again on that.

Shapes: B batch, T tokens, C channels of a token, W of what they are pooled to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

Mask = Callable[[Tensor, Tensor], Any]


class UpperLayers(nn.Module):
    """Token states of the layer below to one vector a row.

    Args:
        width: W.
        work: multiplications and additions of a token's forward pass.

    Attributes:
        ragged: whether padding behind the tokens of a batch may be cut off.
    """

    ragged: ClassVar[bool] = True

    def __init__(self, width: int, work: int) -> None:
        super().__init__()
        self.width, self.work = width, work

    @abstractmethod
    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """States `(B, T, C)`, and which of them are no padding `(B, T)` bool, to `(B, W)`.

        A row without a token is zeros.
        """


class TextLayers(UpperLayers):
    """The last layers of a text network, then the mean over tokens.

    Args:
        layers: as `transformers` has them: hidden states and a mask to hidden states.
        mask: of states and of the tokens to attend to `(B, T)`, as those layers take it.
        width: C.
    """

    def __init__(self, layers: Sequence[nn.Module], mask: Mask, width: int) -> None:
        super().__init__(width, 2 * sum(p.numel() for one in layers for p in one.parameters()))
        self.layers, self.mask = nn.ModuleList(layers), mask

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """See `UpperLayers`."""
        seen = there.clone()
        seen[:, 0] = True  # a row of padding alone must have something to attend to
        mask = self.mask(states, seen.long())
        for layer in self.layers:
            states = layer(states, mask)
        share = there[..., None].to(states.dtype)
        return (states * share).sum(1) / share.sum(1).clamp(min=1)


class ImageBlocks(UpperLayers):
    """The last blocks of a convolutional network, then the mean over cells.

    Args:
        blocks: a feature map to a feature map, one after the other.
        grid: height and width of the first one's.
        width: channels of the last one's.
    """

    ragged = False

    def __init__(self, blocks: Sequence[nn.Module], grid: tuple[int, int], width: int) -> None:
        super().__init__(width, 2 * sum(p.numel() for one in blocks for p in one.parameters()))
        self.blocks, self.grid = nn.Sequential(*blocks), grid

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """See `UpperLayers`."""
        maps = states.transpose(1, 2).reshape(states.shape[0], states.shape[2], *self.grid)
        pooled: Tensor = self.blocks(maps).mean((2, 3))
        return pooled * there.any(1, keepdim=True)
