"""What the loop trains: one model, or several of one shape at once (see `polymix.nn.stack`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from polymix.data.batch import Batch
from polymix.nn.encoders.pretrained import PretrainedEncoder
from polymix.nn.model import Model
from polymix.nn.tokens import Output
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

    def losses(
        self, batch: Batch, objective: Objective, epoch: int, counted: Tensor | None = None
    ) -> Tensor:
        """`(K,)` losses of a batch, at an epoch counted from 1.

        Args:
            batch: the rows.
            objective: the loss.
            epoch: counted from 1.
            counted: `(K, B)` bool, the rows that count for each model; all where not given.
        """

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

    def losses(
        self, batch: Batch, objective: Objective, epoch: int, counted: Tensor | None = None
    ) -> Tensor:
        """`(1,)` losses of a batch."""
        assert batch.target is not None
        if self.thaw:
            # Without a gradient, the optimizer passes them over; in evaluation mode, so do
            # dropout and statistics.
            still = epoch <= self.thaw
            self.model.encoders.train(not still).requires_grad_(not still)
            for encoder in self.model.encoders.values():
                if encoder.frozen:  # a pretrained one, whatever the others do
                    encoder.requires_grad_(False)
        weights = self.model.head_weights(epoch)
        own = None if counted is None else counted[0]
        return objective(self._run(batch), batch.target, batch.present, weights, own).reshape(1)

    def outputs(self, batch: Batch) -> Output:
        """Outputs with a leading axis of one."""
        fused, unimodal = self._run(batch)
        return Output(fused[None], {name: logits[None] for name, logits in unimodal.items()})

    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of the model's parameters and buffers."""
        assert index == 0
        return {name: t.detach().clone() for name, t in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers but pretrained ones, which a digest names; as they are."""
        still = tuple(
            f"{name}."
            for name, module in self.model.named_modules()
            if isinstance(module, PretrainedEncoder) and module.frozen
        )
        state = self.model.state_dict(keep_vars=True)
        return {n: t for n, t in state.items() if not n.startswith(still)} if still else state


class StackLearner:
    """K models of one shape, on the same batches of banked features.

    Args:
        models: at least one; they differ in parameters and buffers alone, and have no dropout
            and no batch statistics.
    """

    fitted: Model | None = None

    def __init__(self, models: Sequence[Model]) -> None:
        self.size = len(models)
        self._stack = models[0].stack(models)
        self._first = models[0]

    def train(self, mode: bool) -> None:
        """Nothing: there is no dropout."""

    def parameters(self) -> list[Tensor]:
        """What the optimizer updates."""
        return [p for p in self.tensors().values() if p.requires_grad]

    def losses(
        self, batch: Batch, objective: Objective, epoch: int, counted: Tensor | None = None
    ) -> Tensor:
        """`(K,)` losses of a batch."""
        assert batch.target is not None
        weights = self._first.head_weights(epoch)
        return objective(self.outputs(batch), batch.target, batch.present, weights, counted)

    def outputs(self, batch: Batch) -> Output:
        """Outputs `(K, B, ·)`."""
        call: Any = self._stack
        output: Output = call(batch.inputs, batch.present)
        return output

    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and persistent buffers, as if it had been alone."""
        return self._stack.state(index)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers, as the stack keeps them; the tensors themselves."""
        return self._stack.tensors()
