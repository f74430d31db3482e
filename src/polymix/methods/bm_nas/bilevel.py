"""The second-order gradient of a bilevel search (DARTS, Liu et al. 2019, Eq. 6 and 7)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from polymix.data.batch import Batch
from polymix.methods.bm_nas.supernet import Supernet
from polymix.nn.stack import Fuse
from polymix.train.objective import Objective


def unrolled_gradients(
    net: Supernet, objective: Objective, batch: Batch, other: Batch, lr: float
) -> Tensor:
    """Set the gradients of α, β, γ of L_val(ω - lr ∇L_train(ω)); exactly, not by differences.

    Args:
        net: whose; its weights are left as they are.
        objective: the loss.
        batch: of training rows, for the step ahead.
        other: of validation rows.
        lr: of that step.

    Returns:
        The validation loss after that step.
    """
    module, choices = Fuse(net), net.architecture()
    own = {id(p) for p in net.weights()}
    named = {name: p for name, p in module.named_parameters() if id(p) in own}

    def loss_of(weights: Mapping[str, Tensor], rows: Batch) -> Tensor:
        assert rows.target is not None
        output = functional_call(module, dict(weights), (rows.inputs, rows.present))
        return objective(output, rows.target, rows.present, (1.0, {}))

    now = loss_of(named, batch)
    # A weight that no row of the batch reads (an absent-token) has no gradient.
    steps = torch.autograd.grad(now, list(named.values()), create_graph=True, allow_unused=True)
    ahead = {
        name: p if step is None else p - lr * step
        for (name, p), step in zip(named.items(), steps, strict=True)
    }
    loss = loss_of(ahead, other)
    for choice, gradient in zip(choices, torch.autograd.grad(loss, choices), strict=True):
        choice.grad = gradient
    return loss.detach()
