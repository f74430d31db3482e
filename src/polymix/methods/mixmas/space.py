"""The space of MixMAS: all ways to combine candidate encoders, fusion functions and networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from polymix import seeds
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.space.mix import Fusion, Loss, MixGenotype

Part = TypeVar("Part")
UNIFORM = Loss()


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
        if len(pairs) == 1:  # it has neither fusion function nor network, and a single loss
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
        draw = int(rng.integers(2**63))  # one number a genotype: each part hashes it with its name

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
        options: list[MixGenotype] = []  # all neighbours, so that each is as likely
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
