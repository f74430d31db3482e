"""Two toy strategies: the smallest proof that the driver fits every method.

`ToyAskTell` is MFAS in miniature: trained backbones, then cohorts of fusion networks on their
banked features, each candidate starting from weights that the cohort before it left behind.
`ToyOneShot` is a differentiable search in miniature: a supernet with architecture logits, weights
on training rows, logits on validation rows, in turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from polymix import seeds
from polymix.data.schema import Schema
from polymix.genotype import Block
from polymix.nn.tokens import Features, Output
from polymix.records import EpochRecord, Fidelity, Proposal, Recipe, Trial
from polymix.search import protocol
from polymix.space.mix import MixGenotype
from polymix.testing.toy_model import Activation, ToyGenotype, ToyModel
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer
from polymix.train.supernet import RowLoader, SupernetTrainer


class _Toy(protocol.Strategy):
    """What both toys share: the same plain encoder for each modality."""

    width: int = Field(default=8, ge=1)
    layers: int = Field(default=3, ge=1)
    epochs: int = Field(default=2, ge=1)
    full_epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=0.01, gt=0)

    _task: protocol.SearchTask = PrivateAttr()

    def setup(self, task: protocol.SearchTask) -> None:
        """Begin."""
        self._task = task

    def chosen_encoders(self) -> dict[str, Block]:
        """An MLP for each modality; its layers are the features."""
        block = Block.of("mlp", channels=self.width, layers=self.layers)
        return {m.name: block for m in self._task.schema.modalities}

    def _recipe(self, frozen: bool = False) -> Recipe:
        return Recipe(lr=self.lr, batch_size=self.batch_size, frozen=frozen)

    def _genotype(self, features: Sequence[int], activation: Activation) -> ToyGenotype:
        return ToyGenotype(
            encoders=tuple(self.chosen_encoders().items()),
            features=tuple(features),
            width=self.width,
            activation=activation,
        )


class ToyAskTell(_Toy):
    """Backbones, then cohorts of fusion networks on their features, with inherited weights.

    Attributes:
        cohorts: of candidates.
        candidates: in a cohort.
    """

    name: ClassVar[str] = "toy-ask-tell"
    summary: ClassVar[str] = "cohorts with inherited weights on banked features, in miniature"

    cohorts: int = Field(default=3, ge=1)
    candidates: int = Field(default=4, ge=1)

    _asked: int = PrivateAttr(default=0)
    _rng: np.random.Generator = PrivateAttr()
    _backbones: tuple[str, ...] = PrivateAttr(default=())
    _inherited: tuple[str, ...] = PrivateAttr(default=())
    _best: Trial | None = PrivateAttr(default=None)

    def setup(self, task: protocol.SearchTask) -> None:
        """Begin."""
        super().setup(task)
        self._rng = seeds.stream(task.seed, "toy candidates")

    def _fidelity(self, epochs: int) -> Fidelity:
        return Fidelity(self._task.rows, epochs, self._task.seed)

    def _space(self) -> list[ToyGenotype]:
        activations: tuple[Activation, ...] = ("relu", "sigmoid")
        count = len(self._task.schema.modalities)
        return [
            self._genotype(features, activation)
            for features in product(range(self.layers), repeat=count)
            for activation in activations
        ]

    def ask(self) -> Sequence[Proposal]:
        """The backbones, then the cohorts."""
        if self._asked > self.cohorts:
            return []
        fidelity = self._fidelity(self.epochs)
        if self._asked == 0:
            return [
                Proposal(
                    MixGenotype.single(name, block), fidelity, self._recipe(), keep=True,
                    stage="backbones",
                )
                for name, block in self.chosen_encoders().items()
            ]  # fmt: skip
        space = self._space()
        size = min(self.candidates, len(space))
        # All of a cohort inherit the weights as they stand at its start.
        init = (*self._backbones, *self._inherited)
        return [
            Proposal(
                space[i], fidelity, self._recipe(frozen=True), init, keep=True,
                stage=f"cohort {self._asked}",
            )
            for i in self._rng.choice(len(space), size, replace=False)
        ]  # fmt: skip

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep weights and the best."""
        if self._asked == 0:
            self._backbones = tuple(t.weights for t in trials if t.weights)
        else:
            for trial in trials:  # in the order of proposals: the last one's weights stay
                if trial.weights:
                    self._inherited = (trial.weights,)
                if trial.usable and (self._best is None or trial.value > self._best.value):
                    self._best = trial
        self._asked += 1

    def derive(self) -> Sequence[Proposal]:
        """The best candidate, trained anew on the backbones' features."""
        genotype = self._best.proposal.genotype if self._best else self._space()[0]
        recipe = self._recipe(frozen=bool(self._backbones))
        return [Proposal(genotype, self._fidelity(self.full_epochs), recipe, self._backbones)]

    def random(self, rng: np.random.Generator) -> Proposal:
        """A candidate that inherits nothing."""
        space = self._space()
        return Proposal(
            space[int(rng.integers(len(space)))], self._fidelity(self.epochs),
            self._recipe(frozen=True), self._backbones, stage="random",
        )  # fmt: skip

    def size(self) -> int:
        """How many candidates there are."""
        return len(self._space())


