"""A small convolutional encoder: in two dimensions for grids, in one for sequences.

Stages of Conv, GroupNorm, ReLU, each halving the sides while they are above `least`, then one
Linear over what is left, as in LeNet: where in a spectrogram a thing is, is what it is, and a
mean over positions would lose that. GroupNorm and not BatchNorm: a row's features never depend
on its neighbours.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoder import Encoder
from polymix.nn.tokens import Tokens, flatten_grid
from polymix.registry import register


@register
class ConvEncoder(Encoder):
    """Convolutional stages, and a closing Linear to one token `(B, 1, C)`.

    Args:
        modality: an image, a spectrogram, a time series or text.
        channels: of the last stage and of the token; each stage before has half, 8 at least.
        least: sides are halved until they are at most this; there are three stages at least.

    Raises:
        GenotypeError: a size below 1, or a modality without positions.
    """

    name = "conv"
    VERSION = 1
    kinds = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.TIMESERIES, Kind.TEXT})
    presets = {  # noqa: RUF012
        "small": {"channels": 64},
        "paper": {"channels": 128},
    }

    def __init__(self, modality: Modality, *, channels: int = 64, least: int = 7) -> None:
        super().__init__()
        if modality.kind not in self.kinds:
            raise GenotypeError(f"conv takes {sorted(self.kinds)}, but got {modality.kind}")
        if min(channels, least) < 1:
            raise GenotypeError(
                f"conv: channels, least >= 1 must hold, but got {channels=}, {least=}"
            )
        self.flat = modality.kind in (Kind.TIMESERIES, Kind.TEXT)
        self.embed: nn.Embedding | None = None
        depth = modality.channels
        sides = modality.shape[:1] if self.flat else modality.shape[1:]
        if modality.kind is Kind.TEXT:
            assert modality.vocabulary is not None
            self.embed = nn.Embedding(modality.vocabulary, channels, padding_idx=0)
            depth = channels
        halvings = next(n for n in range(64) if min(_halved(s, n) for s in sides) <= least)
        count = max(3, halvings)
        conv: type[nn.Module] = nn.Conv1d if self.flat else nn.Conv2d
        stages: list[nn.Module] = []
        widths: list[int] = []
        for stage in range(count):
            out = max(min(8, channels), channels // 2 ** (count - 1 - stage))
            kernel = 5 if stage == 0 else 3
            stages.append(
                nn.Sequential(
                    conv(depth, out, kernel, 2 if stage < halvings else 1, kernel // 2),
                    nn.GroupNorm(_groups(out), out),
                    nn.ReLU(),
                )
            )
            widths.append(out)
            depth = out
        self.stages = nn.ModuleList(stages)
        left = math.prod(_halved(s, halvings) for s in sides)
        self.close = nn.Linear(depth * left, channels)
        self.widths = (*widths, channels)

    def features(self, x: Tensor) -> list[Tokens]:
        """Each stage's map as tokens, `(B, positions, C_i)`, and the closing token."""
        if self.embed is not None:
            x = self.embed(x)
        if self.flat:
            x = x.transpose(1, 2)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(Tokens(x.transpose(1, 2)) if self.flat else flatten_grid(x))
        found.append(Tokens(self.close(x.flatten(1)).unsqueeze(1)))
        return found


def _halved(side: int, times: int) -> int:
    """A side after so many strides of two, each rounding up."""
    return int(-(-side // 2**times))


def _groups(channels: int) -> int:
    """The largest number of groups up to 8 that divides the channels."""
    return max(g for g in range(1, 9) if channels % g == 0)
