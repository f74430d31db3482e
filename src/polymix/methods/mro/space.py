"""The space of MRO: which modality attends to which (Kim and Song 2025, sections 3.2 and 3.3).

A mask has a bit for each of the k(k-1) directed paths, ordered by the modality that asks and then
by the one that is asked: for text, audio, vision T→A, T→V, A→T, A→V, V→T, V→A. A path i→j takes
its queries from i, its keys and values from j. The mask of zeros leads nowhere, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype
from polymix.registry import register

Mask = tuple[int, ...]
Path = tuple[str, str]


def paths_of(names: Sequence[str]) -> list[Path]:
    """All directed paths between modalities, in a mask's order.

    >>> paths_of(["T", "A", "V"])
    [('T', 'A'), ('T', 'V'), ('A', 'T'), ('A', 'V'), ('V', 'T'), ('V', 'A')]
    """
    return list(permutations(names, 2))


@register
class MROGenotype(Genotype):
    """A network of cross-modal attention paths, some of them taken.

    Attributes:
        encoders: an encoder for each modality, two at least; what they give is mapped to `dim`.
        mask: 1 for each path that is taken, in the order of `paths_of`.
        dim: channels of the paths.
        heads: of their attention; they divide `dim`.
        ff: hidden channels of their feed-forward layers, in multiples of `dim`.
        dropout: within the paths, and on what they are given.
    """

    kind: ClassVar[str] = "mro"

    encoders: tuple[tuple[str, Block], ...] = Field(min_length=2)
    mask: Mask
    dim: int = Field(default=64, ge=1)
    heads: int = Field(default=4, ge=1)
    ff: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"a modality has one encoder, but got {list(self.modalities)}")
        count = len(self.modalities) * (len(self.modalities) - 1)
        if len(self.mask) != count or not set(self.mask) <= {0, 1}:
            raise ValueError(
                f"{len(self.modalities)} modalities have {count} paths: a mask is so many zeros "
                f"and ones, but got {list(self.mask)}"
            )
        if not any(self.mask):
            raise ValueError(f"a mask takes one path at least, but got {list(self.mask)}")
        if self.dim % self.heads:
            raise ValueError(f"heads divide dim, but got heads={self.heads}, dim={self.dim}")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read."""
        return tuple(name for name, _ in self.encoders)

    @property
    def paths(self) -> list[Path]:
        """The paths that are taken."""
        return [path for path, bit in zip(paths_of(self.modalities), self.mask, strict=True) if bit]

    def __str__(self) -> str:
        taken = " ".join(f"{i}→{j}" for i, j in self.paths)
        return f"[{','.join(map(str, self.mask))}] {taken}"

    def draw(self) -> str:
        """The mask as a table of text: a row asks, a column is asked."""
        width = max(map(len, self.modalities))
        taken = set(self.paths)
        lines = [" " * width + "   " + "  ".join(f"{name:^{width}}" for name in self.modalities)]
        for i in self.modalities:
            cells = [" " if i == j else "x" if (i, j) in taken else "·" for j in self.modalities]
            lines.append(f"{i:>{width}} → " + "  ".join(f"{cell:^{width}}" for cell in cells))
        return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True)
class MROSpace:
    """All masks but the one of zeros: 2^(k(k-1)) - 1.

    Attributes:
        full: the genotype that takes every path; the others differ from it in the mask alone.
    """

    full: MROGenotype

    def __post_init__(self) -> None:
        if not all(self.full.mask):
            raise GenotypeError(f"the full network takes every path, but got {self.full.mask}")

    @cached_property
    def paths(self) -> list[Path]:
        """All paths, in a mask's order."""
        return self.full.paths

    def genotype(self, mask: Sequence[int]) -> MROGenotype:
        """The genotype of a mask.

        Raises:
            GenotypeError: it takes no path, or is of another length.
        """
        bits = tuple(int(bit) for bit in mask)
        if len(bits) != len(self.paths) or not any(bits) or not set(bits) <= {0, 1}:
            raise GenotypeError(
                f"a mask is {len(self.paths)} zeros and ones, not all zero, but got {list(bits)}"
            )
        return self.full.model_copy(update={"mask": bits})

    def masks(self) -> np.ndarray:
        """All masks, `(2^P - 1, P)` uint8."""
        count = len(self.paths)
        # The binary digits of 1, 2, …: the first path is the highest bit, as a mask is printed.
        numbers = np.arange(1, 2**count, dtype=np.int64)
        return (numbers[:, None] >> np.arange(count - 1, -1, -1) & 1).astype(np.uint8)

    def __len__(self) -> int:
        return int(2 ** len(self.paths) - 1)

    def __iter__(self) -> Iterator[MROGenotype]:
        """Every genotype, once."""
        for bits in product((0, 1), repeat=len(self.paths)):
            if any(bits):
                yield self.genotype(bits)

    def __contains__(self, genotype: object) -> bool:
        return isinstance(genotype, MROGenotype) and self.full == genotype.model_copy(
            update={"mask": self.full.mask}
        )

    def sample(self, rng: np.random.Generator) -> MROGenotype:
        """One genotype, drawn uniformly."""
        return self.genotype(draw_mask(np.full(len(self.paths), 0.5), rng))

    def mutate(self, genotype: MROGenotype, rng: np.random.Generator) -> MROGenotype:
        """A neighbour: one path more, or one less."""
        flipped = [
            tuple(bit ^ (i == at) for i, bit in enumerate(genotype.mask))
            for at in range(len(genotype.mask))
        ]
        options = [mask for mask in flipped if any(mask)]
        return self.genotype(options[int(rng.integers(len(options)))])


def draw_mask(chances: np.ndarray, rng: np.random.Generator, attempts: int = 1000) -> Mask:
    """A mask, each path with its own chance, drawn again where it takes none.

    Args:
        chances: of the paths, `(P,)`.
        rng: draws.
        attempts: after so many, the likeliest path alone is taken.
    """
    for _ in range(attempts):
        bits = rng.random(len(chances)) < chances
        if bits.any():
            return tuple(int(bit) for bit in bits)
    return tuple(int(i == chances.argmax()) for i in range(len(chances)))
