"""A small convolutional encoder: in two dimensions for grids, in one for sequences.

Stages of Conv, GroupNorm, GELU. A stage halves the sides while they are above `least`; there
are at least three. GroupNorm and not BatchNorm: a row's features never depend on its neighbours.
"""

from __future__ import annotations

from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoder import Encoder
from polymix.nn.tokens import Tokens, flatten_grid


class ConvEncoder(Encoder):
    """Convolutional stages to tokens: one token a position of the last stage.

    Args:
        modality: an image, a spectrogram, a time series or text.
        width: channels of the first stage; doubled stage by stage up to `channels`.
        channels: channels of the last stage.
        least: sides are halved until they are at most this.

    Raises:
        GenotypeError: a size below 1, `channels` below `width`, or a modality without positions.
    """

    name = "conv"
    VERSION = 1
    kinds = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.TIMESERIES, Kind.TEXT})
    presets = {  # noqa: RUF012
        "small": {"width": 16, "channels": 64},
        "paper": {"width": 32, "channels": 128},
    }

    def __init__(
        self, modality: Modality, *, width: int = 16, channels: int = 64, least: int = 7
    ) -> None:
        super().__init__()
        if modality.kind not in self.kinds:
            raise GenotypeError(f"conv takes {sorted(self.kinds)}, but got {modality.kind}")
        if min(width, least) < 1 or channels < width:
            raise GenotypeError(
                f"conv: 1 <= width <= channels and least >= 1 must hold, "
                f"but got {width=}, {channels=}, {least=}"
            )
        flat = modality.kind in (Kind.TIMESERIES, Kind.TEXT)
        self.embed: nn.Embedding | None = None
        side, depth = (modality.shape[0], modality.channels) if flat else (
            min(modality.shape[1:]), modality.shape[0]
        )  # fmt: skip
        if modality.kind is Kind.TEXT:
            assert modality.vocabulary is not None
            self.embed = nn.Embedding(modality.vocabulary, channels, padding_idx=0)
            depth = channels
        conv: type[nn.Module] = nn.Conv1d if flat else nn.Conv2d
        stages: list[nn.Module] = []
        widths: list[int] = []
        while len(stages) < 3 or side > least:
            out = min(width * 2 ** len(stages), channels)
            stride = 2 if side > least else 1
            kernel = 5 if not stages else 3
            stages.append(
                nn.Sequential(
                    conv(depth, out, kernel, stride=stride, padding=kernel // 2),
                    nn.GroupNorm(_groups(out), out),
                    nn.GELU(),
                )
            )
            widths.append(out)
            side, depth = -(-side // stride), out
        self.stages = nn.ModuleList(stages)
        self.flat = flat
        self.widths = tuple(widths)

    def features(self, x: Tensor) -> list[Tokens]:
        """Each stage's map as tokens, `(B, positions, C_i)`."""
        if self.embed is not None:
            x = self.embed(x)
        if self.flat:
            x = x.transpose(1, 2)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(Tokens(x.transpose(1, 2)) if self.flat else flatten_grid(x))
        return found


def _groups(channels: int) -> int:
    """The largest number of groups up to 8 that divides the channels."""
    return max(g for g in range(1, 9) if channels % g == 0)
