"""A weighted mean of trained models, as a genotype."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    field_serializer,
    field_validator,
    model_validator,
)

from polymix.genotype import Genotype, parse_genotype
from polymix.registry import register


class Member(BaseModel):
    """One model of an ensemble.

    Attributes:
        genotype: its architecture.
        weight: its share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    genotype: SerializeAsAny[Genotype]
    weight: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

    @field_validator("genotype", mode="before")
    @classmethod
    def _any_kind(cls, value: Any) -> Any:
        """A genotype of any kind, from JSON too; an ensemble has no ensembles in it."""
        found = parse_genotype(json.dumps(value)) if isinstance(value, dict) else value
        if isinstance(found, EnsembleGenotype):
            raise ValueError("an ensemble's members are no ensembles")
        return found

    @field_serializer("genotype")
    def _with_kind(self, genotype: Genotype) -> Any:
        return json.loads(genotype.to_json())


@register
class EnsembleGenotype(Genotype):
    """The weighted mean of what models predict.

    Attributes:
        members: the models; their weights sum to one.
    """

    kind: ClassVar[str] = "ensemble"

    members: tuple[Member, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(member.weight for member in self.members)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the members' weights must sum to 1, but sum to {total}")
        return self

    def parts(self) -> tuple[Genotype, ...]:
        """The members' genotypes."""
        return tuple(member.genotype for member in self.members)

    @property
    def learns(self) -> str:
        """Averaging is what it adds to its members."""
        return "ensemble"

    def __str__(self) -> str:
        return " + ".join(f"{m.weight:.2f} ({m.genotype})" for m in self.members)
