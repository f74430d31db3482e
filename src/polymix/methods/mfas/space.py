"""The space of MFAS: which feature of each backbone enters which fusion layer, and how.

A fusion network is a list of triplets (feature of f, feature of g, activation), or, of k
modalities, of k features and an activation; layer l is σ(W_l [x_m; y_n; h_{l-1}]) (Pérez-Rúa et
al. 2019, Eq. 1, 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from polymix.errors import GenotypeError
from polymix.genotype import Block, Genotype
from polymix.registry import register

Activation = Literal["relu", "sigmoid", "leaky-relu"]
ACTIVATIONS: tuple[Activation, ...] = ("relu", "sigmoid", "leaky-relu")

Layer = tuple[tuple[int, ...], Activation]
"""A feature's index for each modality, and the activation."""


@register
class MFASGenotype(Genotype):
    """A fusion network on the features of backbones.

    Attributes:
        backbones: an encoder per modality, in the schema's order.
        layers: for each fusion layer, the feature of each backbone that enters it (an index into
            the encoder's list) and the layer's activation.
        width: of every fusion layer.
        multitask: whether each modality has a head of its own on its backbone's last feature,
            for the loss on ẑ_x, ẑ_y and ẑ_xy of the final training.
    """

    kind: ClassVar[str] = "mfas"

    backbones: tuple[tuple[str, Block], ...] = Field(min_length=1)
    layers: tuple[Layer, ...] = Field(min_length=1)
    width: int = Field(default=32, ge=1)
    multitask: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [name for name, _ in self.backbones]
        if len(set(names)) != len(names):
            raise ValueError(f"a modality has one backbone, but got {names}")
        for number, (features, _) in enumerate(self.layers, 1):
            if len(features) != len(names) or min(features) < 0:
                raise ValueError(
                    f"layer {number} needs a feature's index for each of {names}, "
                    f"but got {list(features)}"
                )
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read."""
        return tuple(name for name, _ in self.backbones)

    def __str__(self) -> str:
        layers = (f"({','.join(map(str, f))} {a})" for f, a in self.layers)
        return f"{'+'.join(name for name, _ in self.backbones)} {' '.join(layers)}"

    def draw(self) -> str:
        """A drawing of the fusion network, a line a layer.

        >>> two = (("image", Block.of("lenet")), ("sound", Block.of("lenet", stages=5)))
        >>> layers = (((2, 4), "relu"), ((0, 4), "sigmoid"))
        >>> print(MFASGenotype(backbones=two, layers=layers).draw())
        image[2] ─┬─ sound[4] ──────── relu ───── h1
        image[0] ─┬─ sound[4] ─┬─ h1 ─ sigmoid ── h2 ── softmax
        """
        lines = []
        for number, (features, activation) in enumerate(self.layers, 1):
            named = zip(self.backbones, features, strict=True)
            read = " ─┬─ ".join(f"{name}[{index}]" for (name, _), index in named)
            before = f" ─┬─ h{number - 1} ─ " if number > 1 else " ──────── "
            wide = max(len(a) for _, a in self.layers)
            tail = "─" * (wide - len(activation) + 2)
            lines.append(f"{read}{before}{activation} {tail} h{number}")
        return "\n".join(lines) + " ── softmax"


@dataclass(frozen=True)
class MFASSpace:
    """All fusion networks of up to so many layers on given backbones.

    Attributes:
        backbones: an encoder per modality, in the schema's order.
        features: how many features each backbone has: M, N, …
        activations: P of them.
        length: L, the most layers.
        width: of every layer.
    """

    backbones: Mapping[str, Block]
    features: Sequence[int]
    activations: Sequence[Activation] = ("relu", "sigmoid")
    length: int = 4
    width: int = 32
    unit: tuple[Layer, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problems = []
        if not self.backbones or len(self.features) != len(self.backbones):
            problems.append(
                f"every backbone has a number of features, but {len(self.backbones)} backbones "
                f"and {list(self.features)} were given"
            )
        if min(self.features, default=1) < 1 or self.length < 1:
            problems.append(
                "features, length >= 1 must hold, "
                f"but got {list(self.features)}, length={self.length}"
            )
        if not self.activations or len(set(self.activations)) != len(self.activations):
            problems.append(
                f"activations are one at least, each once, but got {list(self.activations)}"
            )
        if problems:
            raise GenotypeError(problems)
        indices = product(*(range(count) for count in self.features))
        # Γ: every triplet, or k features and an activation, in a fixed order.
        layers = tuple((f, a) for f, a in product(indices, self.activations))
        object.__setattr__(self, "unit", layers)

    def count(self, length: int) -> int:
        """(M·N·P)^length: the networks of exactly this many layers."""
        return int(len(self.unit) ** length)

    def __len__(self) -> int:
        """The networks of 1 to L layers, Σ_l (M·N·P)^l; the paper's (M·N·P)^L is `count(L)`."""
        return sum(self.count(length) for length in range(1, self.length + 1))

    def genotype(self, layers: Sequence[Layer]) -> MFASGenotype:
        """The genotype of these layers."""
        return MFASGenotype(
            backbones=tuple(self.backbones.items()), layers=tuple(layers), width=self.width
        )

    def __iter__(self) -> Iterator[MFASGenotype]:
        """Every genotype, once, the shortest first."""
        for length in range(1, self.length + 1):
            for layers in product(self.unit, repeat=length):
                yield self.genotype(layers)

    def __contains__(self, genotype: object) -> bool:
        return (
            isinstance(genotype, MFASGenotype)
            and genotype == self.genotype(genotype.layers)
            and len(genotype.layers) <= self.length
            and all(layer in self.unit for layer in genotype.layers)
        )

    def sample(self, rng: np.random.Generator) -> MFASGenotype:
        """One genotype, drawn uniformly from all of `len()`."""
        lengths = range(1, self.length + 1)
        # Relative to the longest: exact enough, and no overflow whatever the size.
        shares = np.array([math.exp((n - self.length) * math.log(len(self.unit))) for n in lengths])
        length = 1 + int(rng.choice(self.length, p=shares / shares.sum()))
        return self.genotype([self.unit[int(i)] for i in rng.integers(len(self.unit), size=length)])

    def mutate(self, genotype: MFASGenotype, rng: np.random.Generator) -> MFASGenotype:
        """A neighbour: a layer drawn anew, added or dropped at the end; itself if there is none."""
        layers = list(genotype.layers)
        moves = ["anew"] * (len(self.unit) > 1)
        moves += ["add"] * (len(layers) < self.length) + ["drop"] * (len(layers) > 1)
        if not moves:
            return genotype
        move = moves[int(rng.integers(len(moves)))]
        if move == "drop":
            layers.pop()
        elif move == "add":
            layers.append(self.unit[int(rng.integers(len(self.unit)))])
        else:
            where = int(rng.integers(len(layers)))
            others = [layer for layer in self.unit if layer != layers[where]]
            layers[where] = others[int(rng.integers(len(others)))]
        return self.genotype(layers)

    def singles(self) -> list[MFASGenotype]:
        """Γ_1: all networks of one layer."""
        return [self.genotype([layer]) for layer in self.unit]

    def unfold(self, genotype: MFASGenotype) -> list[MFASGenotype]:
        """The network with one more layer, each in turn; none beyond L layers."""
        if len(genotype.layers) >= self.length:
            return []
        return [self.genotype([*genotype.layers, layer]) for layer in self.unit]
