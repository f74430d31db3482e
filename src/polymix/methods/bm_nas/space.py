"""The space of BM-NAS: which features to pair in Cells, and which steps fuse each pair.

Upper level: the nodes [A_1 …, B_1 …, Cell_1 … Cell_N]; a Cell takes different nodes before it.
Lower level: within a Cell, the nodes [x, y, Step_1 … Step_M]; a step takes nodes before it, the
same one twice if it likes, and an operation (Yin et al. 2022, Eq. 3, 9, 11).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product, zip_longest
from typing import ClassVar, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype
from polymix.registry import register

OPERATIONS = ("zero", "sum", "attention", "linear-glu", "concat-fc")
"""The paper's, Eq. 4 to 8."""

Inputs = tuple[int, ...]
T = TypeVar("T")


class Step(BaseModel):
    """One operation of a Cell.

    Attributes:
        inputs: nodes of the Cell, the first from 0: its inputs, then earlier steps.
        operation: by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: Inputs
    operation: str = Field(max_length=100)


class Cell(BaseModel):
    """What fuses some nodes of the upper level.

    Attributes:
        inputs: nodes of the upper level, each once, ascending.
        steps: what is done with them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: Inputs
    steps: tuple[Step, ...] = Field(min_length=1)


@register
class BMNASGenotype(Genotype):
    """A fusion network of Cells on the features of backbones.

    Attributes:
        backbones: an encoder per modality, in the schema's order.
        features: of each backbone, those that are nodes (indices into the encoder's list).
        cells: the network; all Cells' outputs go to the classifier.
        channels: C of every node.
        length: L, the positions of every node.
        dropout: on reshaped features and within operations.
    """

    kind: ClassVar[str] = "bm-nas"

    backbones: tuple[tuple[str, Block], ...] = Field(min_length=1)
    features: tuple[tuple[int, ...], ...]
    cells: tuple[Cell, ...] = Field(min_length=1)
    channels: int = Field(default=64, ge=1)
    length: int = Field(default=8, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [name for name, _ in self.backbones]
        if len(set(names)) != len(names):
            raise ValueError(f"a modality has one backbone, but got {names}")
        _check_features(names, self.features)
        arity = len(self.cells[0].inputs)  # k: two in the paper
        for n, cell in enumerate(self.cells):
            before = len(self.nodes) + n  # features, and the Cells before this one
            ascending = list(cell.inputs) == sorted(set(cell.inputs))
            inside = ascending and min(cell.inputs, default=-1) >= 0 and cell.inputs[-1] < before
            if len(cell.inputs) != arity or arity < 2 or not inside:
                raise ValueError(
                    f"Cell {n + 1} takes {max(arity, 2)} different nodes of 0 to {before - 1}, "
                    f"ascending, but got {list(cell.inputs)}"
                )
            for m, step in enumerate(cell.steps):
                known = set(range(arity + m))  # the Cell's inputs, and the steps before this one
                if len(step.inputs) != arity or not set(step.inputs) <= known:
                    raise ValueError(
                        f"Cell {n + 1}, step {m + 1} takes {arity} nodes of 0 to {arity + m - 1}, "
                        f"but got {list(step.inputs)}"
                    )
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read."""
        return tuple(name for name, _ in self.backbones)

    @property
    def nodes(self) -> list[tuple[str, int]]:
        """The features, modality and index each: the first nodes of the upper level."""
        return [
            (name, index)
            for (name, _), indices in zip(self.backbones, self.features, strict=True)
            for index in indices
        ]

    def node(self, index: int) -> str:
        """What a node of the upper level is called: `image[2]`, `Cell 1`."""
        nodes = self.nodes
        if index >= len(nodes):
            return f"Cell {index - len(nodes) + 1}"
        name, feature = nodes[index]
        return f"{name}[{feature}]"

    def __str__(self) -> str:
        cells = []
        for cell in self.cells:
            told = " ".join(f"{s.operation}({','.join(_inner(cell, s))})" for s in cell.steps)
            cells.append(f"({' '.join(map(self.node, cell.inputs))}: {told})")
        return " ".join(cells)

    def draw(self) -> str:
        """The network as text, after the paper's Figure 3: a Cell's nodes, then its steps."""
        wide = max(len(self.node(i)) for cell in self.cells for i in cell.inputs)
        lines = []
        for n, cell in enumerate(self.cells, 1):
            count = len(cell.inputs)
            ends = ["┬", *"┤" * (count - 2), "┘"]
            read = [
                f"{self.node(i):<{wide}} ── {_letter(k)} ─{end}"
                for k, (i, end) in enumerate(zip(cell.inputs, ends, strict=True))
            ]
            steps = [
                f"S{m} = {step.operation}({', '.join(_inner(cell, step))})"
                for m, step in enumerate(cell.steps, 1)
            ]
            steps[-1] += f" ── Cell {n}"
            for row, (left, right) in enumerate(zip_longest(read, steps, fillvalue="")):
                bar = "─ " if row == 0 else "  "
                lines.append(f"{left:<{wide + 7}}{bar}{right}".rstrip())
        outputs = " ─┬─ ".join(f"Cell {n + 1}" for n in range(len(self.cells)))
        return "\n".join([*lines, f"{outputs} ── output"])


def _letter(place: int) -> str:
    return "xyz"[place] if place < 3 else f"x{place + 1}"


def _inner(cell: Cell, step: Step) -> list[str]:
    count = len(cell.inputs)
    return [_letter(i) if i < count else f"S{i - count + 1}" for i in step.inputs]


def _check_features(names: Sequence[str], features: Sequence[Sequence[int]]) -> None:
    """Raise a ValueError unless each backbone has features, each once and ascending."""
    sound = all(f and list(f) == sorted(set(f)) and f[0] >= 0 for f in features)
    if len(features) != len(names) or not sound:
        raise ValueError(
            f"features are indices, ascending, of each of {list(names)}, "
            f"but got {[list(f) for f in features]}"
        )


@dataclass(frozen=True)
class BMNASSpace:
    """All networks of so many Cells and steps on given backbones.

    Attributes:
        backbones: an encoder per modality, in the schema's order.
        features: of each backbone, the features that are nodes.
        cells: N.
        steps: M, in each Cell.
        operations: that a step may be.
        inputs: of a Cell, and of a step.
        channels: C.
        length: L.
        dropout: of the networks.

    Raises:
        GenotypeError: there is no such network; every problem is told, with its values.
    """

    backbones: Mapping[str, Block]
    features: Sequence[Sequence[int]]
    cells: int = 2
    steps: int = 2
    operations: Sequence[str] = OPERATIONS
    inputs: int = 2
    channels: int = 64
    length: int = 8
    dropout: float = 0.1
    nodes: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problems = []
        try:
            _check_features(list(self.backbones), self.features)
        except ValueError as error:
            problems.append(str(error))
        object.__setattr__(self, "nodes", sum(map(len, self.features)))
        if self.cells < 1 or self.steps < 1 or self.inputs < 2:
            problems.append(
                "cells, steps >= 1 and inputs >= 2 must hold, but got "
                f"cells={self.cells}, steps={self.steps}, inputs={self.inputs}"
            )
        elif self.nodes < self.inputs:
            problems.append(
                f"a Cell takes {self.inputs} different features, but there are {self.nodes}: "
                + ", ".join(
                    f"{n} {list(f)}" for n, f in zip(self.backbones, self.features, strict=False)
                )
            )
        if not self.operations or len(set(self.operations)) != len(self.operations):
            problems.append(
                f"operations are one at least, each once, but got {list(self.operations)}"
            )
        if self.channels < 1 or self.length < 1 or not 0 <= self.dropout < 1:
            problems.append(
                "channels, length >= 1 and 0 <= dropout < 1 must hold, but got "
                f"channels={self.channels}, length={self.length}, dropout={self.dropout}"
            )
        if problems:
            raise GenotypeError(problems)

    @cached_property
    def tuples(self) -> list[list[Inputs]]:
        """Of each Cell, the nodes that it may take: i < j < k of Eq. 3."""
        every = range(self.cells)
        return [list(combinations(range(self.nodes + n), self.inputs)) for n in every]

    def step_count(self, m: int) -> int:
        """How many choices the m-th step of a Cell has: (k + m)^k · P."""
        return int((self.inputs + m) ** self.inputs * len(self.operations))

    def _steps(self, m: int) -> Iterator[Step]:
        for inputs in product(range(self.inputs + m), repeat=self.inputs):
            for operation in self.operations:
                yield Step(inputs=inputs, operation=operation)

    def _step(self, m: int, rng: np.random.Generator) -> Step:
        # With replacement: a step may take the same node twice.
        drawn = rng.integers(self.inputs + m, size=self.inputs)
        return Step(inputs=tuple(map(int, drawn)), operation=_one(self.operations, rng))

    def count(self) -> int:
        """Π_n C(F + n, k) · (Π_m (k + m)^k · P)^N, of k inputs, F features, P operations."""
        lower = math.prod(map(self.step_count, range(self.steps)))
        upper = math.prod(len(options) for options in self.tuples)
        return upper * int(lower**self.cells)

    def __len__(self) -> int:
        """As `count`; more than a machine word holds is for `count` alone."""
        return self.count()

    def genotype(self, cells: Sequence[Cell]) -> BMNASGenotype:
        """The genotype of these Cells."""
        return BMNASGenotype(
            backbones=tuple(self.backbones.items()),
            features=tuple(map(tuple, self.features)),
            cells=tuple(cells),
            channels=self.channels,
            length=self.length,
            dropout=self.dropout,
        )

    def __iter__(self) -> Iterator[BMNASGenotype]:
        """Every genotype, once."""
        lower = [
            [Cell(inputs=inputs, steps=steps) for inputs in options for steps in inner]
            for inner in [list(product(*map(self._steps, range(self.steps))))]
            for options in self.tuples
        ]
        for cells in product(*lower):
            yield self.genotype(cells)

    def __contains__(self, genotype: object) -> bool:
        return (
            isinstance(genotype, BMNASGenotype)
            and genotype == self.genotype(genotype.cells)
            and len(genotype.cells) == self.cells
            and all(
                len(cell.steps) == self.steps
                and len(cell.inputs) == self.inputs
                and all(step.operation in self.operations for step in cell.steps)
                for cell in genotype.cells
            )
        )

    def sample(self, rng: np.random.Generator) -> BMNASGenotype:
        """One genotype, drawn uniformly."""
        return self.genotype(
            [
                Cell(
                    inputs=_one(options, rng),
                    steps=tuple(self._step(m, rng) for m in range(self.steps)),
                )
                for options in self.tuples
            ]
        )

    def mutate(self, genotype: BMNASGenotype, rng: np.random.Generator) -> BMNASGenotype:
        """A neighbour: one Cell's nodes, or one step, drawn anew; itself if there is none."""
        # A place is a Cell and one of its steps; -1 stands for the Cell's own inputs.
        places = [(n, -1) for n, options in enumerate(self.tuples) if len(options) > 1]
        places += [
            (n, m) for n in range(self.cells) for m in range(self.steps) if self.step_count(m) > 1
        ]
        if not places:
            return genotype
        n, m = _one(places, rng)
        cells = list(genotype.cells)
        cell = cells[n]
        if m < 0:
            others = [inputs for inputs in self.tuples[n] if inputs != cell.inputs]
            cells[n] = cell.model_copy(update={"inputs": _one(others, rng)})
        else:
            steps = list(cell.steps)
            # Not from a list of all others: a step of three inputs may have thousands.
            while steps[m] == cell.steps[m]:
                steps[m] = self._step(m, rng)
            cells[n] = cell.model_copy(update={"steps": tuple(steps)})
        return self.genotype(cells)


def _one(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]