class _Supernet(ToyModel):
    """All choices at once, weighed by architecture logits, `(k, F)`."""

    def __init__(self, genotype: ToyGenotype, schema: Schema, features: int) -> None:
        super().__init__(genotype, schema)
        self.dropout = nn.Dropout(0.1)
        self.logits = nn.Parameter(torch.zeros(len(genotype.encoders), features))

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Every feature, weighed by its share."""
        shares = torch.softmax(self.logits, 1)
        offered = self.offered(features, present)
        mixed = [torch.einsum("bfc,f->bc", x, s) for x, s in zip(offered, shares, strict=True)]
        return self.join([self.dropout(x) for x in mixed])

    def weights(self) -> list[Tensor]:
        """All parameters but the architecture's."""
        return [p for name, p in self.named_parameters() if name != "logits"]


class ToyOneShot(_Toy):
    """A supernet: weights on training rows and architecture on validation rows, in turns.

    Attributes:
        horizon: epochs of the search.
    """

    name: ClassVar[str] = "toy-one-shot"
    summary: ClassVar[str] = "a supernet with architecture logits, in miniature"

    horizon: int = Field(default=3, ge=1)

    _net: _Supernet | None = PrivateAttr(default=None)
    _optimizers: tuple[torch.optim.Optimizer, ...] = PrivateAttr(default=())
    _epoch: int = PrivateAttr(default=0)

    def start(self, horizon: int | None, trainer: SupernetTrainer) -> int:
        """Build the supernet anew."""
        schema = self._task.schema
        genotype = self._genotype([0] * len(schema.modalities), "relu")
        with seeds.torch_stream("cpu", trainer.seed, "toy supernet"):
            net = _Supernet(genotype, schema, self.layers)
        self._net, self._epoch = net.to(trainer.device), 0
        self._optimizers = (
            make_optimizer(self._net.weights(), Recipe(lr=self.lr)),
            make_optimizer([self._net.logits], Recipe(lr=0.1)),
        )
        return horizon or self.horizon

    def epoch(self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader) -> EpochRecord:
        """Weights on all training rows, then the architecture on all validation rows."""
        net, epoch = self._net, self._epoch
        assert net is not None
        losses = []
        with trainer.dropout("toy epoch", epoch):
            net.train()
            for feed, optimizer in zip((train, val), self._optimizers, strict=True):
                for batch in feed.shuffled(self.batch_size, epoch):
                    output = net(batch.inputs, batch.present)
                    assert batch.target is not None
                    loss = trainer.objective(output, batch.target, batch.present, (1.0, {}))
                    trainer.step(loss, optimizer)
                    losses.append(float(loss.detach()))
        self._epoch += 1
        return EpochRecord(epoch, (("loss", float(np.mean(losses))),))

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The supernet, both optimizers, and the epoch."""
        assert self._net is not None
        tensors = {f"net/{name}": t.detach() for name, t in self._net.state_dict().items()}
        for k, optimizer in enumerate(self._optimizers):
            tensors |= optimizer_tensors(optimizer, f"optimizer/{k}")
        return tensors, {"epoch": self._epoch}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        assert self._net is not None
        net = {n.removeprefix("net/"): t for n, t in tensors.items() if n.startswith("net/")}
        self._net.load_state_dict(net)
        for k, optimizer in enumerate(self._optimizers):
            restore_optimizer(optimizer, tensors, f"optimizer/{k}")
        self._epoch = meta["epoch"]

    def derive(self) -> Sequence[Proposal]:
        """The features with the largest logits, trained from scratch."""
        features = [0] * len(self._task.schema.modalities)
        if self._net is not None:
            features = [int(i) for i in self._net.logits.detach().argmax(1)]
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [Proposal(self._genotype(features, "relu"), fidelity, self._recipe())]


__all__ = ["ToyAskTell", "ToyOneShot"]
