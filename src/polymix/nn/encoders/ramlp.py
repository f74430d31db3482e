"""RaMLP (Lai et al. 2023): an MLP for images of any size, mixing within regions of positions.

    x0     = LN(conv7(image)), stride 4                 then, before each later stage,
    x      = conv3(LN(x)), stride 2
    block:   x = x + DW3(x)
             x = s1·x + Sep(LN(x))
             x = s2·x + MLP(LN(x))
    Sep(x) = W3[N(sfc(regions(DW5(W1 x)) / (ks²·hd))) ⊙ N(W2 x)]
    MLP    = Linear, StarReLU, Linear

A region is ks x ks positions, spread evenly over the whole map (dilated, so that one block sees
all of it), times hd channels; `sfc` is one linear map over these, shared by all regions. A side
of the map below ks is one region; one that ks does not divide is padded with zeros. This gives
the public settings (7, 4, 2, 1 for 28 x 28 inputs; 7, 7, 7, 1 for 112 x 112) and any others.

The paper's N is BatchNorm, ours is GroupNorm of one group over (positions, channels): in training
BatchNorm would let a row's features depend on its neighbours, on rows that lack the image among
them, and it fails on a last batch of one row.
Shapes: B batch, (H, W) the map, C channels, E expanded channels.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoder import Encoder
from polymix.nn.tokens import Tokens
from polymix.registry import register


class StarReLU(nn.Module):
    """s·relu(x)² + b (Yu et al. 2022), with s and b such that a normal x stays standardised."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.8944))
        self.bias = nn.Parameter(torch.tensor(-0.4472))

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return self.scale * nn.functional.relu(x).square() + self.bias


class ChannelsLast(nn.Module):
    """A module on `(B, C, H, W)` applied to `(B, H, W, C)`; no copy is made."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, H', W', C')`."""
        out: Tensor = self.inner(x.permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1)


def conv(depth: int, out: int, kernel: int, stride: int, padding: int) -> ChannelsLast:
    """A convolution on `(B, H, W, C)`."""
    return ChannelsLast(nn.Conv2d(depth, out, kernel, stride, padding))


def depthwise(channels: int, kernel: int, bias: bool) -> ChannelsLast:
    """DW: a convolution of each channel by itself."""
    return ChannelsLast(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=bias)
    )


class RowNorm(nn.Module):
    """N: each row standardised over its map and channels, then a scale and a shift a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to the same shape."""
        return nn.functional.layer_norm(x, x.shape[1:]) * self.weight + self.bias


