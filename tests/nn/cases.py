"""Schemas and batches for the tests of models."""

import torch

from polymix.data.schema import Kind, Modality, Schema, Target
from polymix.genotype import Block
from polymix.testing import EXAMPLES, random_rows

SMALL = {
    Kind.IMAGE: Block.of("mlp-mixer", channels=6, token_dim=5, channel_dim=7, blocks=1),
    Kind.AUDIO: Block.of("conv", channels=8),
    Kind.TIMESERIES: Block.of("hyper-mixer", channels=4, token_dim=3, channel_dim=6, blocks=1),
    Kind.TEXT: Block.of("gmlp", channels=6, channel_dim=8, blocks=1),
    Kind.TABULAR: Block.of("mlp", channels=5),
    Kind.FEATURES: Block.of("s2-mlp", channels=8, channel_dim=6, blocks=1),
}
"""An encoder for each kind; their widths and token counts differ."""

CLASSES = Target(name="label", task="multiclass", classes=("a", "b", "c"))


def schema_of(*kinds: Kind, optional: bool = False, **named: Modality) -> Schema:
    found = [EXAMPLES[kind].model_copy(update={"optional": optional}) for kind in kinds]
    return Schema(modalities=(*found, *named.values()), target=CLASSES)


def rows_of(schema: Schema, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {m.name: random_rows(m, count, seed) for m in schema.modalities}
