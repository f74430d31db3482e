"""Parts of your own, registered when this module is imported; the command line does so by name.

    cd examples
    polymix search demo --import own_parts --time-limit 60s --strategy halves --metric geometric \
        -o encoders=[strips,mlp] -o fusions=[product,concat]

A run folder holds no code: name the module again to use it, as in
`polymix evaluate runs/demo --import own_parts`. A package does the same for all its users by an
entry point of the group `polymix`:

    [project.entry-points.polymix]
    own_parts = "own_parts"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from polymix import Block, Encoder, Kind, Modality, Strategy, Tokens, register
from polymix.data.schema import Task
from polymix.nn.encoder import check_sizes
from polymix.nn.fusion import Elementwise
from polymix.records import Fidelity, Proposal, Trial
from polymix.scoring.metrics import Metric
from polymix.search.protocol import SearchTask
from polymix.space.mix import MixGenotype


@register
class Strips(Encoder):
    """A token for each column of a map."""

    name = "strips"
    VERSION = 1
    kinds = frozenset({Kind.IMAGE, Kind.AUDIO})
    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {"small": {"channels": 64}}

    def __init__(self, modality: Modality, *, channels: int = 64) -> None:
        super().__init__()
        check_sizes(self.name, channels=channels)
        depth, height, _ = modality.shape
        self.mix = nn.Linear(depth * height, channels)
        self.widths = (channels,)

    def features(self, x: Tensor) -> list[Tokens]:
        """`(B, C, H, W)` to `(B, W, channels)`."""
        return [Tokens(self.mix(x.flatten(1, 2).transpose(1, 2)))]


@register
class Product(Elementwise):
    """The product over modalities, squashed so that it stays within reach."""

    name = "product"
    VERSION = 1

    def combine(self, stacked: Tensor) -> Tensor:
        """`(k, B, T, C)` to `(B, T, C)`."""
        return torch.tanh(stacked).prod(0)


@register
class Halves(Strategy):
    """Tries random pairs of encoders and a fusion function; the better half is tried longer."""

    name: ClassVar[str] = "halves"
    summary: ClassVar[str] = "random architectures, of which the better half is tried again, longer"

    encoders: list[str] = Field(default=["mlp"], min_length=1)
    fusions: list[str] = Field(default=["concat"], min_length=1)
    draws: int = Field(default=4, ge=2)
    epochs: int = Field(default=1, ge=1)
    full_epochs: int = Field(default=10, ge=1)

    _task: SearchTask = PrivateAttr()
    _field: list[MixGenotype] = PrivateAttr(default_factory=list)

    def setup(self, task: SearchTask) -> None:
        """Draw the architectures; what is drawn depends on the task's seed alone."""
        self._task = task
        rng = np.random.default_rng(task.seed)
        self._field = [self._drawn(rng) for _ in range(self.draws)]

    def _drawn(self, rng: np.random.Generator) -> MixGenotype:
        pairs = []
        for modality in self._task.schema.modalities:
            name = str(rng.choice(self.encoders))
            if name == "strips" and modality.kind not in Strips.kinds:
                name = "mlp"
            pairs.append((modality.name, Block.of(name)))
        fusion = str(rng.choice(self.fusions)) if len(pairs) > 1 else None
        return MixGenotype(encoders=tuple(pairs), fusion=fusion)

    def ask(self) -> Sequence[Proposal]:
        """All that are still in the field; nothing once one is left."""
        if len(self._field) == 1:
            return []
        epochs = self.epochs * self.draws // len(self._field)
        fidelity = Fidelity(self._task.rows, epochs, self._task.seed)
        return [Proposal(genotype, fidelity) for genotype in self._field]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the better half; `value` is the score, the lowest there is for a failed trial."""
        order = sorted(range(len(trials)), key=lambda i: -trials[i].value)
        self._field = [self._field[i] for i in order[: len(trials) // 2]]

    def derive(self) -> Sequence[Proposal]:
        """The last one, to be trained in full."""
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [Proposal(self._field[0], fidelity)]

    def chosen_encoders(self) -> Mapping[str, Block]:
        """Its encoders: each alone, and late fusion, are what it is compared with."""
        return dict(self._field[0].encoders)


def geometric_mean(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The geometric mean of the classes' recalls; predictions are probabilities `(N, K)`."""
    said = predictions.argmax(1)
    recalls = [float((said[targets == k] == k).mean()) for k in np.unique(targets)]
    return float(np.prod(recalls) ** (1 / len(recalls)))


register(Metric("geometric", frozenset({Task.BINARY, Task.MULTICLASS}), geometric_mean, hard=True))
