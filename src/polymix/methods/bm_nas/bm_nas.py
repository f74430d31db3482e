"""BM-NAS (Yin et al. 2022): which features to pair, and how to fuse them, in one supernet.

    Algorithm 1                                            here
    backbones, each alone, in full, as ordinary trials     `ask`, `tell`
    initialise α, β, γ and ω                               `start`
    while not converged:                                   `horizon` epochs
        update ω on training rows                          `Updates.weights`
        update (α, β, γ) on validation rows                `Updates.choices`, in turns with ω
        derive the genotype                                `Supernet.derive`, Eq. 3 and 11
        keep the best by validation                        `_look`
    the best is trained alone                              `derive`

The space and the backbones are `bm_nas_cells`'s, the epochs `bm_nas_training`'s. How the updates go
is `bm_nas_updates`'s: along paths, or, with `relaxed`, of mixtures, as in the paper.

Learning rate and temperature are such that choices are made: at the paper's 3e-4 the logits hardly
move, and what is derived is the random start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from polymix.methods.bm_nas.training import Bilevel
from polymix.records import Proposal


class BMNAS(Bilevel):
    """A differentiable, bilevel search for Cells over features, and for steps within Cells.

    Attributes:
        top: how many of the derived networks are trained in full.
        probe_epochs: of a network that random search draws.
        full_epochs: of the full training.
        full_lr: its learning rate at the start.
        unfreeze: whether the backbones are trained, too, then.
        thaw: epochs of it before they are; at most half of it.
        refit: whether what is chosen is trained again, alike, on training and validation rows.
    """

    name: ClassVar[str] = "bm-nas"
    summary: ClassVar[str] = "which features to pair and how to fuse them, in one supernet"

    top: int = Field(default=1, ge=1)
    probe_epochs: int = Field(default=5, ge=1)
    full_epochs: int = Field(default=20, ge=1)
    full_lr: float = Field(default=1e-3, gt=0)
    unfreeze: bool = False
    thaw: int = Field(default=5, ge=0)
    refit: bool = True

    @property
    def refits(self) -> bool:
        """As asked."""
        return self.refit

    def derive(self) -> Sequence[Proposal]:
        """The best, each trained alone from the backbones."""
        thaw = min(self.thaw, self.full_epochs // 2) if self._kept else 0
        free = self.unfreeze or not self._kept
        recipe = self._recipe(self.full_lr, frozen=not free, thaw=thaw if free else 0)
        fidelity = self._fidelity(self.full_epochs)
        init = tuple(self._kept.values())
        return [
            Proposal(genotype, fidelity, recipe, init, stage="winner")
            for genotype in self.chosen()[: self.top]
        ]

    def random(self, rng: np.random.Generator) -> Proposal:
        """A network drawn uniformly, trained alone and briefly."""
        recipe = self._recipe(self.full_lr, frozen=bool(self._kept))
        fidelity, init = self._fidelity(self.probe_epochs), tuple(self._kept.values())
        return Proposal(self._space.sample(rng), fidelity, recipe, init, stage="random")
