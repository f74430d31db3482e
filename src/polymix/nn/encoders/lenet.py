"""MFAS's LeNets: convolutional stages whose pooled maps are features, for a global pooling head.

Three stages for an image and five for a spectrogram (Pérez-Rúa et al. 2019, section 4.1). Each is
Conv, norm, ReLU and, between stages, max-pooling by two; a stage's feature is its map before the
pooling. The norm is over a row's whole map: BatchNorm would let a row's features depend on its
neighbours, and a norm for each channel would leave little for a global average to tell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.data.schema import Kind, Modality
from polymix.nn.encoder import Encoder, check_sizes
from polymix.nn.tokens import Tokens, flatten_grid
from polymix.registry import register

STAGES = {Kind.IMAGE: 3, Kind.AUDIO: 5}


@register
class LeNet(Encoder):
    """A stack of convolutional stages, each with twice the channels of the one before.

    Args:
        modality: an image or a spectrogram.
        channels: of the first stage.
        stages: how many; 0 takes the paper's number for the kind of modality.

    Raises:
        GenotypeError: a size below 1.
    """

    name = "lenet"
    VERSION = 1
    kinds = frozenset(STAGES)
    presets = {"small": {"channels": 8}, "paper": {"channels": 8}}  # noqa: RUF012

    def __init__(self, modality: Modality, *, channels: int = 8, stages: int = 0) -> None:
        super().__init__()
        count = stages or STAGES[modality.kind]
        check_sizes(self.name, channels=channels, stages=count)
        depth = modality.channels
        made: list[nn.Module] = []
        for stage in range(count):
            out, kernel = channels * 2**stage, 5 if stage == 0 else 3
            conv = nn.Conv2d(depth, out, kernel, padding=kernel // 2)
            made.append(nn.Sequential(conv, nn.GroupNorm(1, out), nn.ReLU()))
            depth = out
        self.stages = nn.ModuleList(made)
        self.widths = tuple(channels * 2**stage for stage in range(count))

    def features(self, x: Tensor) -> list[Tokens]:
        """Each stage's map as tokens, `(B, H_i·W_i, C_i)`; x is `(B, C, H, W)`."""
        found: list[Tokens] = []
        if torch._C._functorch.maybe_current_level() is None:  # `vmap` knows one layout alone
            x = x.to(memory_format=torch.channels_last)  # twice as quick on a CPU
        for number, stage in enumerate(self.stages):
            if number:
                sides = (min(2, x.shape[2]), min(2, x.shape[3]))
                x = functional.max_pool2d(x, sides, ceil_mode=True)
            x = stage(x)
            found.append(flatten_grid(x))
        return found
