"""MixMAS (Chergui et al. 2025): a greedy search, stage by stage, on a representative sample.

    1. sample       n rows by Eq. 1                                    `sample_size`
    2. encoders     for each modality, each candidate alone            `_encoder_probes`
    3. function     concat, mean, max with the chosen encoders         `_fusion_probes`
    4. network      each candidate with encoders and function fixed    `_network_probes`

Every candidate is trained briefly, from scratch; the best of a stage is kept, and of those that
are within the noise of the best, the one with the fewest FLOPs. The winner is then trained in
full with the M2-Mixer loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby, zip_longest
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from polymix.data.sample import sample_size
from polymix.data.schema import Kind
from polymix.errors import UsageError, did_you_mean
from polymix.genotype import Block, Genotype
from polymix.methods.mixmas.space import MixSpace
from polymix.nn import catalog
from polymix.records import TIE_Z, Fidelity, Proposal, Recipe, Sampler, Schedule, Status, Trial
from polymix.search.protocol import SearchTask, Strategy
from polymix.space.mix import Fusion, Loss, MixGenotype

Rivals = Sequence[tuple[Any, list[Trial]]]
LADDER = (1.0, 0.5, 0.25, 0.125, 0.0625)

MIXERS = ("mlp-mixer", "hyper-mixer")
CANDIDATES: dict[Kind, tuple[str, ...]] = {
    Kind.IMAGE: (*MIXERS, "ramlp", "conv", "mlp"),
    Kind.AUDIO: (*MIXERS, "monarch-mixer", "conv", "mlp"),
    Kind.TIMESERIES: (*MIXERS, "monarch-mixer", "conv", "mlp"),
    Kind.TEXT: (*MIXERS, "monarch-mixer", "conv", "mlp"),
    Kind.TABULAR: ("mlp",),
    Kind.FEATURES: (*MIXERS, "mlp"),
}
"""Table I's candidates, and two that are no mixers: a small CNN and a plain MLP.

Encoders that come with weights of their own are candidates too, as far as they are registered."""


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
    fusions: list[Fusion] = Field(default=["concat", "mean", "max"], min_length=1)
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
        known = ["none", *catalog.network_names()]
        problems = [
            f"no fusion network '{n}': {did_you_mean(n, known)}" for n in names if n not in known
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return names

    # Stage 1, and what the other stages are made of.

    def setup(self, task: SearchTask) -> None:
        """List the candidates, and fix the probes' fidelity (stage 1, Eq. 1)."""
        self._task = task
        names, fusions = dict.fromkeys(self.networks), list(dict.fromkeys(self.fusions))
        networks = [None if n == "none" else Block.of(n, self.preset) for n in names]
        self._space = MixSpace(self._candidates(), fusions, networks, self.loss)
        rows = min(self.sample_rows or sample_size(task.rows), task.rows)
        self._fidelity = self._affordable(Fidelity(rows, self.epochs, task.seed, self.sampler))
        self._chosen = {name: blocks[0] for name, blocks in self._space.encoders.items()}
        if len(self._chosen) > 1:
            self._fusion = self.fusions[0]

    def _candidates(self) -> dict[str, list[Block]]:
        schema, given = self._task.schema, self.encoders
        problems, found = [], {}
        if isinstance(given, dict):
            problems = [
                f"encoders: no modality '{name}': {did_you_mean(name, schema.names)}"
                for name in given
                if name not in schema.names
            ]
        named = given if isinstance(given, list) else [n for v in (given or {}).values() for n in v]
        problems += [
            f"no encoder '{n}': {did_you_mean(n, catalog.encoder_names())}"
            for n in dict.fromkeys(named)
            if n not in catalog.encoder_names()
        ]
        for modality in schema.modalities:
            fitting = catalog.encoders_for(modality.kind)
            own = given.get(modality.name) if isinstance(given, dict) else given
            ready = {block.name: block for block in catalog.pretrained_for(modality)}
            wanted = [*CANDIDATES[modality.kind], *ready] if own is None else own
            names = [n for n in wanted if n in fitting]
            if not names and not problems:
                problems.append(
                    f"none of {own} takes modality '{modality.name}' of kind {modality.kind}: "
                    f"{', '.join(fitting)} do"
                )
            found[modality.name] = [
                ready.get(n, Block.of(n, self.preset)) for n in dict.fromkeys(names)
            ]
        if problems:
            raise UsageError(problems)
        return found

    def _affordable(self, wanted: Fidelity) -> Fidelity:
        """The fullest fidelity at which the stages fit the strategy's share of the clock.

        Epochs are cut first, down to 3, then rows; a candidate that alone would take more than
        four even shares will be skipped, but no more than a quarter of them.
        """
        if self._task.seconds is None:
            return wanted
        tries = [(wanted.rows, e) for e in range(wanted.epochs, min(wanted.epochs, 3) - 1, -1)]
        least = tries[-1][1]
        tries += [(max(1, int(wanted.rows * f)), least) for f in LADDER[1:]]
        tries += [(tries[-1][0], e) for e in range(least - 1, 0, -1)]
        for rows, epochs in tries:
            fidelity = replace(wanted, rows=rows, epochs=epochs)
            costs = [self._task.predict(p) for p in self._probes(fidelity)]
            share = self._share(len(costs))
            fitting = [c for c in costs if c <= share]
            spent = sum(fitting) * (0.4 if self.halving else 1.0)
            if spent <= self._task.seconds and len(fitting) >= 0.75 * len(costs):
                break
        return fidelity

    def expected(self) -> list[Proposal]:
        """All probes, the later stages' with the first candidates."""
        probes = self._probes(self._fidelity)
        return [replace(p, share=self._share(len(probes))) for p in probes]

    def _probes(self, fidelity: Fidelity) -> list[Proposal]:
        """All probes there will be, the later stages' with the first candidates."""
        pairs = [(m, b) for m, blocks in self._space.encoders.items() for b in blocks]
        genotypes = [MixGenotype.single(m, b) for m, b in pairs]
        if len(self._space.encoders) > 1:
            first = tuple((m, blocks[0]) for m, blocks in self._space.encoders.items())
            genotypes += [self._fused(first, f, None) for f in self.fusions]
            genotypes += [self._fused(first, self.fusions[0], n) for n in self._space.networks]
        return [Proposal(g, fidelity, self._recipe()) for g in genotypes for _ in range(self.seeds)]

    def _share(self, probes: int) -> float:
        """Seconds that one probe may take: four even shares."""
        return float("inf") if self._task.seconds is None else 4 * self._task.seconds / probes

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
        if self._stage >= (len(stages) if len(self._chosen) > 1 else 1):
            return []
        stage, probes = stages[self._stage]
        share = self._share(len(self.expected()))
        if self._rung == 0:
            self._field = probes()
        epochs = self._rungs()[self._rung]
        cohort = []
        for genotype in self._field:
            for seed in range(self._task.seed, self._task.seed + self.seeds):
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
        """The encoders chosen."""
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
