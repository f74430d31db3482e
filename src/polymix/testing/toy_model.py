"""A toy genotype, and the model that is built of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from polymix.data.schema import Schema
from polymix.genotype import Block, Genotype
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.model import Model
from polymix.nn.tokens import Features, Output, Pool
from polymix.registry import register

Activation = Literal["relu", "sigmoid"]


@register
class ToyGenotype(Genotype):
    """A fusion network on one feature of each modality's encoder.

    Attributes:
        encoders: by modality.
        features: which of the encoder's features is read, one a modality.
        width: of the fusion network.
        activation: of the fusion network.
    """

    kind: ClassVar[str] = "toy"

    encoders: tuple[tuple[str, Block], ...] = Field(min_length=1)
    features: tuple[int, ...]
    width: int = Field(default=8, ge=1)
    activation: Activation = "relu"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read."""
        return tuple(name for name, _ in self.encoders)

    def __str__(self) -> str:
        read = " ".join(f"{n}[{i}]" for (n, _), i in zip(self.encoders, self.features, strict=True))
        return f"{read} {self.activation}"


@register
class ToyModel(Model):
    """The model of a `ToyGenotype`; every feature is offered, and the chosen ones are read.

    What the genotype decides is a buffer, so that models of one width stack. It is not
    persistent: inherited weights must not bring another genotype's choice with them.
    """

    pool = Pool(1)
    choice: Tensor

    builds = ToyGenotype

    def __init__(self, genotype: ToyGenotype, schema: Schema) -> None:
        super().__init__()
        made = {n: catalog.make_encoder(block, schema[n]) for n, block in genotype.encoders}
        self.columns = {name: schema.index(name) for name in made}
        self.encoders = ByModality(made)
        self.wants = {name: tuple(range(len(e.widths))) for name, e in made.items()}
        self.absent = ByModality(
            {
                name: nn.ModuleList(AbsentToken(w, schema[name].optional) for w in e.widths)
                for name, e in made.items()
            }
        )
        self.size = max(width for e in made.values() for width in e.widths)
        self.register_buffer("choice", torch.tensor(genotype.features), persistent=False)
        self.layer = nn.Linear(self.size * len(made), genotype.width)
        self.activation: nn.Module = nn.ReLU() if genotype.activation == "relu" else nn.Sigmoid()
        self.head = nn.Linear(genotype.width, schema.target.outputs)

    @classmethod
    def versions(cls, genotype: ToyGenotype) -> dict[str, int]:
        """Of the toy and its encoders."""
        blocks = {block.name: catalog.version(block) for _, block in genotype.encoders}
        return {"toy": 1, **blocks}

    @classmethod
    def stack_key(cls, genotype: ToyGenotype, schema: Schema) -> Hashable:  # noqa: ARG003
        """What decides the shapes."""
        return genotype.encoders, genotype.width, genotype.activation

    def offered(self, features: Features, present: Tensor | None) -> list[Tensor]:
        """Every feature of each modality, pooled and padded to one width: `(B, F, C)` each."""
        found = []
        for name, column in self.columns.items():
            there = None if present is None else present[:, column]
            absent = cast(nn.ModuleList, self.absent[name])
            tokens = [a(t, there) for a, t in zip(absent, features[name], strict=True)]
            pooled = [t.pooled() for t in tokens]
            padded = [nn.functional.pad(x, (0, self.size - x.shape[1])) for x in pooled]
            found.append(torch.stack(padded, 1))
        return found

    def join(self, chosen: Sequence[Tensor]) -> Output:
        """One feature `(B, C)` of each modality to outputs."""
        hidden = self.activation(self.layer(torch.cat(list(chosen), 1)))
        return Output(self.head(hidden), {})

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        return self.join(
            [
                torch.index_select(offered, 1, self.choice[m : m + 1])[:, 0]
                for m, offered in enumerate(self.offered(features, present))
            ]
        )
