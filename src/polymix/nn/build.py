"""Genotype to model. A method adds its own genotypes with `@build.register`."""

from __future__ import annotations

from collections.abc import Hashable
from functools import singledispatch

import torch

from polymix import seeds
from polymix.data.schema import Schema
from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype
from polymix.nn import catalog
from polymix.nn.encoders.mlp import PooledNetwork
from polymix.nn.model import MixModel, Model
from polymix.space.mix import MixGenotype


@singledispatch
def build(genotype: Genotype, schema: Schema) -> Model:
    """The model of a genotype, randomly initialised.

    Raises:
        GenotypeError: nothing builds this kind of genotype, or it does not fit the schema.
    """
    raise GenotypeError(f"nothing builds genotypes of kind '{genotype.kind}' on {schema.names}")


@singledispatch
def versions(genotype: Genotype) -> dict[str, int]:
    """The versions of the blocks that a genotype uses: part of the ledger's key."""
    raise GenotypeError(f"nothing versions genotypes of kind '{genotype.kind}'")


@singledispatch
def stack_key(genotype: Genotype, schema: Schema) -> Hashable | None:  # noqa: ARG001
    """Equal for genotypes whose models differ in parameters and buffers alone.

    Such models, free of dropout and batch statistics, are trained in one stacked computation.
    None, the default, is for a model that is trained by itself.
    """
    return None


@singledispatch
def fit_seconds(genotype: Genotype, schema: Schema, rows: int) -> float | None:  # noqa: ARG001
    """About how long a `fitted` model's fit to `rows` rows takes; none for gradient steps."""
    return None


@singledispatch
def frozen_blocks(genotype: Genotype) -> set[tuple[str, Block]]:  # noqa: ARG001
    """The encoders, by modality, that are never trained, where all others are."""
    return set()


@frozen_blocks.register
def _frozen_blocks_mix(genotype: MixGenotype) -> set[tuple[str, Block]]:
    return {
        (name, block)
        for name, block in genotype.encoders
        if catalog.encoder_class(block.name) in catalog.PRETRAINED.values()
        and dict(block.options).get("frozen", True)
    }


@build.register
def _build_mix(genotype: MixGenotype, schema: Schema) -> Model:
    return MixModel(genotype, schema)


@versions.register
def _versions_mix(genotype: MixGenotype) -> dict[str, int]:
    found = {block.name: catalog.version(block) for _, block in genotype.encoders}
    if genotype.network and genotype.network.name == PooledNetwork.name:
        found["pooled " + PooledNetwork.name] = PooledNetwork.VERSION
    elif genotype.network:
        found[genotype.network.name] = catalog.version(genotype.network)
    if genotype.fusion:
        found[genotype.fusion] = catalog.FUSIONS[genotype.fusion].VERSION
    return found


def build_seeded(
    genotype: Genotype, schema: Schema, seed: int, device: torch.device | str = "cpu"
) -> Model:
    """The model of a genotype; initial weights depend on seed and genotype alone."""
    with seeds.torch_stream("cpu", seed, "weights", genotype.digest):
        return build(genotype, schema).to(device)
