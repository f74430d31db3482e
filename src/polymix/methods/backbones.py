"""What strategies on the features of trained backbones share: the backbones, asked for first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from pydantic import Field, PrivateAttr

from polymix.data.schema import Kind
from polymix.errors import GenotypeError, UsageError, did_you_mean
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.encoders.pretrained import pinned
from polymix.records import Fidelity, Proposal, Recipe, Trial
from polymix.search.protocol import SearchTask, Strategy
from polymix.space.mix import MixGenotype

BACKBONES: dict[Kind, str] = {
    Kind.IMAGE: "conv",
    Kind.AUDIO: "conv",
    Kind.TIMESERIES: "conv",
    Kind.TEXT: "maxout",
    Kind.TABULAR: "maxout",
    Kind.FEATURES: "maxout",
}
"""What learns from some thousands of rows: the papers' `lenet`, averaged over all positions, needs
more (280 steps on `demo` leave its image at 0.20)."""


class OnBackbones(Strategy):
    """Trains a backbone of each modality, in full, as ordinary trials, and keeps their weights.

    Attributes:
        backbones: encoders by modality; `BACKBONES` where not given. A pretrained one's model
            may follow its name: `pretrained-text:a-hub/id`.
        preset: of the backbones.
        backbone_epochs: of a backbone, at most.
        backbone_lr: its learning rate at the start.
        batch_size: of everything.
        weight_decay: of everything.
        modality_dropout: chance that a row's modality is hidden, where rows may lack one.
    """

    backbones: dict[str, str] = Field(default_factory=dict)
    preset: str = "small"
    backbone_epochs: int = Field(default=10, ge=1)
    backbone_lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)

    _task: SearchTask = PrivateAttr()
    _kept: dict[str, str] = PrivateAttr(default_factory=dict)
    _frozen: dict[str, bool] = PrivateAttr(default_factory=dict)
    _begun: bool = PrivateAttr(default=False)

    def _problems(self) -> list[str]:
        """What else is wrong with the options."""
        return []

    def _blocks(self) -> dict[str, Block]:
        schema = self._task.schema
        problems = [
            f"backbones: no modality '{name}': {did_you_mean(name, schema.names)}"
            for name in self.backbones
            if name not in schema.names
        ]
        found = {}
        for modality in schema.modalities:
            asked = self.backbones.get(modality.name, BACKBONES[modality.kind])
            name, _, model = asked.partition(":")
            block = Block.of(name, self.preset, **({"model": model} if model else {}))
            try:
                with torch.device("meta"):
                    encoder = catalog.make_encoder(block, modality)
                found[modality.name] = pinned(block, encoder)
                self._frozen[modality.name] = encoder.frozen
            except GenotypeError as error:
                problems += [f"backbones: {modality.name}: {p}" for p in error.problems]
        problems += self._problems()
        if problems:
            raise UsageError(problems)
        return found

    def _counts(self, blocks: Mapping[str, Block]) -> list[int]:
        """How many features each backbone has."""
        with torch.device("meta"):
            made = [catalog.make_encoder(b, self._task.schema[n]) for n, b in blocks.items()]
        return [len(encoder.widths) for encoder in made]

    def _fidelity(self, epochs: int) -> Fidelity:
        return Fidelity(self._task.rows, epochs, self._task.seed)

    def _recipe(self, lr: float, *, frozen: bool = False, thaw: int = 0) -> Recipe:
        lacking = any(m.optional for m in self._task.schema.modalities)
        return Recipe(
            lr=lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule="cosine",
            modality_dropout=self.modality_dropout if lacking else 0.0,
            frozen=frozen,
            thaw=thaw,
        )

    def _backbone_probes(self, blocks: Mapping[str, Block]) -> list[Proposal]:
        """Each modality alone, for as many epochs as leave half of the time to the search."""
        recipe = replace(self._recipe(self.backbone_lr), modality_dropout=0.0)
        for epochs in range(self.backbone_epochs, 0, -1):
            asked = [
                Proposal(
                    MixGenotype.single(name, block), self._fidelity(epochs),
                    replace(recipe, frozen=self._frozen.get(name, False)), keep=True,
                    stage="backbones",
                )
                for name, block in blocks.items()
            ]  # fmt: skip
            spent = sum(self._task.predict(p) for p in asked)
            if self._task.seconds is None or spent <= self._task.seconds / 2:
                break
        return asked

    def _keep(self, names: Sequence[str], trials: Sequence[Trial]) -> None:
        """Keep the weights of the backbones that could be trained."""
        self._begun = True
        told = zip(names, trials, strict=True)
        self._kept = {name: t.weights for name, t in told if t.weights}
