"""BM-NAS's supernet: trained for some epochs, stopped and resumed at any of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from polymix import seeds
from polymix.data.batch import Batch, Source
from polymix.genotype import parse_genotype
from polymix.methods.bm_nas.cells import OnCells
from polymix.methods.bm_nas.space import BMNASGenotype
from polymix.methods.bm_nas.supernet import Supernet
from polymix.methods.bm_nas.updates import AlongPaths, OfMixtures, Updates
from polymix.nn.model import Model, load_matching
from polymix.records import EpochRecord, Recipe
from polymix.search.estimate import BACKWARD
from polymix.train.cost import count_fusing
from polymix.train.learner import SingleLearner
from polymix.train.modality_dropout import draw_hidden, hide
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer
from polymix.train.supernet import RowLoader, SupernetTrainer
from polymix.train.validate import validate

STEPS = 20
"""Of the choices, an epoch at least: fewer leave them open where validation rows are few."""


class Bilevel(OnCells):
    """Updates weights on training rows, and choices on validation rows; derives, and looks.

    The two take turns within an epoch, so that each goes once through its rows; where validation
    rows are few, choices go through them several times. What is validated are networks with the
    supernet's weights, without dropout: the supernet's own score says nothing of one genotype.

    Along paths more than the derived network is looked at: the `kept` best so far, and those that
    were the best of their batch most often. What a network scored last counts.

    Attributes:
        horizon: epochs of the search.
        lr: of the supernet's weights at the start.
        lowest_lr: at the end.
        choice_lr: of α, β and γ.
        choice_decay: their L2 term.
        warmup: share of the epochs in which they stay as they are.
        coldest: temperature of the choices at the end; it falls from 1 by the same factor a step.
        paths: networks that are compared on each batch of validation rows.
        kept: of those validated, the best that are trained and compared further.
        relaxed: mixtures instead of paths, as the paper has it.
        second_order: relaxed, and α, β and γ see one step of the weights ahead (DARTS, Eq. 7), at
            thrice the cost or more.
    """

    batch_size: int = Field(default=96, ge=1)
    horizon: int = Field(default=20, ge=1)
    lr: float = Field(default=5e-3, gt=0)
    lowest_lr: float = Field(default=1e-6, gt=0)
    choice_lr: float = Field(default=0.01, gt=0)
    choice_decay: float = Field(default=1e-3, ge=0)
    warmup: float = Field(default=0.4, ge=0, lt=1)
    coldest: float = Field(default=0.1, gt=0, le=1)
    paths: int = Field(default=8, ge=2)
    kept: int = Field(default=4, ge=1)
    relaxed: bool = False
    second_order: bool = False

    _net: Supernet = PrivateAttr()
    _source: Source = PrivateAttr()
    _optimizers: dict[str, torch.optim.Optimizer] = PrivateAttr(default_factory=dict)
    _flops: int = PrivateAttr(default=0)
    _epochs: int = PrivateAttr(default=0)
    _epoch: int = PrivateAttr(default=0)
    _found: dict[BMNASGenotype, tuple[float, float]] = PrivateAttr(default_factory=dict)

    def start(self, horizon: int | None, trainer: SupernetTrainer) -> int:
        """Build the supernet anew, on the bank's features."""
        schema = trainer.schema_for(self._recipe(self.lr, frozen=True))
        with seeds.torch_stream("cpu", trainer.seed, "bm-nas supernet"):
            net = Supernet(self._space, schema)
        net.path = None if self.relaxed or self.second_order else net.derive().cells
        self._flops, net.path = count_fusing(net, schema), None
        trainer.initialize(net, tuple(self._kept.values()))
        self._source = trainer.banked(net)
        net.encoders = torch.nn.ModuleDict()
        self._net = net
        recipe = Recipe(lr=self.lr, weight_decay=self.weight_decay)
        choices = torch.optim.Adam(
            net.architecture(), self.choice_lr, (0.5, 0.999),
            weight_decay=self.choice_decay, fused=True,
        )  # fmt: skip
        self._optimizers = {"weights": make_optimizer(net.weights(), recipe), "choices": choices}
        self._epochs, self._epoch, self._found = horizon or self.horizon, 0, {}
        return self._epochs

    def epoch(self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader) -> EpochRecord:
        """Weights and choices in turns; then derive, and look."""
        epoch, net = self._epoch, self._net
        train, val = train.over(self._source), val.over(self._source)
        losses, won = self._alternate(trainer, train, val)
        genotype = net.derive()
        looked = {g: self._look(g, trainer, val) for g in [genotype, *self._kept_ones(), *won]}
        self._found |= looked
        mixed = self.relaxed or self.second_order
        again = max(1.0, STEPS / math.ceil(len(val) / self.batch_size))
        compared = again * (1 + BACKWARD if mixed else self.paths + self.kept)
        steps = (1 + BACKWARD) * len(train) + (len(looked) + compared) * len(val)
        numbers = {
            "score": looked[genotype][0],
            "score_loss": looked[genotype][1],
            **losses,
            **{f"entropy_{name}": value for name, value in net.entropies().items()},
            "temperature": net.temperature,
            "flops": float(self._flops * steps),
        }
        self._epoch += 1
        return EpochRecord(epoch, tuple(numbers.items()))

    def _kept_ones(self) -> list[BMNASGenotype]:
        """The best so far."""
        if self.relaxed or self.second_order or not self._found:
            return []
        return self.chosen()[: self.kept]

    def _alternate(
        self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader
    ) -> tuple[dict[str, float], list[BMNASGenotype]]:
        """One epoch of both updates: their mean losses, and the networks that won most often."""
        ours = math.ceil(len(train) / self.batch_size)
        theirs = max(STEPS, math.ceil(len(val) / self.batch_size))
        still = self._epoch < math.floor(self.warmup * self._epochs)
        kept = [] if still else self._kept_ones()
        others = self._again(val)
        weights, choices, taken = [], [], 0
        won: Counter[BMNASGenotype] = Counter()
        rng = seeds.stream(trainer.seed, "bm-nas hide", self._epoch)
        draws = seeds.stream(trainer.seed, "bm-nas paths", self._epoch)
        updates = self._updates(trainer)
        with trainer.dropout("bm-nas epoch", self._epoch):
            for t, batch in enumerate(train.shuffled(self.batch_size, self._epoch)):
                self._anneal((self._epoch + t / ours) / self._epochs)
                batch = self._hidden(batch, trainer, rng)
                weights.append(updates.weights(batch, draws, kept))
                while taken < (t + 1) * theirs // ours:
                    other = self._hidden(next(others), trainer, rng)
                    told = updates.choices(batch, other, draws, kept, still)
                    choices.append(told.loss)
                    won.update(told.won)
                    taken += 1
        self._anneal((self._epoch + 1) / self._epochs)
        found = {
            "loss": float(torch.stack(weights).mean()),
            "choice_loss": float(torch.stack(choices).mean()),
        }
        return found, [genotype for genotype, _ in won.most_common(self.kept)]

    def _again(self, val: RowLoader) -> Iterator[Batch]:
        """Validation rows, as often as asked for, each time in another order."""
        for order in count(self._epoch, self._epochs):
            yield from val.shuffled(self.batch_size, order)

    def _updates(self, trainer: SupernetTrainer) -> Updates:
        if not (self.relaxed or self.second_order):
            return AlongPaths(self._net, trainer, self._optimizers, self.paths)
        return OfMixtures(self._net, trainer, self._optimizers, self.second_order)

    def _anneal(self, share: float) -> None:
        """Learning rate and temperature, at a share of the whole search."""
        low = min(self.lowest_lr, self.lr)
        lr = low + 0.5 * (self.lr - low) * (1 + math.cos(math.pi * share))
        for group in self._optimizers["weights"].param_groups:
            group["lr"] = lr
        self._net.temperature = self.coldest**share

    def _hidden(self, batch: Batch, trainer: SupernetTrainer, rng: np.random.Generator) -> Batch:
        columns = trainer.objective.columns
        share = self._recipe(self.lr).modality_dropout
        if not share:
            return batch
        assert batch.target is not None
        used = [columns[name] for name in self._space.backbones]
        return hide(batch, draw_hidden(len(batch.target), used, len(columns), share, rng))

    def _look(
        self, genotype: BMNASGenotype, trainer: SupernetTrainer, val: RowLoader
    ) -> tuple[float, float]:
        """Score and loss of a derived network with the supernet's weights: a clean pass."""
        model = self.inherit(trainer, genotype)
        learner = SingleLearner(model, frozen=True)
        predictions, losses, _ = validate(learner, val.source, val.rows, trainer.objective)
        targets = [b.target.cpu().numpy() for b in val.ordered() if b.target is not None]
        value = math.nan
        if np.isfinite(predictions).all():
            value = trainer.metric(np.concatenate(targets), predictions[0])
        return (value if math.isfinite(value) else -math.inf), float(losses[0])

    def inherit(self, trainer: SupernetTrainer, genotype: BMNASGenotype) -> Model:
        """A genotype's model with the supernet's weights, for banked features."""
        model = trainer.model(genotype)
        load_matching(model, self._net.state_dict())
        return model

    # What comes of it.

    @property
    def supernet(self) -> Supernet:
        """As far as it is trained."""
        return self._net

    @property
    def source(self) -> Source:
        """Of banked features, as the supernet reads them."""
        return self._source

    def chosen(self) -> list[BMNASGenotype]:
        """The derived networks, the best by validation first; a guess where none was derived."""
        order = sorted(self._found, key=lambda g: (-self._found[g][0], self._found[g][1]))
        return order or [self._plain()]

    # Stopped and resumed.

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The supernet, α, β and γ in it; both optimizers; what was derived, and its scores."""
        tensors = {f"net/{name}": t.detach() for name, t in self._net.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer/{name}")
        found = [[g.to_json(), *map(repr, scores)] for g, scores in self._found.items()]
        return tensors, {"epoch": self._epoch, "found": found}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        net = {n.removeprefix("net/"): t for n, t in tensors.items() if n.startswith("net/")}
        self._net.load_state_dict(net)
        for name, optimizer in self._optimizers.items():
            restore_optimizer(optimizer, tensors, f"optimizer/{name}")
        self._epoch = meta["epoch"]
        for text, *scores in meta["found"]:
            genotype = parse_genotype(text)
            assert isinstance(genotype, BMNASGenotype)
            self._found[genotype] = float(scores[0]), float(scores[1])
