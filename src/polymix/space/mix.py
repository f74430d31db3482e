"""The genotype of MixMAS and M2-Mixer: encoders, a fusion function, a network, a loss."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polymix.genotype import Block, Genotype
from polymix.registry import register

Fusion = Annotated[str, Field(min_length=1, max_length=100)]
"""A fusion function's name."""


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


@register
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

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read."""
        return tuple(name for name, _ in self.encoders)

    def __str__(self) -> str:
        parts = [f"{name}:{block}" for name, block in self.encoders]
        parts += [self.fusion] if self.fusion else []
        parts += [str(self.network)] if self.network else []
        parts += [self.loss.kind] if self.loss.multi_head else []
        return " + ".join(parts)
