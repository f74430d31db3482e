"""What the loop trains: one model, or several of one shape in one stacked computation.

A stack holds K models' parameters side by side, `(K, …)`, and runs them on the same batch with
`vmap`; a loss is then a vector `(K,)`, and its sum gives each model its own gradient. Adam works
element by element, so a stacked step is K single steps.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from polymix.data.batch import Batch
from polymix.nn.model import Model, Output
from polymix.train.objective import Objective

Weights = tuple[float, dict[str, float]]


class Learner(Protocol):
    """Models in training, K of them.

    Attributes:
        size: K.
        fitted: the model, if its `fit` stands for an epoch's steps.
    """

    size: int
    fitted: Model | None

    def train(self, mode: bool) -> None:
        """Switch between training and evaluation."""

    def parameters(self) -> list[Tensor]:
        """What the optimizer updates."""

    def losses(self, batch: Batch, objective: Objective, epoch: int) -> Tensor:
        """`(K,)` losses of a batch, at an epoch counted from 1."""

    def outputs(self, batch: Batch) -> Output:
        """Outputs with a leading axis K."""

    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and buffers."""

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers, for a checkpoint; the tensors themselves."""


class SingleLearner:
    """One model.

    Args:
        model: to train.
        frozen: whether batches hold banked features and the encoders stay as they are.
        thaw: epochs at the start in which the encoders stay as they are, on raw rows.
    """

    size = 1

    def __init__(self, model: Model, frozen: bool, thaw: int = 0) -> None:
        self.model = model
        self.frozen, self.thaw = frozen, thaw
        self.fitted = model if model.fitted else None

    def train(self, mode: bool) -> None:
        """Switch between training and evaluation."""
        self.model.train(mode)

    def parameters(self) -> list[Tensor]:
        """What the optimizer updates."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def _run(self, batch: Batch) -> Output:
        call: Any = self.model.fuse if self.frozen else self.model
        output: Output = call(batch.inputs, batch.present)
        return output

    def losses(self, batch: Batch, objective: Objective, epoch: int) -> Tensor:
        """`(1,)` losses of a batch."""
        assert batch.target is not None
        if self.thaw:
            # Without a gradient, the optimizer passes them over; in evaluation mode, so do
            # dropout and statistics.
            still = epoch <= self.thaw
            self.model.encoders.train(not still).requires_grad_(not still)
        weights = self.model.head_weights(epoch)
        return objective(self._run(batch), batch.target, batch.present, weights).reshape(1)

    def outputs(self, batch: Batch) -> Output:
        """Outputs with a leading axis of one."""
        fused, unimodal = self._run(batch)
        return Output(fused[None], {name: logits[None] for name, logits in unimodal.items()})

    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of the model's parameters and buffers."""
        assert index == 0
        return {name: t.detach().clone() for name, t in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers; the tensors themselves."""
        return self.model.state_dict(keep_vars=True)


class StackLearner:
    """K models of one shape, on the same batches.

    Args:
        models: at least one; they differ in parameters and buffers alone, and have no dropout
            and no batch statistics.
        frozen: as for `SingleLearner`.
    """

    fitted: Model | None = None

    def __init__(self, models: Sequence[Model], frozen: bool) -> None:
        self.size = len(models)
        self.frozen = frozen
        parameters, buffers = stack_module_state(list(models))
        self._parameters: dict[str, Tensor] = parameters
        self._buffers: dict[str, Tensor] = buffers
        self._shell: nn.Module = copy.deepcopy(models[0]).to("meta")
        self._first = models[0]

    def train(self, mode: bool) -> None:
        """Switch between training and evaluation."""
        self._shell.train(mode)

    def parameters(self) -> list[Tensor]:
        """What the optimizer updates, `(K, …)` each."""
        return [p for p in self._parameters.values() if p.requires_grad]

    def _call(
        self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Batch
    ) -> Output:
        arguments = (batch.inputs, batch.present)
        state = {**parameters, **buffers}
        if not self.frozen:
            return cast(Output, functional_call(self._shell, state, arguments))
        named = {f"model.{name}": tensor for name, tensor in state.items()}
        return cast(Output, functional_call(Fuse(self._shell), named, arguments))

    def losses(self, batch: Batch, objective: Objective, epoch: int) -> Tensor:
        """`(K,)` losses of a batch."""
        assert batch.target is not None
        target, weights = batch.target, self._first.head_weights(epoch)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            output = self._call(parameters, buffers, batch)
            return objective(output, target, batch.present, weights)

        losses: Tensor = vmap(one)(self._parameters, self._buffers)
        return losses

    def outputs(self, batch: Batch) -> Output:
        """Outputs `(K, B, ·)`."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Output:
            return self._call(parameters, buffers, batch)

        return vmap(one)(self._parameters, self._buffers)

    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and persistent buffers, as if it had been alone."""
        kept = self._shell.state_dict().keys()
        return {
            name: t[index].detach().clone() for name, t in self.tensors().items() if name in kept
        }

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers, `(K, …)`; the tensors themselves."""
        return {**self._parameters, **self._buffers}


class Fuse(nn.Module):
    """A model's second half as a module, for `functional_call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: object, present: Tensor | None) -> Output:
        """See `Model.fuse`."""
        output: Output = self.model.fuse(features, present)  # type: ignore[operator]
        return output