class RegionMix(nn.Module):
    """Sep: positions of a region mixed by one linear map, gated by each position's own channels.

    Args:
        channels: C.
        side: `(H, W)`.
        expansion: E / C.
        ks: positions a side of a region.
        hd: channels of a region.
    """

    def __init__(
        self, channels: int, side: tuple[int, int], expansion: int, ks: int, hd: int
    ) -> None:
        super().__init__()
        wide = channels * expansion
        if wide % hd:
            raise GenotypeError(
                f"ramlp: hd must divide the {wide} expanded channels, but got {hd=}"
            )
        self.ks = (min(ks, side[0]), min(ks, side[1]))
        self.hd = hd
        self.area = prod(self.ks) * hd
        self.w1 = nn.Linear(channels, wide, bias=False)
        self.w2 = nn.Linear(channels, wide, bias=False)
        self.w3 = nn.Linear(wide, channels, bias=False)
        self.pool = depthwise(wide, 5, bias=False)
        self.sfc = nn.Linear(self.area, self.area, bias=False)
        self.region_norm = RowNorm(wide)
        self.gate_norm = RowNorm(wide)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, H, W, C)`."""
        regions = self.mix(self.pool(self.w1(x)) / self.area)
        out: Tensor = self.w3(self.region_norm(regions) * self.gate_norm(self.w2(x)))
        return out

    def mix(self, x: Tensor) -> Tensor:
        """`sfc` on every region of `(B, H, W, E)`."""
        b, h, w, e = x.shape
        kh, kw = self.ks
        x = nn.functional.pad(x, (0, 0, 0, -w % kw, 0, -h % kh))
        rows, columns = x.shape[1] // kh, x.shape[2] // kw
        # Position (i·rows + r, j·columns + c) belongs to region (r, c), as its member (i, j).
        split = x.reshape(b, kh, rows, kw, columns, e // self.hd, self.hd)
        grouped = split.permute(0, 2, 4, 5, 1, 3, 6)  # (B, rows, columns, E/hd, kh, kw, hd)
        mixed = self.sfc(grouped.flatten(4)).reshape(grouped.shape)
        out: Tensor = mixed.permute(0, 4, 1, 5, 2, 3, 6).reshape(x.shape)[:, :h, :w]
        return out


class RaBlock(nn.Module):
    """One block, `(B, H, W, C)` to `(B, H, W, C)`; `scales` says whether s1, s2 are trained."""

    def __init__(self, channels: int, mlp: int, scales: bool, mix: RegionMix) -> None:
        super().__init__()
        self.local = depthwise(channels, 3, bias=True)
        self.mix_norm = nn.LayerNorm(channels)
        self.mix = mix
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels * mlp, bias=False),
            StarReLU(),
            nn.Linear(channels * mlp, channels, bias=False),
        )
        self.scales = nn.Parameter(torch.ones(2, channels)) if scales else None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, H, W, C)`."""
        s1, s2 = self.scales if self.scales is not None else (1.0, 1.0)
        x = x + self.local(x)
        x = s1 * x + self.mix(self.mix_norm(x))
        out: Tensor = s2 * x + self.mlp(self.mlp_norm(x))
        return out


@register
class RaMLP(Encoder):
    """Four stages of RaMLP blocks, closed by a LayerNorm; one token a position.

    Args:
        modality: an image or a spectrogram of at least 3 x 3.
        widths: C of each stage.
        depths: blocks of each stage.
        mlp: the MLP's expansion in each stage.
        expansion: Sep's expansion in each stage.
        ks: positions a side of a region in each stage.
        hd: channels of a region in each stage.

    Raises:
        GenotypeError: settings that are not four of at least 1, an `hd` that does not divide the
            expanded channels, or an input that is too small.
    """

    name = "ramlp"
    VERSION = 1
    kinds = frozenset({Kind.IMAGE, Kind.AUDIO})
    presets = {  # noqa: RUF012
        "small": {},
        "paper": {
            "widths": (64, 128, 256, 512), "depths": (3, 3, 9, 3), "mlp": (4, 4, 3, 3),
            "expansion": (3, 3, 2, 2), "ks": (7, 7, 7, 1), "hd": (1, 4, 16, 64),
        },
    }  # fmt: skip

    def __init__(
        self,
        modality: Modality,
        *,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        depths: tuple[int, ...] = (1, 1, 2, 1),
        mlp: tuple[int, ...] = (3, 3, 3, 3),
        expansion: tuple[int, ...] = (2, 2, 2, 2),
        ks: tuple[int, ...] = (7, 7, 7, 1),
        hd: tuple[int, ...] = (1, 1, 4, 16),
    ) -> None:
        super().__init__()
        settings = {
            "widths": widths, "depths": depths, "mlp": mlp, "expansion": expansion,
            "ks": ks, "hd": hd,
        }  # fmt: skip
        problems = [
            f"ramlp: {name} must be four numbers >= 1, but got {values}"
            for name, values in settings.items()
            if len(values) != 4 or min(values) < 1
        ]
        if modality.kind not in self.kinds:
            problems.append(f"ramlp takes {sorted(self.kinds)}, but got {modality.kind}")
        elif min(modality.shape[1:]) < 3:
            problems.append(f"ramlp: an input is at least 3 x 3, but got {modality.shape[1:]}")
        if problems:
            raise GenotypeError(problems)
        depth, *sides = modality.shape
        h, w = ((side - 3) // 4 + 1 for side in sides)
        self.stages = nn.ModuleList()
        for i in range(4):
            if i == 0:
                down = nn.Sequential(conv(depth, widths[0], 7, 4, 2), nn.LayerNorm(widths[0]))
            else:
                h, w = (h + 1) // 2, (w + 1) // 2
                down = nn.Sequential(
                    nn.LayerNorm(widths[i - 1]), conv(widths[i - 1], widths[i], 3, 2, 1)
                )
            blocks = (
                RaBlock(
                    widths[i], mlp[i], i >= 2,
                    RegionMix(widths[i], (h, w), expansion[i], ks[i], hd[i]),
                )
                for _ in range(depths[i])
            )  # fmt: skip
            self.stages.append(nn.Sequential(down, *blocks))
        self.norm = nn.LayerNorm(widths[3])
        self.widths = widths

    def features(self, x: Tensor) -> list[Tokens]:
        """Each stage's map as tokens, `(B, H·W, C_i)`, the last one normalised."""
        x = x.permute(0, 2, 3, 1)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(Tokens(x.flatten(1, 2), (x.shape[1], x.shape[2])))
        found[-1] = found[-1]._replace(x=self.norm(found[-1].x))
        return found
