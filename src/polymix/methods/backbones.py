"""The backbones of a method that searches on features: trained in full first, each alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from polymix.data.schema import Kind, Schema
from polymix.errors import GenotypeError, UsageError, did_you_mean
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.encoders.pretrained import pinned
from polymix.records import Fidelity, Proposal, Recipe, Trial
from polymix.search.protocol import SearchTask
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


LEAST_ROWS = 256
"""Of a backbone's training, however little time there is."""


class Backbones:
    """An encoder of each modality, trained alone as an ordinary trial, its weights kept.

    A strategy asks for `proposals`, gives the trials to `keep`, and starts its networks from
    `init`.

    Args:
        task: what the strategy is told.
        names: encoders by modality; `BACKBONES` where not given. A pretrained one's model may
            follow its name: `pretrained-text:a-hub/id`.
        preset: of the encoders.
        epochs: of each, at most.
        recipe: of the networks on them; a backbone alone hides no modality.
        problems: what is wrong with the strategy's other options, told along with these.

    Attributes:
        blocks: the encoder of each modality, in the schema's order.
        features: how many features each of them has.
        recipe: as given.
        trained: whether `keep` was told of the trials.
        weights: digests of the weights, by modality, of those that could be trained.

    Raises:
        UsageError: a modality or an encoder that there is not; all problems at once.
    """

    def __init__(
        self,
        task: SearchTask,
        names: Mapping[str, str],
        preset: str,
        epochs: int,
        recipe: Recipe,
        problems: Sequence[str] = (),
    ) -> None:
        self.blocks: dict[str, Block] = {}
        self.features: dict[str, int] = {}
        self.recipe, self.trained = recipe, False
        self.weights: dict[str, str] = {}
        self._task, self._epochs = task, epochs
        self._frozen: dict[str, bool] = {}
        found = self._name(task.schema, names, preset)
        if found or problems:
            raise UsageError([*found, *problems])

    def _name(self, schema: Schema, names: Mapping[str, str], preset: str) -> list[str]:
        """Find each modality's encoder; returns what is wrong."""
        problems = [
            f"backbones: no modality '{name}': {did_you_mean(name, schema.names)}"
            for name in names
            if name not in schema.names
        ]
        for modality in schema.modalities:
            asked = names.get(modality.name, BACKBONES[modality.kind])
            name, _, model = asked.partition(":")
            block = Block.of(name, preset, **({"model": model} if model else {}))
            try:
                # On the meta device no weights are made: widths, and what pins a model, need none.
                with torch.device("meta"):
                    encoder = catalog.make_encoder(block, modality)
                self.blocks[modality.name] = pinned(block, encoder)
                self.features[modality.name] = len(encoder.widths)
                self._frozen[modality.name] = encoder.frozen
            except GenotypeError as error:
                problems += [f"backbones: {modality.name}: {p}" for p in error.problems]
        return problems

    def proposals(self) -> list[Proposal]:
        """Each modality alone, for as many epochs as leave half of the time to the search.

        One epoch is the least, as a search on untrained features would say nothing; where it does
        not fit either, it is one on fewer rows, so that each backbone is trained.
        """
        rows, seconds = self._task.rows, self._task.seconds
        for epochs in range(self._epochs, 0, -1):
            asked, spent = self._asked(rows, epochs)
            if seconds is None or spent <= seconds / 2:
                return asked
        assert seconds is not None
        fewer = max(min(rows, LEAST_ROWS), int(rows * seconds / 2 / spent))
        return self._asked(fewer, 1)[0]

    def _asked(self, rows: int, epochs: int) -> tuple[list[Proposal], float]:
        """The proposals, and the seconds that they are expected to take."""
        # Hiding the only modality would leave a row with nothing to learn from.
        recipe = replace(self.recipe, modality_dropout=0.0)
        fidelity = Fidelity(rows, epochs, self._task.seed)
        asked = [
            Proposal(
                MixGenotype.single(name, block), fidelity,
                replace(recipe, frozen=self._frozen[name]), keep=True, stage="backbones",
            )
            for name, block in self.blocks.items()
        ]  # fmt: skip
        return asked, sum(self._task.predict(p) for p in asked)

    def keep(self, trials: Sequence[Trial]) -> None:
        """Keep the weights of those that could be trained; trials in the order of `proposals`."""
        self.trained = True
        told = zip(self.blocks, trials, strict=True)
        self.weights = {name: t.weights for name, t in told if t.weights}

    def usable(self) -> dict[str, Block]:
        """The encoders whose weights were kept."""
        return {name: block for name, block in self.blocks.items() if name in self.weights}

    @property
    def init(self) -> tuple[str, ...]:
        """What a network on them starts from: the digests of all kept weights."""
        return tuple(self.weights.values())
