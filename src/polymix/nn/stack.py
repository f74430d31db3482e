"""Models of one shape side by side, on the same batches: what a cohort is trained as.

A loss of a stack is a vector `(K,)`, and its sum gives each model its own gradient. Adam works
element by element, so that a stacked step is K single steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol, cast

from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from polymix.nn.tokens import Features, Output


class ModelStack(Protocol):
    """K models of one shape, which differ in parameters and buffers alone."""

    def __call__(self, features: Features, present: Tensor | None) -> Output:
        """What their `fuse` gives, `(K, B, ·)`; arguments as `Model.fuse`'s."""

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers, for an optimizer and a checkpoint; the tensors themselves."""

    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and persistent buffers, as if it had been alone."""


class VmapStack:
    """Any models of one shape, by `vmap` over their parameters `(K, …)`.

    Args:
        models: at least one; they have no dropout and no batch statistics.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        parameters, buffers = stack_module_state(list(models))
        self._stacked: dict[str, Tensor] = {**parameters, **buffers}
        self._shell: nn.Module = copy.deepcopy(models[0]).to("meta")

    def __call__(self, features: Features, present: Tensor | None) -> Output:
        """See `ModelStack`."""

        def one(stacked: dict[str, Tensor]) -> Output:
            named = {f"model.{name}": tensor for name, tensor in stacked.items()}
            return cast("Output", functional_call(Fuse(self._shell), named, (features, present)))

        return vmap(one)(self._stacked)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers, `(K, …)`."""
        return dict(self._stacked)

    def state(self, index: int) -> dict[str, Tensor]:
        """See `ModelStack`."""
        kept = self._shell.state_dict().keys()
        return {n: t[index].detach().clone() for n, t in self._stacked.items() if n in kept}


class Fuse(nn.Module):
    """A model's second half as a module, for `functional_call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: object, present: Tensor | None) -> Output:
        """See `Model.fuse`."""
        output: Output = self.model.fuse(features, present)  # type: ignore[operator]
        return output
