"""Genotype to model: a model's class says which genotypes it is of, and is registered."""

from __future__ import annotations

from collections.abc import Hashable

import torch

from polymix import seeds
from polymix.data.schema import Schema
from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype
from polymix.nn.model import MODELS, Model


def model_class(genotype: Genotype) -> type[Model]:
    """The class of a genotype's model.

    Raises:
        GenotypeError: nothing builds this kind of genotype.
    """
    if genotype.kind not in MODELS:
        raise GenotypeError(
            f"nothing builds genotypes of kind '{genotype.kind}': register a model whose "
            f"`builds` is {type(genotype).__qualname__}"
        )
    return MODELS[genotype.kind]


def build(genotype: Genotype, schema: Schema) -> Model:
    """The model of a genotype, randomly initialised.

    Raises:
        GenotypeError: nothing builds this kind of genotype, or it does not fit the schema.
    """
    return model_class(genotype)(genotype, schema)


def versions(genotype: Genotype) -> dict[str, int]:
    """The versions of the blocks that a genotype uses: part of the ledger's key."""
    return model_class(genotype).versions(genotype)


def stack_key(genotype: Genotype, schema: Schema) -> Hashable | None:
    """Equal for genotypes whose models are trained side by side; see `Model.stack_key`."""
    return model_class(genotype).stack_key(genotype, schema)


def fit_seconds(genotype: Genotype, schema: Schema, rows: int) -> float | None:
    """About how long a `fitted` model's fit to `rows` rows takes; none for gradient steps."""
    return model_class(genotype).fit_seconds(genotype, schema, rows)


def frozen_blocks(genotype: Genotype) -> set[tuple[str, Block]]:
    """The encoders, by modality, that are never trained, where all others are."""
    return model_class(genotype).frozen_blocks(genotype)


def one_core(genotype: Genotype) -> bool:
    """Whether fits of a `fitted` model are made beside each other; see `Model.one_core`."""
    return model_class(genotype).one_core(genotype)


def build_seeded(
    genotype: Genotype, schema: Schema, seed: int, device: torch.device | str = "cpu"
) -> Model:
    """The model of a genotype; initial weights depend on seed and genotype alone."""
    with seeds.torch_stream("cpu", seed, "weights", genotype.digest):
        return build(genotype, schema).to(device)
