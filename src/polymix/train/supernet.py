"""What a one-shot strategy trains with: feeds of batches, and the shared loop's own step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polymix import seeds
from polymix.data.batch import Batch, Source
from polymix.data.schema import Schema
from polymix.genotype import Genotype
from polymix.nn.model import Model, load_matching
from polymix.records import Proposal, Recipe
from polymix.train.evaluate import Evaluator
from polymix.train.objective import Objective
from polymix.train.optimizer import step


@dataclass(frozen=True)
class RowLoader:
    """Rows that can be gone through batch by batch.

    Attributes:
        source: supplies batches.
        rows: indices `(N,)`.
        seed: of the order.
    """

    source: Source
    rows: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def shuffled(self, batch_size: int, epoch: int) -> Iterator[Batch]:
        """Every row once, in an order that depends on seed and epoch alone."""
        order = seeds.stream(self.seed, "order", epoch).permutation(self.rows)
        yield from self._cut(order, batch_size)

    def ordered(self, batch_size: int = 512) -> Iterator[Batch]:
        """Every row once, in order."""
        yield from self._cut(self.rows, batch_size)

    def over(self, source: Source) -> RowLoader:
        """The same rows from another source."""
        return RowLoader(source, self.rows, self.seed)

    def _cut(self, rows: np.ndarray, size: int) -> Iterator[Batch]:
        for start in range(0, len(rows), size):
            yield self.source.batch(rows[start : start + size])


class SupernetTrainer:
    """The evaluator's means, for a strategy that trains by itself.

    Args:
        evaluator: whose data, device and memory are used.
        seed: of the run.
    """

    def __init__(self, evaluator: Evaluator, seed: int) -> None:
        self._evaluator = evaluator
        self.seed = seed
        self.device: torch.device = evaluator.device
        self.objective = Objective(evaluator.dataset.schema)
        self.metric = evaluator.metric

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One optimizer step."""
        step(loss, optimizer)

    def model(self, genotype: Genotype, init: Sequence[str] = ()) -> Model:
        """A genotype's model, seeded, with kept weights loaded."""
        from polymix.records import Fidelity

        proposal = Proposal(genotype, Fidelity(1, 1, self.seed), init=tuple(init))
        return self._evaluator.model(proposal)

    def initialize(self, model: Model, init: Sequence[str] = ()) -> Model:
        """A model that no genotype stands for: kept weights loaded, frozen encoders, its device."""
        for digest in init:
            load_matching(model, self._evaluator.memory.weights(digest))
        model.encoders.requires_grad_(False)
        return model.to(self.device)

    def schema_for(self, recipe: Recipe) -> Schema:
        """The schema to build on; see `Evaluator.schema_for`."""
        return self._evaluator.schema_for(recipe)

    def keep(self, tensors: Mapping[str, Tensor]) -> str:
        """Keep weights that proposals may start from (`Proposal.init`); their digest."""
        return self._evaluator.memory.keep_weights(tensors)

    def banked(self, model: Model) -> Source:
        """The features that a model's `fuse` reads, from the bank."""
        return self._evaluator.banked(model)

    def dropout(self, *names: str | int):  # type: ignore[no-untyped-def]
        """A block under a named random stream, for dropout and sampling."""
        return seeds.torch_stream(self.device, self.seed, *names)
