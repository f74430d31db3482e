"""Random search in MixMAS's space: complete genotypes, drawn uniformly, none twice.

draw      a genotype, each of its parts uniformly     `MixSpace.sample`
try it    briefly, on the sample of MixMAS's Eq. 1    `ask`, `tell`
train     the best of all draws in full               `derive`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from polymix import seeds
from polymix.data.sample import sample_size
from polymix.genotype import Block
from polymix.methods.mixmas.candidates import (
    KnownFusion,
    affordable,
    candidate_space,
    even_share,
    known_networks,
)
from polymix.methods.mixmas.space import MixSpace
from polymix.records import Fidelity, Proposal, Recipe, Sampler, Schedule, Trial
from polymix.registry import register
from polymix.search.protocol import SearchTask, Strategy
from polymix.space.mix import Loss, MixGenotype


@register
class RandomSearch(Strategy):
    """Draws genotypes of MixMAS's space and keeps the best.

    Attributes:
        encoders: names for every modality that takes them, or names by modality; MixMAS's
            `CANDIDATES` where not given.
        fusions: fusion functions.
        networks: fusion networks by name; `none` goes straight to the head.
        preset: of every candidate: `small` or `paper`.
        loss: of every draw, and of the full training.
        epochs: of a draw.
        sample_rows: of a draw; by MixMAS's Eq. 1 where not given.
        sampler: how the sample is drawn.
        lr: of a draw.
        batch_size: of a draw and of the full training.
        full_epochs: of the full training, at most.
        full_lr: its learning rate at the start.
        full_schedule: of its learning rate.
        modality_dropout: chance that a row's modality is hidden, where rows may lack one.
        shift: share of their time by which spectrograms move at random in training, at most.
        draws: how many genotypes are tried.
        cohort: how many are asked for at a time.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random search in the same space as mixmas"

    encoders: list[str] | dict[str, list[str]] | None = None
    fusions: list[KnownFusion] = Field(default=["concat", "mean", "max"], min_length=1)
    networks: list[str] = Field(default=["none", "mlp-mixer", "hyper-mixer"], min_length=1)
    preset: str = "small"
    loss: Loss = Loss()
    epochs: int = Field(default=10, ge=1)
    sample_rows: int | None = Field(default=None, ge=1)
    sampler: Sampler = "random"
    lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)
    full_epochs: int = Field(default=30, ge=1)
    full_lr: float = Field(default=1e-3, gt=0)
    full_schedule: Schedule = "cosine"
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    draws: int = Field(default=16, ge=1)
    cohort: int = Field(default=4, ge=1)

    _task: SearchTask = PrivateAttr()
    _space: MixSpace = PrivateAttr()
    _fidelity: Fidelity = PrivateAttr()
    _rng: np.random.Generator = PrivateAttr()
    _drawn: list[MixGenotype] = PrivateAttr(default_factory=list)
    _best: tuple[float, MixGenotype] | None = PrivateAttr(default=None)

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, names: list[str]) -> list[str]:
        return known_networks(names)

    def setup(self, task: SearchTask) -> None:
        """Lay out the space, and fix the fidelity of the draws.

        Raises:
            UsageError: a modality or an encoder that there is not.
        """
        self._task = task
        self._space = candidate_space(
            task.schema, self.encoders, self.fusions, self.networks, self.preset, self.loss
        )
        rows = min(self.sample_rows or sample_size(task.rows), task.rows)
        # As in MixMAS's probes: the two strategies compare at equal rows and epochs.
        wanted = Fidelity(rows, self.epochs, task.seed, self.sampler)
        self._fidelity = affordable(task, wanted, self._priced)
        self._rng = seeds.stream(task.seed, "random strategy")

    def _count(self) -> int:
        """Draws there will be: no more than the space holds, as none is drawn twice."""
        return min(self.draws, len(self._space))

    def _priced(self, fidelity: Fidelity) -> list[Proposal]:
        """As many proposals as draws, each of the space's first genotype: what they may cost."""
        first = next(iter(self._space))
        return [Proposal(first, fidelity, self._recipe(), stage="draws")] * self._count()

    def _recipe(self, full: bool = False) -> Recipe:
        lacking = any(m.optional for m in self._task.schema.modalities)
        return Recipe(
            lr=self.full_lr if full else self.lr,
            batch_size=self.batch_size,
            schedule=self.full_schedule if full else "constant",
            modality_dropout=self.modality_dropout if lacking else 0.0,
            shift=self.shift,
        )

    def ask(self) -> Sequence[Proposal]:
        """The next draws; nothing after the last."""
        wanted = min(self.cohort, self._count() - len(self._drawn))
        fresh: list[MixGenotype] = []
        # Drawn again where known: `_count` is never more than the space has.
        while len(fresh) < wanted:
            genotype = self._space.sample(self._rng)
            if genotype not in self._drawn:
                fresh.append(genotype)
                self._drawn.append(genotype)
        share = even_share(self._task, self.draws)
        return [
            Proposal(g, self._fidelity, self._recipe(), stage="draws", share=share) for g in fresh
        ]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the best; of equal ones, the first that was drawn."""
        for trial in trials:
            genotype = trial.proposal.genotype
            assert isinstance(genotype, MixGenotype)
            if trial.usable and (self._best is None or trial.value > self._best[0]):
                self._best = (trial.value, genotype)

    def derive(self) -> Sequence[Proposal]:
        """The best draw, to be trained in full; the first genotype where none could be tried."""
        # The draw's score was at the probes' fidelity: the full training starts from scratch.
        genotype = self._best[1] if self._best else next(iter(self._space))
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [Proposal(genotype, fidelity, self._recipe(full=True), stage="winner")]

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The encoders of what `derive` gives."""
        best = self._best[1] if self._best else next(iter(self._space))
        return dict(best.encoders)

    def random(self, rng: np.random.Generator) -> Proposal:
        """A genotype for the comparison that every strategy is given, at the draws' fidelity."""
        return Proposal(self._space.sample(rng), self._fidelity, self._recipe(), stage="random")

    def expected(self) -> Sequence[Proposal]:
        """The draws' price."""
        share = even_share(self._task, self.draws)
        return [replace(p, share=share) for p in self._priced(self._fidelity)]

    def size(self) -> int:
        """How many genotypes the space holds: `len(MixSpace)`."""
        return len(self._space)
