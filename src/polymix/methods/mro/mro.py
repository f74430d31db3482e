"""MRO (Kim and Song 2025): which modality should attend to which, searched in one supernet.

    Table 1                                                here
    Supernet ← build_CMT_Supernet()                        `start`
    Masks ← uniform_sample(n) while warming up             `_draw`
    Masks ← prior_guided_sample(Prior, n) later            `_draw`, path e with chance σ(s_e)
    L ← TaskLoss(Supernet(mask)); optimize(L)              `_train`, all n masks from one pass
    R, the hinge over pairs                                `_train`, where `rank_term` is hinge
    Prior ← update(Prior, Losses)                          `_learn`, Eq. 1 and 2
    top k                                                  `derive`

All but the last line are `mro_training`'s. Whatever was sampled, the last epoch's full pass scores
all masks where they are not too many, and says how good the sampled search was: what it lost, and
the rank of its best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from polymix.genotype import Block
from polymix.methods.mro.space import MROGenotype
from polymix.methods.mro.training import OverMasks
from polymix.records import Fidelity, Proposal, Recipe, Schedule


class MRO(OverMasks):
    """A supernet of cross-modal attention paths, masks sampled by what a graph foretells.

    Attributes:
        flops_weight: λ: a mask is chosen by score - λ·(share of the dearest mask's FLOPs).
        top: how many masks are trained in full.
        init: `scratch`, or `supernet`: from the shared weights.
        probe_epochs: of a mask that random search draws.
        full_epochs: of the full training, at most.
        full_lr: its learning rate at the start.
        full_schedule: of its learning rate.
    """

    name: ClassVar[str] = "mro"
    summary: ClassVar[str] = "which modality attends to which: masks of paths in one supernet"

    flops_weight: float = Field(default=0.0, ge=0)
    top: int = Field(default=1, ge=1)
    init: Literal["scratch", "supernet"] = "scratch"
    probe_epochs: int = Field(default=5, ge=1)
    full_epochs: int = Field(default=30, ge=1)
    full_lr: float = Field(default=1e-3, gt=0)
    full_schedule: Schedule = "cosine"

    def chosen(self) -> list[MROGenotype]:
        """The `top` best masks; the full one where nothing was searched."""
        if self._scores is None:
            return [self._space.full]
        order = self._scores.order(self.flops_weight)[: self.top]
        return [self._space.genotype(mask) for mask in self._scores.masks[order].tolist()]

    def derive(self) -> Sequence[Proposal]:
        """The best masks, each to be trained alone."""
        init: tuple[str, ...] = ()
        if self.init == "supernet" and self._trainer is not None and self._scores is not None:
            init = (self._trainer.keep(self._net.state_dict()),)
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [
            Proposal(genotype, fidelity, self._recipe(), init, stage="winner")
            for genotype in self.chosen()
        ]

    def _recipe(self) -> Recipe:
        return Recipe(
            lr=self.full_lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule=self.full_schedule,
        )

    def chosen_encoders(self) -> Mapping[str, Block]:
        """A plain MLP for each modality: linear tokens without a path are no more than linear."""
        block = Block.of("mlp", channels=self.dim, layers=2, dropout=self.dropout)
        return {m.name: block for m in self._task.schema.modalities}

    def random(self, rng: np.random.Generator) -> Proposal:
        """A mask drawn uniformly, trained alone and briefly."""
        fidelity = Fidelity(self._task.rows, self.probe_epochs, self._task.seed)
        return Proposal(self._space.sample(rng), fidelity, self._recipe(), stage="random")
