"""What proposals cost on a dataset, counted once for all of a shape."""

from __future__ import annotations

from collections.abc import Hashable

from polymix.data.dataset import Dataset
from polymix.data.schema import Schema
from polymix.genotype import Block, Genotype
from polymix.nn.build import build_seeded, fit_seconds, frozen_blocks
from polymix.records import Cost, Recipe
from polymix.train.cost import cost_key, count_cost, count_fusing, count_trained


def schema_for(schema: Schema, recipe: Recipe) -> Schema:
    """The schema to build on: with modality dropout, any row may lack any modality."""
    if not recipe.modality_dropout:
        return schema
    every = tuple(m.model_copy(update={"optional": True}) for m in schema.modalities)
    return schema.model_copy(update={"modalities": every})


class Costs:
    """Counts, and remembers.

    Args:
        dataset: of what rows.

    Attributes:
        passed: the frozen encoders whose features of all rows are there.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.passed: set[tuple[str, Block]] = set()
        self._costs: dict[Hashable, Cost] = {}
        self._fusing: dict[Hashable, int] = {}

    def of(self, genotype: Genotype, recipe: Recipe | None = None) -> Cost:
        """Parameters and forward FLOPs of a row.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        schema = schema_for(self.dataset.schema, recipe or Recipe())
        where = cost_key(genotype, schema)
        if where not in self._costs:
            self._costs[where] = count_cost(build_seeded(genotype, schema, 0), schema)
        return self._costs[where]

    def trained(self, genotype: Genotype, recipe: Recipe) -> int:
        """FLOPs of a row's forward pass through what is trained: without frozen encoders.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        if not recipe.frozen and not frozen_blocks(genotype):
            return self.of(genotype, recipe).flops
        schema = schema_for(self.dataset.schema, recipe)
        where = recipe.frozen, cost_key(genotype, schema)
        if where not in self._fusing:
            count = count_fusing if recipe.frozen else count_trained
            self._fusing[where] = count(build_seeded(genotype, schema, 0), schema)
        return self._fusing[where]

    def passing(self, genotype: Genotype, recipe: Recipe) -> int:
        """FLOPs of passing all rows through frozen encoders whose features are not there yet.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        if recipe.frozen or frozen_blocks(genotype) <= self.passed:
            return 0
        split = self.dataset.split
        each = self.of(genotype, recipe).flops - self.trained(genotype, recipe)
        return each * (len(split.train) + len(split.val))

    def fitting(self, genotype: Genotype, rows: int) -> float | None:
        """About how long what is no gradient step takes; none where all of training is steps.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        return fit_seconds(genotype, self.dataset.schema, rows)
