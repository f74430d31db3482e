"""The space of MixMAS: an encoder for each modality, a fusion function, a network, a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from polymix import seeds
from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype

Fusion = Literal["concat", "mean", "max"]
Part = TypeVar("Part")


class Loss(BaseModel):
    """Which heads are trained, and how their losses are weighed (M2-Mixer, Eq. 5-7).

    Attributes:
        kind: `single`, the fused head alone; `uniform`, each head 1/(k+1); `linear`, uniform
            until epoch `start`, then the fused head's weight grows by `rate` an epoch, up to 1.
        rate: η of Eq. 7.
        start: k0 of Eq. 7.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["single", "uniform", "linear"] = "uniform"
    rate: float = Field(default=0.05, gt=0, le=1)
    start: int = Field(default=1, ge=0)

    @property
    def multi_head(self) -> bool:
        """Whether modalities have heads of their own."""
        return self.kind != "single"

    def weights(self, modalities: int, epoch: int) -> tuple[float, float]:
        """The fused head's weight, and each modality's, at an epoch counted from 1 (Eq. 6, 7)."""
        if self.kind == "single":
            return 1.0, 0.0
        fused = 1.0 / (modalities + 1)
        if self.kind == "linear" and epoch > self.start:
            fused = min(fused + (epoch - self.start) * self.rate, 1.0)  # Eq. (7)
        return fused, (1.0 - fused) / modalities


UNIFORM = Loss()


class MixGenotype(Genotype):
    """One architecture; a stage's probe is one with parts left out.

    Attributes:
        encoders: an encoder per modality that takes part.
        fusion: how their tokens are joined; none for one modality.
        network: what mixes the joined tokens; none goes straight to the head.
        loss: see `Loss`; a single modality has the single loss.
    """

    kind: ClassVar[str] = "mix"

    encoders: tuple[tuple[str, Block], ...] = Field(min_length=1)
    fusion: Fusion | None = None
    network: Block | None = None
    loss: Loss = Loss(kind="single")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [name for name, _ in self.encoders]
        if len(set(names)) != len(names):
            raise ValueError(f"a modality has one encoder, but got {names}")
        if (len(names) > 1) != (self.fusion is not None):
            raise ValueError(
                f"several modalities need a fusion function and one has none, "
                f"but got {names}, fusion={self.fusion}"
            )
        if len(names) == 1 and self.loss.multi_head:
            raise ValueError("one modality has one head: its loss is single")
        return self

    @classmethod
    def single(cls, modality: str, encoder: Block) -> MixGenotype:
        """One modality alone."""
        return cls(encoders=((modality, encoder),))

    def __str__(self) -> str:
        parts = [f"{name}:{block}" for name, block in self.encoders]
        parts += [self.fusion] if self.fusion else []
        parts += [str(self.network)] if self.network else []
        parts += [self.loss.kind] if self.loss.multi_head else []
        return " + ".join(parts)


@dataclass(frozen=True)
class MixSpace:
    """All complete genotypes of given candidates.

    Attributes:
        encoders: candidates by modality, in the schema's order.
        fusions: fusion functions.
        networks: fusion networks; None among them is "no network".
        loss: the loss of all of them.
    """

    encoders: Mapping[str, Sequence[Block]]
    fusions: Sequence[Fusion]
    networks: Sequence[Block | None]
    loss: Loss = UNIFORM

    def __post_init__(self) -> None:
        empty = [name for name, blocks in self.encoders.items() if not blocks]
        if empty or not self.encoders:
            raise GenotypeError(f"no encoder candidates for {', '.join(empty) or 'any modality'}")
        if len(self.encoders) > 1 and not (self.fusions and self.networks):
            raise GenotypeError(
                "fusion functions and networks must not be empty, "
                f"but got {self.fusions}, {self.networks}"
            )

    def __len__(self) -> int:
        """Π|E_m|·|F|·|N|; one modality has no fusion function."""
        encoders = math.prod(len(blocks) for blocks in self.encoders.values())
        fusions = len(self.fusions) if len(self.encoders) > 1 else 1
        return encoders * fusions * (len(self.networks) if len(self.encoders) > 1 else 1)

    def __iter__(self) -> Iterator[MixGenotype]:
        """Every genotype, once."""
        for chosen in product(*self.encoders.values()):
            pairs = tuple(zip(self.encoders, chosen, strict=True))
            if len(pairs) == 1:
                yield MixGenotype(encoders=pairs)
                continue
            for fusion, network in product(self.fusions, self.networks):
                yield MixGenotype(encoders=pairs, fusion=fusion, network=network, loss=self.loss)

    def __contains__(self, genotype: object) -> bool:
        if not isinstance(genotype, MixGenotype):
            return False
        pairs = dict(genotype.encoders)
        if set(pairs) != set(self.encoders):
            return False
        known = all(pairs[name] in blocks for name, blocks in self.encoders.items())
        if len(pairs) == 1:
            return known and genotype.network is None
        return (
            known
            and genotype.fusion in self.fusions
            and genotype.network in self.networks
            and genotype.loss == self.loss
        )

    def sample(self, rng: np.random.Generator) -> MixGenotype:
        """One genotype, drawn uniformly.

        Each part is the candidate whose hash with the draw is largest (rendezvous hashing), so
        that one more candidate changes only the draws that it wins: what a search has tried
        before stays known to the next one.
        """
        draw = int(rng.integers(2**63))

        def largest(slot: str, candidates: Sequence[Part]) -> Part:
            return max(candidates, key=lambda c: seeds.derive(draw, slot, repr(c)))

        pairs = tuple((name, largest(name, blocks)) for name, blocks in self.encoders.items())
        if len(pairs) == 1:
            return MixGenotype(encoders=pairs)
        fusion = largest(" fusion", self.fusions)
        network = largest(" network", self.networks)
        return MixGenotype(encoders=pairs, fusion=fusion, network=network, loss=self.loss)

    def mutate(self, genotype: MixGenotype, rng: np.random.Generator) -> MixGenotype:
        """A neighbour: one part drawn anew among the other candidates; itself if there is none."""
        options: list[MixGenotype] = []
        for i, (name, block) in enumerate(genotype.encoders):
            for other in self.encoders[name]:
                if other != block:
                    pairs = list(genotype.encoders)
                    pairs[i] = (name, other)
                    options.append(genotype.model_copy(update={"encoders": tuple(pairs)}))
        if genotype.fusion is not None:
            options += [
                genotype.model_copy(update={"fusion": f})
                for f in self.fusions
                if f != genotype.fusion
            ]
            options += [
                genotype.model_copy(update={"network": n})
                for n in self.networks
                if n != genotype.network
            ]
        return options[int(rng.integers(len(options)))] if options else genotype
