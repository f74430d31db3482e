"""What a one-shot strategy trains with: feeds of batches, and the shared loop's own step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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


class Cutoff:
    """When the steps of an epoch end, whether or not all its rows were given.

    Args:
        moment: on `time.monotonic`'s clock.
        least: batches that are given whatever the clock says.

    Attributes:
        given: rows that were given, and trained on.
        passed: whether rows were left when the moment came.
        ended: when the last batch was done with.
    """

    def __init__(self, moment: float, least: int = 1) -> None:
        self.moment, self._left = moment, least
        self.given, self.passed = 0, False
        self.ended = time.monotonic()
        # Of all batches but the first, which may have had things to set up.
        self._timed, self._seconds = 0, 0.0

    def comes(self) -> bool:
        """Whether the next batch is one too many."""
        self.passed = self._left <= 0 and time.monotonic() > self.moment
        return self.passed

    def count(self, rows: int) -> None:
        """A batch of so many rows is done with."""
        begun, self.ended = self.ended, time.monotonic()
        if self.given:
            self._timed += rows
            self._seconds += self.ended - begun
        self.given += rows
        self._left -= 1

    @property
    def seconds_per_row(self) -> float:
        """What a row took, from the second batch on; 0 where there was but one."""
        return self._seconds / self._timed if self._timed else 0.0


@dataclass(frozen=True)
class RowLoader:
    """Rows that can be gone through batch by batch.

    Attributes:
        source: supplies batches.
        rows: indices `(N,)`.
        seed: of the order.
        most: rows of an epoch, other ones in each; all of them where not given.
        pace: how many rows it says it has: a few can stand for all, to see what steps take.
        cutoff: when an epoch's steps end before its rows do.
    """

    source: Source
    rows: np.ndarray
    seed: int
    most: int | None = None
    pace: int | None = None
    cutoff: Cutoff | None = None

    def __len__(self) -> int:
        return self.pace or min(len(self.rows), self.most or len(self.rows))

    @property
    def stopped(self) -> bool:
        """Whether the epoch's steps ended before its rows did: no other epoch follows."""
        return self.cutoff is not None and self.cutoff.passed

    def shuffled(self, batch_size: int, epoch: int) -> Iterator[Batch]:
        """Every row of the epoch once, in an order that depends on seed and epoch alone."""
        order = seeds.stream(self.seed, "order", epoch).permutation(self.rows)[: self.most]
        if self.cutoff is None:
            yield from self._cut(order, batch_size)
            return
        for start in range(0, len(order), batch_size):
            if self.cutoff.comes():
                return
            rows = order[start : start + batch_size]
            yield self.source.batch(rows)
            self.cutoff.count(len(rows))

    def ordered(self, batch_size: int = 512) -> Iterator[Batch]:
        """Every row once, in order."""
        yield from self._cut(self.rows, batch_size)

    def over(self, source: Source) -> RowLoader:
        """The same rows from another source."""
        return replace(self, source=source)

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
