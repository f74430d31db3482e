"""Gradient boosting over descriptions of each modality, as a genotype: the rival of every table."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from polymix.genotype import Block, Genotype


class BoostingGenotype(Genotype):
    """Gradient-boosted trees on fixed descriptions of the modalities.

    Attributes:
        descriptions: what describes each modality: `tf-idf`, `summary`, or a pretrained encoder,
            frozen; a modality may have several.
        rounds: trees an output, at most; fewer where validation rows call for no more.
        lr: of each round.
        leaves: of a tree, at most.
        depth: of a tree, at most.
        least: rows of a leaf, at least.
        share: of the columns that each split may look at, drawn anew.
    """

    kind: ClassVar[str] = "gradient-boosting"

    descriptions: tuple[tuple[str, Block], ...] = Field(min_length=1)
    rounds: int = Field(default=200, ge=1, le=2000)
    lr: float = Field(default=0.1, gt=0, le=1)
    leaves: int = Field(default=31, ge=2, le=255)
    depth: int = Field(default=6, ge=1, le=16)
    least: int = Field(default=20, ge=1)
    share: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.descriptions)) != len(self.descriptions):
            raise ValueError(f"a description is used once, but got {self.descriptions}")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities described, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.descriptions))

    def __str__(self) -> str:
        described = " + ".join(f"{name}:{block}" for name, block in self.descriptions)
        return f"{described} → trees"
