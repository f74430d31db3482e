"""Views as a network reads them: side by side, in single precision, at one scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polymix.comparators.tabular.network_module import Part
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.tree_table import Projection
from polymix.comparators.tabular.vectors import Numbers, Scaled, mean_view, view_groups
from polymix.comparators.tabular.views import Layout


class EvenColumns(nn.Module):
    """A description or an embedding, of mean square one a column.

    An embedding is projected to its leading components first, which keep their relative sizes; a
    description's columns, which are in units of their own, are each of deviation one.

    Args:
        layout: of the view.
        dims: that an embedding is projected to; zero keeps it.
    """

    def __init__(self, layout: Layout, dims: int) -> None:
        super().__init__()
        embedding = layout.form == "embedding"
        self.width = min(layout.width, dims) if embedding and dims else layout.width
        self.project = Projection(layout.width, self.width) if self.width < layout.width else None
        self.scaled = Scaled(self.width, each=not embedding)

    def fit(self, x: Tensor, state: int) -> None:
        """Fit to `(N, W)`."""
        if self.project is not None:
            self.project.fit(x, state)
            x = self.project(x)
        self.scaled.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, W)` to `(B, D)`."""
        found: Tensor = self.scaled(x if self.project is None else self.project(x))
        scaled: Tensor = found * self.width**0.5
        return scaled


class NetworkTable(nn.Module):
    """Views side by side, then a flag for each that a row lacks.

    A row's pictures are averaged, as they are elsewhere: see `view_groups`.

    Args:
        layouts: of the views.
        dims: that an embedding is projected to; zero keeps it.

    Attributes:
        parts: the views, in order.
    """

    def __init__(self, layouts: Sequence[Layout], dims: int) -> None:
        super().__init__()
        self.groups = view_groups(layouts)
        first = [layouts[group[0]] for group in self.groups]
        self.blocks = nn.ModuleList(
            Numbers(one, 1.0) if one.form in ("columns", "numbers") else EvenColumns(one, dims)
            for one in first
        )
        self.parts: list[Part] = []
        for layout, block in zip(first, self.blocks, strict=True):
            if isinstance(block, Numbers):
                self.parts.append(Part(layout.width, len(block.numbers)))
            else:
                assert isinstance(block, EvenColumns)
                self.parts.append(Part(block.width, 0))

    def fit(self, sample: Sample, state: int) -> None:
        """Fit to rows."""
        for group, block in zip(self.groups, self.blocks, strict=True):
            x, there = mean_view(sample, group)
            if not there.any():
                continue
            if isinstance(block, Numbers):
                block.fit(x[there])
            else:
                assert isinstance(block, EvenColumns)
                block.fit(x[there], state)

    def forward(self, sample: Sample) -> Tensor:
        """`(B, D + V)` single; zeros where a row lacks a view, whose flag is then one."""
        found, flags = [], []
        for group, block in zip(self.groups, self.blocks, strict=True):
            x, there = mean_view(sample, group)
            z = block(x)
            found.append(torch.where(there[:, None], z, torch.zeros_like(z)))
            flags.append(~there[:, None])
        return torch.cat([*found, *[flag.double() for flag in flags]], 1).float()
