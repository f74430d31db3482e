"""Random search in MixMAS's space: complete genotypes, drawn uniformly, none twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from polymix import seeds
from polymix.genotype import Block
from polymix.methods.mixmas.candidates import even_share
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.records import Fidelity, Proposal, Trial
from polymix.search.protocol import SearchTask
from polymix.space.mix import MixGenotype


class RandomSearch(MixMAS):
    """Draws `draws` genotypes and keeps the best; the other options are MixMAS's.

    Attributes:
        draws: how many genotypes are tried.
        cohort: how many are asked for at a time.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random search in the same space as mixmas"

    draws: int = Field(default=16, ge=1)
    cohort: int = Field(default=4, ge=1)

    _drawn: list[MixGenotype] = PrivateAttr(default_factory=list)
    _best: tuple[float, MixGenotype] | None = PrivateAttr(default=None)
    _rng: np.random.Generator = PrivateAttr()

    def setup(self, task: SearchTask) -> None:
        """List the candidates."""
        super().setup(task)
        self._rng = seeds.stream(task.seed, "random strategy")

    def expected(self) -> list[Proposal]:
        """The draws' price, each that of the space's first genotype."""
        first = next(iter(self._space))
        share = even_share(self._task, self.draws)
        recipe = self._recipe()
        count = min(self.draws, len(self._space))
        return [Proposal(first, self._fidelity, recipe, stage="draws", share=share)] * count

    def ask(self) -> Sequence[Proposal]:
        """The next draws."""
        wanted = min(self.cohort, min(self.draws, len(self._space)) - len(self._drawn))
        fresh: list[MixGenotype] = []
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
        """Keep the best."""
        for trial in trials:
            genotype = trial.proposal.genotype
            assert isinstance(genotype, MixGenotype)
            if trial.usable and (self._best is None or trial.value > self._best[0]):
                self._best = (trial.value, genotype)

    def derive(self) -> Sequence[Proposal]:
        """The best draw, to be trained in full."""
        genotype = self._best[1] if self._best else next(iter(self._space))
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [Proposal(genotype, fidelity, self._recipe(full=True), stage="winner")]

    def chosen_encoders(self) -> dict[str, Block]:
        """The best draw's encoders."""
        return dict(self._best[1].encoders) if self._best else self._chosen
