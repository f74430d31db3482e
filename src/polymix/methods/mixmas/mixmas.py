"""MixMAS (Chergui et al. 2025): a greedy search, stage by stage, on a representative sample.

    1. sample       n rows by Eq. 1                                    `sample_size`
    2. encoders     for each modality, each candidate alone            `_encoder_probes`
    3. function     concat, mean, max with the chosen encoders         `_fusion_probes`
    4. network      each candidate with encoders and function fixed    `_network_probes`

Each stage fixes what it found for the next ones: the trials are Σ|E_m| + |F| + |N|, where the space
has Π|E_m|·|F|·|N| genotypes. Every candidate is trained briefly, from scratch; the best of a stage
is kept, and of those that are within the noise of the best, the one with the fewest FLOPs. The
winner is then trained in full with the M2-Mixer loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby, zip_longest
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from polymix.data.sample import sample_size
from polymix.genotype import Block, Genotype
from polymix.methods.mixmas.candidates import (
    KnownFusion,
    affordable,
    candidate_space,
    even_share,
    known_networks,
)
from polymix.methods.mixmas.space import MixSpace
from polymix.records import TIE_Z, Fidelity, Proposal, Recipe, Sampler, Schedule, Status, Trial
from polymix.registry import register
from polymix.search.protocol import SearchTask, Strategy
from polymix.space.mix import Fusion, Loss, MixGenotype

Rivals = Sequence[tuple[Any, list[Trial]]]


@register
class MixMAS(Strategy):
    """Stage-wise search over encoders, fusion functions and fusion networks.

    Attributes:
        encoders: names for every modality that takes them, or names by modality; `CANDIDATES`
            where not given.
        fusions: fusion functions.
        networks: fusion networks by name; `none` goes straight to the head.
        preset: of every candidate: `small` or `paper`.
        loss: of stages 3 and 4, and of the full training.
        epochs: of a probe.
        seeds: probes of each candidate.
        halving: successive halving over epochs: all candidates for a fifth of `epochs`, the
            better half of them on to a half, from where they stood.
        sample_rows: of a probe; by Eq. 1 where not given.
        sampler: how the sample is drawn; the last two are the paper's future work.
        lr: of a probe.
        batch_size: of a probe and of the full training.
        full_epochs: of the full training, at most.
        full_lr: its learning rate at the start.
        full_schedule: of its learning rate.
        modality_dropout: chance that a row's modality is hidden, where rows may lack one.
        shift: share of their time by which spectrograms move at random in training, at most.
        tie_z: standard errors that are noise: candidates no further from the best are as good.
    """

    name: ClassVar[str] = "mixmas"
    summary: ClassVar[str] = "stage-wise search over mixer encoders, fusion functions and networks"

    encoders: list[str] | dict[str, list[str]] | None = None
    fusions: list[KnownFusion] = Field(default=["concat", "mean", "max"], min_length=1)
    networks: list[str] = Field(default=["none", "mlp-mixer", "hyper-mixer"], min_length=1)
    preset: str = "small"
    loss: Loss = Loss()
    epochs: int = Field(default=10, ge=1)
    seeds: int = Field(default=1, ge=1)
    halving: bool = False
    sample_rows: int | None = Field(default=None, ge=1)
    sampler: Sampler = "random"
    lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)
    full_epochs: int = Field(default=30, ge=1)
    full_lr: float = Field(default=1e-3, gt=0)
    full_schedule: Schedule = "cosine"
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    tie_z: float = Field(default=TIE_Z, ge=0, le=10)

    _task: SearchTask = PrivateAttr()
    _space: MixSpace = PrivateAttr()
    _fidelity: Fidelity = PrivateAttr()
    _stage: int = PrivateAttr(default=0)
    _rung: int = PrivateAttr(default=0)
    _field: list[Genotype] = PrivateAttr(default_factory=list)
    _ahead: dict[str, Any] = PrivateAttr(default_factory=dict)
    _reached: dict[tuple[Genotype, int], str] = PrivateAttr(default_factory=dict)
    _chosen: dict[str, Block] = PrivateAttr(default_factory=dict)
    _fusion: Fusion | None = PrivateAttr(default=None)
    _network: Block | None = PrivateAttr(default=None)

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, names: list[str]) -> list[str]:
        return known_networks(names)

    # Stage 1, and what the other stages are made of.

    def setup(self, task: SearchTask) -> None:
        """List the candidates, and fix the probes' fidelity (stage 1, Eq. 1)."""
        self._task = task
        self._space = candidate_space(
            task.schema, self.encoders, self.fusions, self.networks, self.preset, self.loss
        )
        rows = min(self.sample_rows or sample_size(task.rows), task.rows)  # Eq. 1
        wanted = Fidelity(rows, self.epochs, task.seed, self.sampler)
        # Halving spares the worse half most of its epochs: about 0.4 of the price of full probes.
        self._fidelity = affordable(task, wanted, self._probes, 0.4 if self.halving else 1.0)
        self._chosen = {name: blocks[0] for name, blocks in self._space.encoders.items()}
        # Where every candidate of a stage fails, the first one stands for it.
        if len(self._chosen) > 1:
            self._fusion = self.fusions[0]

    def expected(self) -> list[Proposal]:
        """All probes with their share of the clock; see `_probes`."""
        probes = self._probes(self._fidelity)
        return [replace(p, share=even_share(self._task, len(probes))) for p in probes]

    def _probes(self, fidelity: Fidelity) -> list[Proposal]:
        """All probes there will be, the later stages' with the first candidates."""
        pairs = [(m, b) for m, blocks in self._space.encoders.items() for b in blocks]
        genotypes = [MixGenotype.single(m, b) for m, b in pairs]
        if len(self._space.encoders) > 1:
            first = tuple((m, blocks[0]) for m, blocks in self._space.encoders.items())
            genotypes += [self._fused(first, f, None) for f in self.fusions]
            genotypes += [self._fused(first, self.fusions[0], n) for n in self._space.networks]
        return [Proposal(g, fidelity, self._recipe()) for g in genotypes for _ in range(self.seeds)]

    def _recipe(self, full: bool = False) -> Recipe:
        lacking = any(m.optional for m in self._task.schema.modalities)
        return Recipe(
            lr=self.full_lr if full else self.lr,
            batch_size=self.batch_size,
            schedule=self.full_schedule if full else "constant",
            modality_dropout=self.modality_dropout if lacking else 0.0,
            shift=self.shift,
        )

    def _fused(
        self, encoders: tuple[tuple[str, Block], ...], fusion: Fusion, network: Block | None
    ) -> MixGenotype:
        return MixGenotype(encoders=encoders, fusion=fusion, network=network, loss=self.loss)

    # Stages 2 to 4.

    def ask(self) -> Sequence[Proposal]:
        """The probes of the next stage; nothing after the last."""
        stages: list[tuple[str, Callable[[], list[Genotype]]]] = [
            ("encoders", self._encoder_probes),
            ("fusion function", self._fusion_probes),
            ("fusion network", self._network_probes),
        ]
        # One modality has nothing to fuse: stage 2 is all there is.
        if self._stage >= (len(stages) if len(self._chosen) > 1 else 1):
            return []
        stage, probes = stages[self._stage]
        share = even_share(self._task, len(self.expected()))
        if self._rung == 0:
            self._field = probes()
        epochs = self._rungs()[self._rung]
        cohort = []
        for genotype in self._field:
            for seed in range(self._task.seed, self._task.seed + self.seeds):
                # Under halving, a candidate goes on from the weights of its own last rung and seed.
                reached = self._reached.get((genotype, seed))
                cohort.append(
                    Proposal(
                        genotype,
                        replace(self._fidelity, epochs=epochs, seed=seed),
                        self._recipe(),
                        init=(reached,) if reached else (),
                        keep=self.halving,
                        stage=stage,
                        share=share,
                    )
                )
        return cohort

    def _rungs(self) -> list[int]:
        """Epochs of each rung: more, for those that stay."""
        if not self.halving:
            return [self._fidelity.epochs]
        first = max(1, self._fidelity.epochs // 5)
        return [first, max(1, self._fidelity.epochs // 2 - first)]

    def _encoder_probes(self) -> list[Genotype]:
        # In turns, so that a clock that runs out leaves each modality some that were tried.
        pairs = [[(m, block) for block in found] for m, found in self._space.encoders.items()]
        turns = chain.from_iterable(zip_longest(*pairs))
        return [MixGenotype.single(*pair) for pair in turns if pair is not None]

    def _fusion_probes(self) -> list[Genotype]:
        pairs = tuple(self._chosen.items())
        return [self._fused(pairs, fusion, None) for fusion in self._space.fusions]

    def _network_probes(self) -> list[Genotype]:
        assert self._fusion is not None
        pairs = tuple(self._chosen.items())
        return [self._fused(pairs, self._fusion, network) for network in self._space.networks]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the best of the stage; under halving, first the better half of it."""
        told = [(g, list(ts)) for g, ts in groupby(trials, key=lambda t: t.proposal.genotype)]
        contests = self._contests(told)
        if self._rung < len(self._rungs()) - 1:
            halves = {name: _better_half(rivals) for name, rivals in contests.items()}
            self._field = [g for half in halves.values() for g in half]
            # Should the clock end the next rung before it began, this one has the last word.
            self._ahead = {name: self._pick(rivals) for name, rivals in contests.items()}
            self._reached = {
                (t.proposal.genotype, t.proposal.fidelity.seed): t.weights
                for t in trials
                if t.weights
            }
            self._rung += 1
            return
        for name, rivals in contests.items():
            best = self._pick(rivals) or self._ahead.get(name)
            if best is None:
                continue
            if self._stage == 0:
                self._chosen[name] = dict(best.encoders)[name]
            elif self._stage == 1:
                self._fusion = best.fusion
            else:
                self._network = best.network
        self._reached, self._ahead = {}, {}
        self._rung = 0
        self._stage += 1

    def _contests(self, told: Rivals) -> dict[str, Rivals]:
        """Who competes with whom: in stage 2 the encoders of one modality, later all."""
        if self._stage:
            return {"": told}
        return {
            name: [(g, ts) for g, ts in told if name in dict(g.encoders)] for name in self._chosen
        }

    def _pick(self, rivals: Rivals) -> Any:
        """The best mean score; of those within its noise, the one with the fewest FLOPs."""
        scored = [(g, [t for t in ts if t.status is Status.DONE]) for g, ts in rivals]
        if not any(ts for _, ts in scored):  # What the clock cut short is better than nothing.
            scored = [(g, [t for t in ts if t.usable]) for g, ts in rivals]
        scored = [(g, ts) for g, ts in scored if ts]
        if not scored:
            return None
        # The reference is the best mean over seeds; whoever is within its noise ties with it.
        _, top = max(scored, key=lambda pair: np.mean([t.value for t in pair[1]]))
        apart = self._task.difference
        tied = [(g, ts) for g, ts in scored if ts is top or apart(top, ts).near(self.tie_z)]
        return min(tied, key=lambda pair: pair[1][0].cost.flops)[0]

    # What comes after.

    def derive(self) -> Sequence[Proposal]:
        """The winner, to be trained in full."""
        pairs = tuple(self._chosen.items())
        if self._fusion is None:
            genotype = MixGenotype(encoders=pairs)
        else:
            genotype = self._fused(pairs, self._fusion, self._network)
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [Proposal(genotype, fidelity, self._recipe(full=True), stage="winner")]

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The encoder of each modality that stage 2 chose."""
        return self._chosen

    def random(self, rng: np.random.Generator) -> Proposal | None:
        """A complete genotype, at the probes' fidelity."""
        genotype = self._space.sample(rng)
        return Proposal(genotype, self._fidelity, self._recipe(), stage="random")

    def size(self) -> int:
        """Π|E_m|·|F|·|N|."""
        return len(self._space)


def _better_half(rivals: Rivals) -> list[Any]:
    """Those with the better mean scores, half of them rounded up, in the order asked."""
    scores = [float(np.mean([t.value for t in trials])) for _, trials in rivals]
    kept = sorted(range(len(rivals)), key=lambda i: -scores[i])[: -(-len(rivals) // 2)]
    return [rivals[i][0] for i in sorted(kept)]
