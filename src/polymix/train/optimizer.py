"""The one optimizer: made, stepped, kept and restored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from polymix.records import Recipe


def make_optimizer(parameters: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """Adam, fused: one kernel for all parameters."""
    return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """An optimizer's state as named tensors; `restore_optimizer` takes them back."""
    return {
        f"{prefix}/{i}/{name}": tensor
        for i, entries in optimizer.state_dict()["state"].items()
        for name, tensor in entries.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Go on from `optimizer_tensors`; tensors of other names are left aside."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}/"):
            index, key = name.removeprefix(f"{prefix}/").split("/", 1)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step. Gradients are computed for what it updates alone."""
    optimizer.zero_grad(set_to_none=True)
    own = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    loss.backward(inputs=own)  # type: ignore[no-untyped-call]
    optimizer.step()
