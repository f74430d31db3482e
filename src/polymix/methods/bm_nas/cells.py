"""What BM-NAS searches in: Cells over the features of backbones, which are trained first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field, PrivateAttr

from polymix import seeds
from polymix.errors import GenotypeError, UsageError, did_you_mean
from polymix.genotype import Block
from polymix.methods.backbones import OnBackbones
from polymix.methods.bm_nas.fixed import late_pairs, with_fusion
from polymix.methods.bm_nas.space import OPERATIONS, BMNASGenotype, BMNASSpace
from polymix.methods.bm_nas.supernet import Supernet
from polymix.records import Proposal, Trial
from polymix.search.protocol import SearchTask


class OnCells(OnBackbones):
    """Lays out the space, and asks for its backbones.

    Attributes:
        features: of a backbone, those that Cells may take; all where not given.
        cells: N.
        steps: M, of each Cell.
        operations: that a step may be.
        inputs: of a Cell, and of a step.
        channels: C.
        length: L.
        dropout: of the supernet and of what is derived.
    """

    features: dict[str, list[int]] = Field(default_factory=dict)
    cells: int = Field(default=2, ge=1)
    steps: int = Field(default=2, ge=1)
    operations: list[str] = Field(default=list(OPERATIONS), min_length=1)
    inputs: int = Field(default=2, ge=2)
    channels: int = Field(default=64, ge=1)
    length: int = Field(default=8, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    _space: BMNASSpace = PrivateAttr()

    def setup(self, task: SearchTask) -> None:
        """Name the backbones, and lay out the space.

        Raises:
            UsageError: backbones, features or operations that there are not, or no such network.
        """
        self._task = task
        self._space = self._open(self._blocks())

    def _problems(self) -> list[str]:
        schema = self._task.schema
        return [
            f"features: no modality '{name}': {did_you_mean(name, schema.names)}"
            for name in self.features
            if name not in schema.names
        ]

    def _open(self, blocks: Mapping[str, Block]) -> BMNASSpace:
        counts = dict(zip(blocks, self._counts(blocks), strict=True))
        chosen = {name: self.features.get(name, range(count)) for name, count in counts.items()}
        problems = [
            f"features: {name}: {blocks[name]} has features 0 to {counts[name] - 1}, "
            f"but got {list(indices)}"
            for name, indices in chosen.items()
            if not set(indices) <= set(range(counts[name]))
        ]
        try:
            space = BMNASSpace(
                blocks,
                [tuple(indices) for indices in chosen.values()],
                cells=self.cells,
                steps=self.steps,
                operations=tuple(self.operations),
                inputs=self.inputs,
                channels=self.channels,
                length=self.length,
                dropout=self.dropout,
            )
            if not problems:
                with torch.device("meta"):
                    Supernet(space, self._task.schema)  # names what cannot be built
        except GenotypeError as error:
            problems += error.problems
        if problems:
            raise UsageError(problems)
        return space

    def ask(self) -> Sequence[Proposal]:
        """The backbones."""
        return [] if self._begun else self._backbone_probes(self._space.backbones)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep them. A modality whose backbone could not be trained takes no part.

        Where too little would be left to pair, the backbones stay as they are initialised.
        """
        self._keep(list(self._space.backbones), trials)
        left = {n: b for n, b in self._space.backbones.items() if n in self._kept}
        if len(left) < len(self._space.backbones):
            try:
                self._space = self._open(left)
            except UsageError:
                self._kept = {}

    # What may come of it.

    @property
    def space(self) -> BMNASSpace:
        """What is searched."""
        return self._space

    def size(self) -> int:
        """See `BMNASSpace`."""
        return self._space.count()

    def _plain(self) -> BMNASGenotype:
        """The last features, through a layer over both."""
        first = self._space.sample(seeds.stream(self._task.seed, "bm-nas guess"))
        try:
            late = late_pairs(first)
            cells = [c.model_copy(update={"inputs": late[n]}) for n, c in enumerate(first.cells)]
            return with_fusion(first.model_copy(update={"cells": tuple(cells)}), "concat-fc")
        except GenotypeError:
            return first  # one modality, or three inputs

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The backbones."""
        return self._blocks()

    def expected(self) -> Sequence[Proposal]:
        """The backbones; the search itself is timed by its first epoch."""
        return self._backbone_probes(self._space.backbones)
