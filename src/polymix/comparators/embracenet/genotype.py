"""EmbraceNet as a genotype (Choi and Lee 2019): a baseline beside MRO's paths."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from polymix.genotype import Block, Genotype
from polymix.registry import register


@register
class EmbraceGenotype(Genotype):
    """Every modality docked to one width, and a modality drawn for each channel of it.

    Attributes:
        encoders: an encoder for each modality, two at least.
        width: c, of what the modalities are docked to.
        dropout: of what comes out, before the head.
    """

    kind: ClassVar[str] = "embrace"

    encoders: tuple[tuple[str, Block], ...] = Field(min_length=2)
    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [name for name, _ in self.encoders]
        if len(set(names)) != len(names):
            raise ValueError(f"a modality has one encoder, but got {names}")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read."""
        return tuple(name for name, _ in self.encoders)

    def __str__(self) -> str:
        return " + ".join([*(f"{n}:{block}" for n, block in self.encoders), f"embrace{self.width}"])
