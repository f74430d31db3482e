"""BM-NAS's operations, and the steps and Cells that are made of them (Yin et al. 2022, section 3).

An operation (Eq. 4 to 8; another one is a class, registered) takes `inputs` tensors `(B, L, C)` and
gives one; what the paper has two of generalises to more: the first is the query, the signal; the
others are what it attends to, its gates. A step is one operation in a derived network, a mixture of
all of them in the search (Eq. 10); a Cell joins its steps.

Shapes: B batch, L positions, C channels, k inputs, M steps, P operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymix import built_in, registry
from polymix.errors import GenotypeError
from polymix.registry import Parts, classes_of, register


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
        """Tensors `(B, L, C)` to one `(B, L, C)`."""
        raise TypeError(f"{type(self).__name__} must define forward")


OPERATIONS: Parts[type[Operation]] = Parts(
    "an operation",
    "a class of polymix.methods.bm_nas.operations.Operation",
    classes_of(Operation),
    lambda cls: registry.lacking(cls, Operation, registry.VERSION, ["forward"]),
    modules=built_in.OPERATIONS,
)


def operation_class(name: str) -> type[Operation]:
    """The class of a name.

    Raises:
        GenotypeError: there is no such operation.
    """
    if name not in OPERATIONS:
        raise GenotypeError(OPERATIONS.unknown(name))
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
        x, *others = inputs  # the query, and what answers: keys and values are the same tensor
        found = []
        for y in others:
            # (B, L, L): over the positions of y; there are no projections.
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


# Steps, which are operations or mixtures of them, and Cells, which are steps.

Pick = Callable[[int, Sequence[Tensor]], Sequence[Tensor]]
"""A step's place, and the Cell's nodes so far, to the step's inputs."""

Shares = Callable[[int], Tensor | str]
"""A step's place to its operations' weights, `(P,)`, or to the name of the only one taken."""


class FusionStep(nn.Module):
    """One operation, or a mixture of several (Eq. 10).

    What an operation gives is normalised over channels, without weights of its own, so that the
    operations of a mixture weigh as much as their shares say; Zero's zeros stay zeros.

    Args:
        names: of the operations.
        channels: C.
        inputs: k.
        dropout: within operations.
    """

    def __init__(self, names: Sequence[str], channels: int, inputs: int, dropout: float) -> None:
        super().__init__()
        self.operations = nn.ModuleDict(
            {name: operation_class(name)(channels, inputs, dropout) for name in names}
        )
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)

    def forward(self, inputs: Sequence[Tensor], shares: Tensor | str | None = None) -> Tensor:
        """Inputs `(B, L, C)` each to `(B, L, C)`; shares `(P,)` of a mixture, or one's name."""
        if isinstance(shares, str):  # along a path
            alone: Tensor = self.norm(self.operations[shares](*inputs))
            return alone
        found: list[Tensor] = [
            self.norm(operation(*inputs)) for operation in self.operations.values()
        ]
        if shares is None:  # a derived network's step has one operation
            (one,) = found
            return one
        mixed = found[0] * shares[0]  # Eq. 10
        for part, share in zip(found[1:], shares[1:], strict=True):
            mixed = mixed + part * share
        return mixed


class FusionCell(nn.Module):
    """Steps over k inputs; what they give, joined, is added to the first input.

    Args:
        steps: the names of each step's operations.
        channels: C.
        inputs: k.
        dropout: within operations.
    """

    def __init__(
        self, steps: Sequence[Sequence[str]], channels: int, inputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(FusionStep(n, channels, inputs, dropout) for n in steps)
        count = len(steps)
        self.join = (
            nn.Sequential(
                nn.Linear(count * channels, channels),
                nn.LayerNorm(channels, elementwise_affine=False),
                nn.ReLU(),
            )
            if count > 1
            else None
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, inputs: Sequence[Tensor], pick: Pick, shares: Shares | None = None) -> Tensor:
        """Inputs `(B, L, C)` each to `(B, L, C)`."""
        nodes = list(inputs)
        for m, step in enumerate(self.steps):
            nodes.append(step(pick(m, nodes), shares(m) if shares else None))
        made = nodes[len(inputs) :]  # the steps' outputs alone
        joined = torch.cat(made, -1) if self.join else made[0]
        joined = self.join(joined) if self.join else joined
        # The first input is added, as in the public code, whatever the steps give.
        out: Tensor = self.norm(joined + inputs[0])
        return out
