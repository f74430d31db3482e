"""BM-NAS's steps and Cells: one operation a step when derived, a mixture of all in the search.

Shapes: B batch, L positions, C channels, k inputs, M steps, P operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from polymix.methods.bm_nas.operations import operation_class

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
        if isinstance(shares, str):
            alone: Tensor = self.norm(self.operations[shares](*inputs))
            return alone
        found: list[Tensor] = [
            self.norm(operation(*inputs)) for operation in self.operations.values()
        ]
        if shares is None:
            (one,) = found
            return one
        mixed = found[0] * shares[0]
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
        made = nodes[len(inputs) :]
        joined = torch.cat(made, -1) if self.join else made[0]
        joined = self.join(joined) if self.join else joined
        out: Tensor = self.norm(joined + inputs[0])
        return out
