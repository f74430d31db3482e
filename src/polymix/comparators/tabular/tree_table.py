"""Views as columns that trees cut: missing ones NaN, wide embeddings projected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.views import Layout


class Projection(nn.Module):
    """An embedding's leading components (Pearson 1901), each column standardised first.

    Args:
        width: of the embedding, W.
        dims: components, D.
    """

    shift: Tensor
    scale: Tensor
    project: Tensor

    def __init__(self, width: int, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.register_buffer("shift", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(width, dtype=torch.float64))
        self.register_buffer("project", torch.zeros((width, dims), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, x: Tensor, state: int) -> None:
        """Fit to `(N, W)`."""
        self.shift.copy_(x.mean(0))
        self.scale.copy_(x.std(0, correction=0).clamp(min=1e-9))
        z = ((x - self.shift) / self.scale).numpy()
        count = min(self.dims, len(z) - 1)
        self.project.zero_()
        if count > 0:
            solver = "randomized" if min(z.shape) > 2 * count else "full"
            found = PCA(count, svd_solver=solver, random_state=state).fit(z)
            self.project[:, :count] = torch.from_numpy(found.components_.T.copy())

    def forward(self, x: Tensor) -> Tensor:
        """`(B, W)` to `(B, D)`."""
        return ((x - self.shift) / self.scale) @ self.project


class TreeTable(nn.Module):
    """Views side by side.

    Args:
        layouts: of the views.
        dims: that an embedding is projected to; zero keeps it as it is.
    """

    def __init__(self, layouts: Sequence[Layout], dims: int) -> None:
        super().__init__()
        self.projections = nn.ModuleDict(
            {
                str(i): Projection(one.width, dims)
                for i, one in enumerate(layouts)
                if dims and one.form == "embedding" and one.width > dims
            }
        )
        self.width = width_of(layouts, dims)

    def fit(self, sample: Sample, state: int) -> None:
        """Fit to rows."""
        for place, projection in self.projections.items():
            assert isinstance(projection, Projection)
            there = sample.views[int(place)][sample.present[int(place)]]
            if len(there):
                projection.fit(there, state)

    def forward(self, sample: Sample) -> Tensor:
        """`(B, D)` double, NaN where a row lacks the modality."""
        columns = []
        for i, (x, there) in enumerate(zip(sample.views, sample.present, strict=True)):
            x = self.projections[str(i)](x) if str(i) in self.projections else x
            columns.append(torch.where(there[:, None], x, torch.nan))
        return torch.cat(columns, 1)


def width_of(layouts: Sequence[Layout], dims: int) -> int:
    """Columns of the table."""
    return sum(
        min(one.width, dims) if dims and one.form == "embedding" else one.width for one in layouts
    )
