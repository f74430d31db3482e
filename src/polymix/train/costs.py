"""What proposals cost on a dataset, counted once for all of a shape."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from polymix.data.dataset import Dataset
from polymix.data.schema import Schema
from polymix.errors import CostError, GenotypeError, PolymixError
from polymix.genotype import Block, Genotype
from polymix.nn.build import build_seeded, fit_seconds, frozen_blocks
from polymix.records import Cost, Recipe
from polymix.train.cost import cost_key, count_cost, count_fusing, count_trained

logger = logging.getLogger(__name__)


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
        self._logged: set[str] = set()

    def of(self, genotype: Genotype, recipe: Recipe | None = None) -> Cost:
        """Parameters and forward FLOPs of a row.

        Raises:
            CostError: it cannot be built on this data, or raised when it was run.
        """
        schema = schema_for(self.dataset.schema, recipe or Recipe())
        with self._counting(genotype):
            where = cost_key(genotype, schema)
            if where not in self._costs:
                self._costs[where] = count_cost(build_seeded(genotype, schema, 0), schema)
            return self._costs[where]

    def trained(self, genotype: Genotype, recipe: Recipe) -> int:
        """FLOPs of a row's forward pass through what is trained: without frozen encoders.

        Raises:
            CostError: it cannot be built on this data, or raised when it was run.
        """
        schema = schema_for(self.dataset.schema, recipe)
        with self._counting(genotype):
            if not recipe.frozen and not frozen_blocks(genotype):
                return self.of(genotype, recipe).flops
            where = recipe.frozen, cost_key(genotype, schema)
            if where not in self._fusing:
                count = count_fusing if recipe.frozen else count_trained
                self._fusing[where] = count(build_seeded(genotype, schema, 0), schema)
            return self._fusing[where]

    def passing(self, genotype: Genotype, recipe: Recipe) -> int:
        """FLOPs of passing all rows through frozen encoders whose features are not there yet.

        Raises:
            CostError: it cannot be built on this data, or raised when it was run.
        """
        with self._counting(genotype):
            if recipe.frozen or frozen_blocks(genotype) <= self.passed:
                return 0
        split = self.dataset.split
        each = self.of(genotype, recipe).flops - self.trained(genotype, recipe)
        return each * (len(split.train) + len(split.val))

    def fitting(self, genotype: Genotype, rows: int) -> float | None:
        """About how long what is no gradient step takes; none where all of training is steps.

        Raises:
            CostError: it cannot be built on this data, or raised when it was run.
        """
        with self._counting(genotype):
            return fit_seconds(genotype, self.dataset.schema, rows)

    @contextmanager
    def _counting(self, genotype: Genotype) -> Iterator[None]:
        """Raise whatever a candidate's own code raises as a `CostError`, logged once."""
        try:
            yield
        except CostError:
            raise
        except Exception as error:  # a candidate's own code may raise anything
            if isinstance(error, PolymixError) and not isinstance(error, GenotypeError):
                raise  # a missing extra or a broken ledger is no fault of the candidate
            if genotype.digest not in self._logged:
                self._logged.add(genotype.digest)
                logger.debug("the cost of %s cannot be counted", genotype, exc_info=True)
            if isinstance(error, GenotypeError):
                raise CostError(error.problems) from error
            raise CostError(f"{type(error).__name__}: {error}") from error
