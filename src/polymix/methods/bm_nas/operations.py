"""What a step of BM-NAS may be (Yin et al. 2022, Eq. 4 to 8). Another one is a class, registered.

Each takes `inputs` tensors `(B, L, C)` and gives one; what the paper has two of generalises to
more: the first is the query, the signal; the others are what it attends to, its gates.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymix.errors import GenotypeError, did_you_mean

OPERATIONS: dict[str, type[Operation]] = {}


class Operation(nn.Module):
    """Tensors `(B, L, C)` to one of the same shape.

    Attributes:
        name: what genotypes call it.
        VERSION: raise it when outputs change for the same weights; it is in the ledger's key.

    Args:
        channels: C.
        inputs: how many tensors it takes, two at least.
        dropout: on what it learned to give.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]

    def __init__(self, channels: int, inputs: int, dropout: float) -> None:
        super().__init__()
        self.channels, self.inputs = channels, inputs
        self.dropout = nn.Dropout(dropout)

    def forward(self, *inputs: Tensor) -> Tensor:  # noqa: ARG002
        """Fuse."""
        raise TypeError(f"{type(self).__name__} must define forward")


def register(cls: type[Operation]) -> type[Operation]:
    """Make an operation known by its name.

    Raises:
        GenotypeError: the name is taken.
    """
    if cls.name in OPERATIONS and OPERATIONS[cls.name] is not cls:
        raise GenotypeError(f"there is an operation '{cls.name}' already")
    OPERATIONS[cls.name] = cls
    return cls


def operation_class(name: str) -> type[Operation]:
    """The class of a name.

    Raises:
        GenotypeError: there is no such operation.
    """
    if name not in OPERATIONS:
        raise GenotypeError(f"no operation '{name}': {did_you_mean(name, OPERATIONS)}")
    return OPERATIONS[name]


@register
class Zero(Operation):
    """Nothing: the step is left out (Eq. 4). Zeros, not x·0, which is NaN where x is infinite."""

    name = "zero"
    VERSION = 1

    def forward(self, *inputs: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(inputs[0])


@register
class Sum(Operation):
    """x + y (Eq. 5)."""

    name = "sum"
    VERSION = 1

    def forward(self, *inputs: Tensor) -> Tensor:
        """The sum."""
        return reduce(torch.add, inputs)


@register
class Attention(Operation):
    """softmax(x yᵀ / √C) y (Eq. 6, whose print has the softmax around y too)."""

    name = "attention"
    VERSION = 1

    def forward(self, *inputs: Tensor) -> Tensor:
        """What x attends to in each of the others, added up."""
        x, *others = inputs
        found = []
        for y in others:
            weights = torch.softmax(x @ y.transpose(1, 2) / math.sqrt(self.channels), -1)
            found.append(self.dropout(weights) @ y)
        attended: Tensor = reduce(torch.add, found)
        return attended


@register
class LinearGLU(Operation):
    """x W_1 ⊙ σ(y W_2) (Eq. 7)."""

    name = "linear-glu"
    VERSION = 1

    def __init__(self, channels: int, inputs: int, dropout: float) -> None:
        super().__init__(channels, inputs, dropout)
        self.maps = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(inputs))

    def forward(self, *inputs: Tensor) -> Tensor:
        """The first, through the gates of the others."""
        signal, *gates = (linear(x) for linear, x in zip(self.maps, inputs, strict=True))
        gated: Tensor = self.dropout(reduce(torch.mul, map(torch.sigmoid, gates), signal))
        return gated


@register
class ConcatFC(Operation):
    """ReLU([x, y] W + b) (Eq. 8)."""

    name = "concat-fc"
    VERSION = 1

    def __init__(self, channels: int, inputs: int, dropout: float) -> None:
        super().__init__(channels, inputs, dropout)
        self.linear = nn.Linear(inputs * channels, channels)

    def forward(self, *inputs: Tensor) -> Tensor:
        """A layer over all."""
        hidden: Tensor = self.dropout(torch.relu(self.linear(torch.cat(inputs, -1))))
        return hidden
