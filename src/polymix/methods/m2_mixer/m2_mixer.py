"""M2-Mixer (Bezirganyan et al. 2023): one architecture by configuration, no search.

    each modality's own mixer          `encoders_on`
    concatenated tokens, and a mixer   `genotype_on`, Eq. 3
    a head of each branch, their sum   `Loss`, Eq. 5 to 7
    trained as it is                   `derive`

Squares are cut into 2 x 2 patches, other images and spectrograms into patches of half their shorter
side, padded where it does not divide them; a sequence is one token a step, a vector goes through a
plain MLP and is one token. Sizes are the public code's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, PrivateAttr

from polymix.data.schema import Kind, Modality, Schema
from polymix.genotype import Block
from polymix.records import Fidelity, Proposal, Recipe, Trial
from polymix.registry import register
from polymix.search.protocol import SearchTask, Strategy
from polymix.space.mix import Loss, MixGenotype


@dataclass(frozen=True)
class Config:
    """Sizes and training of one configuration."""

    channels: int
    token_dim: int
    channel_dim: int
    blocks: int
    fusion_blocks: int
    fusion_token_dim: int
    fusion_channel_dim: int
    dropout: float
    loss: Loss
    batch_size: int = 32
    plateau_patience: int = 2


UNIFORM, SINGLE, LINEAR = Loss(kind="uniform"), Loss(kind="single"), Loss(kind="linear")

CONFIGS: dict[str, Config] = {
    "S": Config(32, 16, 256, 2, 1, 16, 256, 0.1, UNIFORM),
    "M": Config(64, 16, 1024, 2, 1, 16, 1024, 0.1, UNIFORM),
    "MMixer": Config(64, 16, 1024, 2, 1, 16, 1024, 0.1, SINGLE),
    "B": Config(128, 32, 3072, 4, 2, 32, 3078, 0.5, UNIFORM),
    "H": Config(64, 16, 64, 1, 1, 8, 64, 0.3, UNIFORM, 128, 5),
    "LC": Config(64, 16, 64, 1, 1, 8, 64, 0.3, LINEAR, 128, 5),
}


@register
class M2Mixer(Strategy):
    """One configuration of the M2-Mixer, trained as in its paper.

    Attributes:
        config: `S`, `M`, `B` (AV-MNIST), `MMixer` (M with the single loss), `H`, `LC` (MIMIC-III).
        loss: in place of the configuration's own.
        epochs: at most.
        lr: at the start.
        patience: epochs without a lower validation loss before training stops.
    """

    name: ClassVar[str] = "m2-mixer"
    summary: ClassVar[str] = "an all-MLP multimodal mixer with a multi-head loss; no search"

    config: Literal["S", "M", "B", "MMixer", "H", "LC"] = "S"
    loss: Loss | None = None
    epochs: int = Field(default=30, ge=1)
    lr: float = Field(default=0.01, gt=0)
    patience: int = Field(default=30, ge=0)
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)

    _task: SearchTask = PrivateAttr()

    def setup(self, task: SearchTask) -> None:
        """Take the task; the configuration is fixed by then."""
        self._task = task

    def ask(self) -> Sequence[Proposal]:
        """No proposals: one configuration is trained, and none is searched."""
        return []

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing, as nothing is asked."""

    def derive(self) -> Sequence[Proposal]:
        """The configuration, trained as in the paper."""
        config = CONFIGS[self.config]
        # Adam, and a rate that falls once the validation loss stays; the paper trains so.
        lacking = any(m.optional for m in self._task.schema.modalities)
        recipe = Recipe(
            lr=self.lr,
            batch_size=config.batch_size,
            schedule="plateau",
            plateau_patience=config.plateau_patience,
            patience=self.patience,
            modality_dropout=self.modality_dropout if lacking else 0.0,
        )
        fidelity = Fidelity(self._task.rows, self.epochs, self._task.seed)
        genotype = genotype_on(self._task.schema, self.config, self.loss)
        return [Proposal(genotype, fidelity, recipe, stage="winner")]

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The configuration's encoder of each modality."""
        return encoders_on(self._task.schema, self.config)


def encoders_on(schema: Schema, name: str) -> dict[str, Block]:
    """A configuration's encoder of each modality."""
    return {m.name: _encoder(m, CONFIGS[name]) for m in schema.modalities}


def genotype_on(schema: Schema, name: str, loss: Loss | None = None) -> MixGenotype:
    """A configuration on a schema, with its own loss or another."""
    config = CONFIGS[name]
    pairs = tuple(encoders_on(schema, name).items())
    if len(pairs) == 1:  # one branch: there is nothing to mix, and one head
        return MixGenotype(encoders=pairs)
    network = Block.of(
        "mlp-mixer",
        token_dim=config.fusion_token_dim,
        channel_dim=config.fusion_channel_dim,
        blocks=config.fusion_blocks,
        dropout=config.dropout,
    )
    return MixGenotype(encoders=pairs, fusion="concat", network=network, loss=loss or config.loss)


def _encoder(modality: Modality, config: Config) -> Block:
    # A vector has no tokens to mix.
    if modality.kind is Kind.TABULAR or (
        modality.kind is Kind.FEATURES and len(modality.shape) < 2
    ):
        return Block.of("mlp", channels=config.channels, layers=3)
    sizes: dict[str, int | float] = {
        "channels": config.channels,
        "token_dim": config.token_dim,
        "channel_dim": config.channel_dim,
        "blocks": config.blocks,
        "dropout": config.dropout,
    }
    if modality.kind in (Kind.IMAGE, Kind.AUDIO):
        # Half of the shorter side, rounded up: 2 x 2 patches of a square.
        sizes["patch"] = math.ceil(min(modality.shape[1:]) / 2)
    # The configuration's sizes stand in place of the preset's.
    return Block.of("mlp-mixer", "small", **sizes)
