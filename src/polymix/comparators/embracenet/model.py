"""EmbraceNet (Choi and Lee 2019): each channel of the fused vector comes from one modality, drawn.

Docking layers bring every modality to c channels (Eq. 1); for each channel a modality is drawn
from a multinomial distribution (Eq. 2-4), uniform over the modalities that the row has (section
3.4): one that is absent is never drawn. In evaluation, where the published code goes on drawing,
a channel is the mean of what could be drawn, so that a row has one prediction.

Shapes: B batch, k modalities, c channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymix.comparators.embracenet.genotype import EmbraceGenotype
from polymix.data.schema import Schema
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.model import Model, make_encoders
from polymix.nn.tokens import Features, Output, mean_there
from polymix.registry import register

VERSION = 1


@register
class EmbraceModel(Model):
    """The model of an `EmbraceGenotype`.

    A row with no modality at all draws from absent-tokens, uniformly.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema; every problem is told.
    """

    builds = EmbraceGenotype

    def __init__(self, genotype: EmbraceGenotype, schema: Schema) -> None:
        super().__init__()
        made = make_encoders(genotype.encoders, schema)
        self.pads = {name: encoder.pads for name, encoder in made.items()}
        self.columns = [schema.index(name) for name in made]
        self.encoders = ByModality(made)
        self.wants = {name: (len(e.widths) - 1,) for name, e in made.items()}
        self.absent = ByModality(
            {
                name: nn.ModuleList([AbsentToken(e.channels, schema[name].optional, e.pads)])
                for name, e in made.items()
            }
        )
        self.docks = ByModality(
            {name: nn.Linear(e.channels, genotype.width) for name, e in made.items()}
        )
        self.dropout = nn.Dropout(genotype.dropout)
        self.head = nn.Linear(genotype.width, schema.target.outputs)

    @classmethod
    def versions(cls, genotype: EmbraceGenotype) -> dict[str, int]:
        """Of the method and its encoders."""
        blocks = {block.name: catalog.version(block) for _, block in genotype.encoders}
        return {"embrace": VERSION, **blocks}

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        there = None if present is None else present[:, self.columns]
        docked = []
        for place, (name, dock) in enumerate(self.docks.items()):
            here = None if there is None else there[:, place]
            x = self.absent[name][0](features[name][0], here).x  # type: ignore[index]
            pooled = mean_there(x, (x != 0).any(-1) if self.pads[name] else None)
            docked.append(torch.relu(dock(pooled)))  # Eq. (1)
        stacked = torch.stack(docked, 1)
        fused = embrace(stacked, chances(stacked, there), self.training)
        return Output(self.head(self.dropout(fused)), {})


def chances(docked: Tensor, there: Tensor | None) -> Tensor:
    """What is drawn how often, `(B, k)`: alike for all that a row has, never what it lacks."""
    if there is None:
        return docked.new_full(docked.shape[:2], 1 / docked.shape[1])
    counted = torch.where(there.any(1, keepdim=True), there, True).to(docked.dtype)
    return counted / counted.sum(1, keepdim=True)


def embrace(docked: Tensor, chance: Tensor, draw: bool) -> Tensor:
    """One vector of several.

    Args:
        docked: `(B, k, c)`.
        chance: of each modality, `(B, k)`.
        draw: a modality for each channel (Eq. 2-4), or their mean.

    Returns:
        `(B, c)`.
    """
    if not draw:
        return torch.einsum("bkc,bk->bc", docked, chance)
    drawn = torch.multinomial(chance, docked.shape[2], replacement=True)
    return docked.gather(1, drawn[:, None])[:, 0]
