"""MFAS (Pérez-Rúa et al. 2019): which layers of which backbone to fuse, layer by layer.

Algorithm 1, with iterations outside, levels inside and nothing reset (the paper prints levels
outside, but its Fig. 5 and the mixed lengths of Table 1 say otherwise):

    backbones, each alone, in full, as ordinary trials                      `Backbones.proposals`
    S_1 ← Γ_1, all networks of one layer                                    `_next`
    for e = 1 … E_search, for l = 1 … L:       one step, one temperature    `temperature`
        S'_l ← S_{l-1} with one more layer; A' ← π(S'_l)                    `unfold`, `predict`
        S_l ← K of S'_l, drawn with p ∝ exp(A' / T)                         `sample`
        train S_l for E_train epochs, from shared weights if asked          `_proposal`, `_shared`
        π ← all that is known                                               `tell`
    the best are trained in full, wide: backbones first frozen, then not    `derive`

What was trained is never trained again: it is not drawn, and a step that finds nothing new to draw
only hands on a sample of what is known.

Where the paper trains 2 epochs from shared weights at a learning rate of 1e-3, the default here is
6 epochs, each network from its own start, at 5e-3, scored after the last of them: the score has to
say how networks compare once trained in full, and after so little training it says how quickly
they start. The rank correlations are in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from polymix import seeds
from polymix.data.schema import Task
from polymix.genotype import Block
from polymix.methods.backbones import Backbones
from polymix.methods.mfas.space import Activation, MFASGenotype, MFASSpace
from polymix.methods.mfas.surrogate import Row, Surrogate, sample, temperature
from polymix.records import Fidelity, Proposal, Recipe, Trial
from polymix.registry import register
from polymix.search.protocol import SearchTask, Strategy


@register
class MFAS(Strategy):
    """Search for fusion networks on the features of trained backbones.

    Attributes:
        backbones: encoders by modality, see `Backbones`.
        preset: of the backbones.
        backbone_epochs: of a backbone, at most.
        backbone_lr: its learning rate at the start.
        batch_size: of everything.
        weight_decay: of everything.
        modality_dropout: chance that a row's modality is hidden, where rows may lack one.
        length: L, the most fusion layers.
        iterations: E_search.
        samples: K, networks a step.
        activations: P of them.
        epochs: E_train.
        width: of a fusion layer, in the search.
        lr: in the search.
        sharing: whether W_l starts from the last W_l that was trained, as in the paper: what is
            tried late then starts ahead.
        hottest: T_max.
        coldest: T_min.
        top: how many are trained in full.
        full_width: of their fusion layers.
        full_epochs: of their training.
        thaw: epochs of it with frozen backbones; at most half of it.
        full_lr: its learning rate at the start.
        balanced: whether, of a multilabel target, a label's rare positives weigh as much as its
            negatives.
    """

    name: ClassVar[str] = "mfas"
    summary: ClassVar[str] = "which layers of trained backbones to fuse, by a surrogate's guesses"

    backbones: dict[str, str] = Field(default_factory=dict)
    preset: str = "small"
    backbone_epochs: int = Field(default=10, ge=1)
    backbone_lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    length: int = Field(default=4, ge=1)
    iterations: int = Field(default=3, ge=1)
    samples: int = Field(default=15, ge=1)
    activations: list[Activation] = Field(default=["relu", "sigmoid"], min_length=1)
    epochs: int = Field(default=6, ge=1)
    width: int = Field(default=32, ge=1)
    lr: float = Field(default=5e-3, gt=0)
    sharing: bool = False
    hottest: float = Field(default=10.0, gt=0)
    coldest: float = Field(default=0.2, gt=0)
    top: int = Field(default=5, ge=1)
    full_width: int = Field(default=256, ge=1)
    full_epochs: int = Field(default=20, ge=1)
    thaw: int = Field(default=5, ge=0)
    full_lr: float = Field(default=1e-3, gt=0)
    balanced: bool = True

    _task: SearchTask = PrivateAttr()
    _backbones: Backbones = PrivateAttr()
    _space: MFASSpace = PrivateAttr()
    _surrogate: Surrogate = PrivateAttr()
    _rng: np.random.Generator = PrivateAttr()
    _step: int = PrivateAttr(default=0)
    _parents: list[MFASGenotype] = PrivateAttr(default_factory=list)
    _scores: dict[MFASGenotype, float] = PrivateAttr(default_factory=dict)
    _last: dict[int, tuple[int, str]] = PrivateAttr(default_factory=dict)
    _trained: int = PrivateAttr(default=0)

    def setup(self, task: SearchTask) -> None:
        """Name the backbones, and count their features.

        Raises:
            UsageError: a backbone that there is not, or an activation given twice.
        """
        self._task, schema = task, task.schema
        self._rng = seeds.stream(task.seed, "mfas")
        problems = []
        if len(set(self.activations)) != len(self.activations):
            problems.append(f"activations: each once, but got {self.activations}")
        lacking = any(m.optional for m in schema.modalities)
        recipe = Recipe(
            lr=self.backbone_lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule="cosine",
            modality_dropout=self.modality_dropout if lacking else 0.0,
            balanced=self.balanced and schema.target.task is Task.MULTILABEL,
        )
        self._backbones = Backbones(
            task, self.backbones, self.preset, self.backbone_epochs, recipe, problems
        )
        self._open(self._backbones.blocks)

    def _open(self, blocks: Mapping[str, Block]) -> None:
        """The space over these backbones, and a surrogate that has seen nothing of it."""
        counts = [self._backbones.features[name] for name in blocks]
        self._space = MFASSpace(blocks, counts, self.activations, self.length, self.width)
        self._surrogate = Surrogate([*counts, len(self.activations)], self._task.seed)

    # Asking.

    def ask(self) -> Sequence[Proposal]:
        """The backbones, then the networks of each step; nothing after the last."""
        if not self._backbones.trained:
            return self._backbones.proposals()
        if not self._backbones.weights:
            return []
        while self._step < self.iterations * self.length:
            fresh = self._next()
            if fresh:
                return [self._proposal(g) for g in fresh]
            self._step += 1
        return []

    def _next(self) -> list[MFASGenotype]:
        """The networks of this step that are to be trained; `_parents` are what is unfolded next.

        At level 1 all of Γ_1 are trained, once, and K of them, drawn, are what is unfolded.
        """
        level = self._step % self.length  # from 0: one layer less than the networks have
        found = self._space.singles()
        if level:
            unfolded = [g for parent in self._parents for g in self._space.unfold(parent)]
            found = list(dict.fromkeys(unfolded))
        # What was trained is never trained again, as it is in the public code.
        fresh = [g for g in found if g not in self._scores]
        if level == 0 and fresh:
            # What a budget may cut off is no matter of the order in which they are listed.
            return [fresh[int(i)] for i in self._rng.permutation(len(fresh))]
        self._parents = self._drawn(fresh or found)
        return self._parents if fresh else []

    def _drawn(self, found: Sequence[MFASGenotype]) -> list[MFASGenotype]:
        steps = self.iterations * self.length
        heat = temperature(self._step, steps, self.hottest, self.coldest)
        # A' = π(S'_l), then K of them with p ∝ exp(A' / T).
        guesses = self._surrogate.predict([self._rows(g) for g in found])
        return [found[i] for i in sample(guesses, self.samples, heat, self._rng)]

    def _rows(self, genotype: MFASGenotype) -> list[Row]:
        return [(*f, self.activations.index(a)) for f, a in genotype.layers]

    def _proposal(self, genotype: MFASGenotype) -> Proposal:
        level, iteration = self._step % self.length + 1, self._step // self.length + 1
        shared = self._shared(len(genotype.layers))
        return replace(
            self._probe(genotype),
            init=(*self._backbones.init, *shared),
            keep=self.sharing,  # weights that nobody inherits are not written
            stage=f"iteration {iteration}, level {level}",
        )

    def _probe(self, genotype: MFASGenotype) -> Proposal:
        """A network trained for E_train epochs on the frozen backbones."""
        fidelity = Fidelity(self._task.rows, self.epochs, self._task.seed)
        recipe = replace(self._backbones.recipe, lr=self.lr, frozen=True)
        return Proposal(genotype, fidelity, recipe, self._backbones.init)

    def _shared(self, length: int) -> list[str]:
        """Weights to start from, the oldest first: of each W_l the last that was trained.

        Whoever trained W_l trained all layers below it too, so that weights applied in the order
        in which they were made leave of each layer the last.
        """
        # Pairs of when and which: a set, as one network may have trained several of the layers.
        found = {self._last[level] for level in range(length) if level in self._last}
        return [digest for _, digest in sorted(found)]

    # Being told.

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep backbones; or scores and weights, and let the surrogate learn from all scores."""
        if not self._backbones.trained:
            self._backbones.keep(trials)
            left = self._backbones.usable()
            if left and len(left) < len(self._space.backbones):
                self._open(left)  # a modality whose backbone could not be trained takes no part
            return
        for trial in trials:  # in the order of proposals: the last one's weights stay
            genotype = trial.proposal.genotype
            assert isinstance(genotype, MFASGenotype)
            self._scores[genotype] = _score(trial)
            if trial.weights and self.sharing:
                self._trained += 1
                for level in range(len(genotype.layers)):
                    self._last[level] = (self._trained, trial.weights)
        known = [g for g, score in self._scores.items() if np.isfinite(score)]
        if known:
            # On all data so far, not the last cohort's alone: nothing is forgotten between levels.
            rows = [self._rows(g) for g in known]
            self._surrogate.update(rows, [self._scores[g] for g in known])
        if self._step % self.length == 0:  # level 1 trained all of Γ_1: K of them are unfolded
            self._parents = self._drawn(self._space.singles())
        self._step += 1

    # What comes after.

    def derive(self) -> Sequence[Proposal]:
        """The best, wide, from the backbones: first frozen, then trained with all heads' losses."""
        known = [g for g, score in self._scores.items() if np.isfinite(score)]
        best = sorted(known, key=lambda g: -self._scores[g])[: self.top]
        thaw = min(self.thaw, self.full_epochs // 2) if self._backbones.weights else 0
        recipe = replace(self._backbones.recipe, lr=self.full_lr, thaw=thaw)
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [
            Proposal(self._wide(g), fidelity, recipe, self._backbones.init, stage="winner")
            for g in best or [self.plain()]
        ]

    def _wide(self, genotype: MFASGenotype) -> MFASGenotype:
        return genotype.model_copy(update={"width": self.full_width, "multitask": True})

    def plain(self) -> MFASGenotype:
        """The last features, joined: what is left to guess where nothing could be tried."""
        last = tuple(count - 1 for count in self._space.features)
        return self._space.genotype([(last, self.activations[0])])

    def in_full(self, tried: Proposal, like: Proposal) -> Proposal:
        """As wide, and with the heads, that `derive` gives."""
        assert isinstance(tried.genotype, MFASGenotype)
        return replace(like, genotype=self._wide(tried.genotype), init=tried.init)

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The backbones."""
        return self._backbones.blocks

    def random(self, rng: np.random.Generator) -> Proposal | None:
        """A network that inherits no weights; none without backbones."""
        if not self._backbones.weights:
            return None
        return replace(self._probe(self._space.sample(rng)), stage="random")

    def expected(self) -> Sequence[Proposal]:
        """Backbones, Γ_1, and K networks of each level, whichever they will be."""
        search = list(self._space.singles())
        for _ in range(self.iterations):
            for level in range(1, self.length):
                count = min(self.samples, self._space.count(level + 1))
                search += [self._space.genotype(search[0].layers * (level + 1))] * count
        return [*self._backbones.proposals(), *map(self._probe, search)]

    def size(self) -> int:
        """Σ_l (M·N·P)^l."""
        return len(self._space)


def _score(trial: Trial) -> float:
    """The metric after the last epoch: of the best of them, luck in its choice would be scored."""
    return trial.curve[-1] if trial.usable else float("-inf")
