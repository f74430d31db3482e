"""What a description promises, and frozen networks as descriptions.

Shapes: B batch, R numbers of a row before they are projected, D after.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polymix.errors import GenotypeError
from polymix.nn.encoder import Encoder
from polymix.nn.tokens import Tokens


class Description(Encoder):
    """One modality to one token, fitted to rows without their targets.

    Args:
        width: numbers of a row.
        needs_fit: whether there is anything to fit.

    Attributes:
        dtype: in which its numbers are banked: single precision, as trees cut its columns.
        needs_fit: whether there is anything to fit.
        linear: whether it is for linear models: more columns than trees should search.
    """

    pads = False
    dtype = torch.float32
    linear: ClassVar[bool] = False
    needs_fit: bool
    is_fitted: Tensor

    def __init__(self, width: int, needs_fit: bool = False) -> None:
        super().__init__()
        self.widths = (width,)
        self.needs_fit = needs_fit
        if needs_fit:  # kept with the weights, so that a state that is loaded is ready
            self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))

    @property
    def ready(self) -> bool:
        """Whether its numbers mean anything yet: nothing is to be fitted, or all is."""
        return not self.needs_fit or bool(self.is_fitted)

    @abstractmethod
    def columns(self, x: Tensor) -> Tensor:
        """Inputs to `(B, D)`."""

    @torch.no_grad()
    def fit(self, x: Tensor, seed: int) -> None:
        """Fit to the inputs of N training rows.

        Args:
            x: inputs `(N, *shape)`, as a batch holds them.
            seed: of what is drawn.
        """
        if self.needs_fit:
            self._fit(x, seed)
            self.is_fitted.fill_(True)

    def _fit(self, x: Tensor, seed: int) -> None:
        """Where `needs_fit` says so, a subclass defines it."""
        raise TypeError(f"{type(self).__name__} must define _fit, for {tuple(x.shape)}, {seed}")

    def features(self, x: Tensor) -> list[Tokens]:
        """The one token, `(B, 1, D)`."""
        return [Tokens(self.columns(x)[:, None])]


class Frozen(Description):
    """An encoder as it is, some of its features pooled: for those that come with weights.

    Args:
        encoder: never trained from here on.
        states: which of its features, side by side; negative ones count from the last.

    Raises:
        GenotypeError: it has no such features.
    """

    def __init__(self, encoder: Encoder, states: tuple[int, ...] = (-1,)) -> None:
        count = len(encoder.widths)
        if not states or not all(-count <= i < count for i in states):
            raise GenotypeError(
                f"{encoder.name}: states name its features, 0 to {count - 1}, but got {states}"
            )
        super().__init__(sum(encoder.widths[i] for i in states))
        self.encoder, self.states = encoder.requires_grad_(False), states
        self.dtype, self.cuts = encoder.dtype, encoder.cuts

    def banking(self) -> AbstractContextManager[object]:
        """See `Encoder.banking`."""
        return self.encoder.banking()

    def columns(self, x: Tensor) -> Tensor:
        """Inputs to `(B, D)`."""
        found = self.encoder.features(x)
        return torch.cat([found[i].pooled() for i in self.states], 1).double()


def fill(project: Tensor, components: np.ndarray) -> None:
    """Components `(K, R)` as the first columns of `(R, D)`; the others are zeros."""
    project.zero_()
    project[:, : len(components)] = torch.from_numpy(np.ascontiguousarray(components.T))


def averages(size: int, side: int) -> Tensor:
    """The matrix `(side, size)` that averages neighbours, as adaptive pooling does."""
    found = torch.zeros((side, size), dtype=torch.float64)
    for i in range(side):
        begin, end = i * size // side, -(-(i + 1) * size // side)
        found[i, begin:end] = 1 / (end - begin)
    return found


def fix(module: nn.Module, **found: Tensor) -> None:
    """Constants as buffers: they follow the module's device, and are kept with no state."""
    for name, value in found.items():
        module.register_buffer(name, value, persistent=False)
