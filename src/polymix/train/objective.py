"""The loss of a batch: each head's own, weighed (M2-Mixer, Eq. 6), absent modalities masked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from polymix.data.schema import Schema, Target, Task
from polymix.nn.tokens import Output


def class_weights(target: Target) -> Tensor | None:
    """What a row counts by its class, or by a label that it has, `(K,)`; none for all alike."""
    return torch.tensor(target.weights) if target.weights else None


def _mean(losses: Tensor, counted: Tensor | None) -> Tensor:
    """The mean over rows `(…, B)` of those that count, 0 where none does."""
    if counted is None:
        return losses.mean(-1)
    there = counted.to(losses.dtype)
    return (losses * there).sum(-1) / there.sum(-1).clamp(min=1)


class Objective:
    """Losses and predictions of a target.

    Args:
        schema: whose target it is, and whose order the presence masks follow.
    """

    def __init__(self, schema: Schema) -> None:
        self.task = schema.target.task
        self.columns = {name: i for i, name in enumerate(schema.names)}
        fitted = schema.target.statistics
        self.shift = fitted.mean[0] if fitted else 0.0
        self.scale = fitted.std[0] if fitted else 1.0
        self.weights = class_weights(schema.target)
        decision = schema.target.decision
        self.temperature = decision.temperature if decision else 1.0

    def row_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits `(…, B, K)` and targets to a loss a row, `(…, B)`."""
        if self.task is Task.REGRESSION:
            # Centred as they are, in float64: what is left is small enough for any precision.
            centred = (target.double() - self.shift) / self.scale
            return (logits[..., 0] - centred.to(logits.dtype)) ** 2
        weights = None if self.weights is None else self.weights.to(logits)
        if self.task is Task.MULTILABEL:
            loss = functional.binary_cross_entropy_with_logits(
                logits,
                target.to(logits.dtype).expand_as(logits),
                reduction="none",
                pos_weight=weights,
            )
            return loss.mean(-1)
        # Classes before rows, as a stack keeps them: ten times as quick as a short last axis.
        classes = logits if logits.ndim == 2 else logits.transpose(-1, -2)
        each = target.expand(logits.shape[:-1])
        return functional.cross_entropy(classes, each, weights, reduction="none")

    def __call__(
        self,
        output: Output,
        target: Tensor,
        present: Tensor | None,
        weights: tuple[float, dict[str, float]],
        counted: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss of a batch (Eq. 6): a scalar, or `(K,)` for a stack of models.

        Args:
            output: of the model.
            target: of the rows.
            present: `(B, k)`, none where all are there; a row without a modality does not
                count in that modality's own loss.
            weights: of the fused head, and of each modality's.
            counted: `(K, B)` bool, the rows that count for each model of a stack; all where not
                given.
        """
        fused, each = weights
        total = fused * _mean(self.row_losses(output.fused, target), counted)
        for name, logits in output.unimodal.items():
            if not each.get(name):
                continue
            losses = self.row_losses(logits, target)
            there = counted
            if present is not None:
                own = present[:, self.columns[name]]
                there = own if counted is None else counted & own
            total = total + each[name] * _mean(losses, there)
        return total

    def predict(self, logits: Tensor) -> Tensor:
        """Logits `(…, K)` to probabilities as tempered, or to values in its own units, float64."""
        if self.task is Task.REGRESSION:
            return logits.double() * self.scale + self.shift
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if self.task is Task.MULTILABEL:
            return torch.sigmoid(logits)
        if logits.ndim == 2 or len(logits) == 1:
            return torch.softmax(logits, -1)
        return torch.softmax(logits.transpose(-1, -2), -2).transpose(-1, -2)
