"""BM-NAS (Yin et al. 2022): which features to pair, and how to fuse them, in one supernet.

    Algorithm 1                                            here
    backbones, each alone, in full, as ordinary trials     `ask`, `tell`
    initialise α, β, γ and ω                               `start`
    while not converged:                                   `horizon` times `epoch`
        update ω on training rows                          `Updates.weights`, in turns with
        update (α, β, γ) on validation rows                `Updates.choices`
        derive the genotype                                `Supernet.derive`, Eq. 3 and 11
        keep the best by validation                        `_look`, `chosen`
    the best is trained alone                              `derive`

The updates are `PathUpdates` or, with `relaxed` or `second_order`, the paper's `MixtureUpdates`.
ω and (α, β, γ) take turns within an epoch, so that each goes once through its rows; where
validation rows are few, choices go through them several times. What is validated are networks with
the supernet's weights, without dropout: the supernet's own score says nothing of one genotype.
Along paths more than the derived network is validated: the `kept` best so far, and those that were
the best of their batch most often. What a network scored last counts.

The learning rate and the temperature of the choices are ours, so that they are made: in a search
by the public code, at the paper's 3e-4, logits moved by about 0.1, and the mixture stayed nearly
uniform.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from polymix import seeds
from polymix.data.batch import Batch, Source
from polymix.errors import GenotypeError, UsageError, did_you_mean
from polymix.genotype import Block, parse_genotype
from polymix.methods.backbones import Backbones
from polymix.methods.bm_nas.fixed import late_pairs, with_fusion
from polymix.methods.bm_nas.space import OPERATIONS, BMNASGenotype, BMNASSpace
from polymix.methods.bm_nas.supernet import Supernet, lay_out
from polymix.methods.bm_nas.updates import (
    MixtureUpdates,
    PathUpdates,
    SupernetSteps,
    Updates,
    hide_modalities,
)
from polymix.nn.model import Model, load_matching
from polymix.records import EpochRecord, Fidelity, Proposal, Recipe, Trial
from polymix.registry import register
from polymix.search.estimate import BACKWARD
from polymix.search.protocol import SearchTask, Strategy
from polymix.train.cost import count_fusing
from polymix.train.learner import SingleLearner
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer
from polymix.train.supernet import RowLoader, SupernetTrainer
from polymix.train.validate import validate

STEPS = 20
"""Updates of the choices in an epoch, at least: fewer leave them undecided where validation rows
are few."""


@register
class BMNAS(Strategy):
    """A differentiable, bilevel search for Cells over features, and for steps within Cells.

    Attributes:
        backbones: encoders by modality, see `Backbones`.
        preset: of the backbones.
        backbone_epochs: of a backbone, at most.
        backbone_lr: its learning rate at the start.
        batch_size: of everything.
        weight_decay: of everything.
        modality_dropout: chance that a row's modality is hidden, where rows may lack one.
        features: of a backbone, those that Cells may take; all where not given.
        cells: N.
        steps: M, of each Cell.
        operations: that a step may be.
        inputs: of a Cell, and of a step.
        channels: C.
        length: L.
        dropout: of the supernet and of what is derived.
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
        top: how many of the derived networks are trained in full.
        probe_epochs: of a network that random search draws.
        full_epochs: of the full training.
        full_lr: its learning rate at the start.
        unfreeze: whether the backbones are trained, too, then.
        thaw: epochs of it before they are; at most half of it.
        refit: whether what is chosen is trained again, alike, on training and validation rows.
    """

    name: ClassVar[str] = "bm-nas"
    summary: ClassVar[str] = "which features to pair and how to fuse them, in one supernet"

    backbones: dict[str, str] = Field(default_factory=dict)
    preset: str = "small"
    backbone_epochs: int = Field(default=10, ge=1)
    backbone_lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=96, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    features: dict[str, list[int]] = Field(default_factory=dict)
    cells: int = Field(default=2, ge=1)
    steps: int = Field(default=2, ge=1)
    operations: list[str] = Field(default=list(OPERATIONS), min_length=1)
    inputs: int = Field(default=2, ge=2)
    channels: int = Field(default=64, ge=1)
    length: int = Field(default=8, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
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
    top: int = Field(default=1, ge=1)
    probe_epochs: int = Field(default=5, ge=1)
    full_epochs: int = Field(default=20, ge=1)
    full_lr: float = Field(default=1e-3, gt=0)
    unfreeze: bool = False
    thaw: int = Field(default=5, ge=0)
    refit: bool = True

    _task: SearchTask = PrivateAttr()
    _backbones: Backbones = PrivateAttr()
    _space: BMNASSpace = PrivateAttr()
    _net: Supernet = PrivateAttr()
    _source: Source = PrivateAttr()
    _optimizers: dict[str, torch.optim.Optimizer] = PrivateAttr(default_factory=dict)
    _flops: int = PrivateAttr(default=0)
    _epochs: int = PrivateAttr(default=0)
    _epoch: int = PrivateAttr(default=0)
    # Every validated network: its score and its loss when it was last looked at.
    _found: dict[BMNASGenotype, tuple[float, float]] = PrivateAttr(default_factory=dict)

    @property
    def refits(self) -> bool:
        """Whether the chosen network is trained again, on validation rows too: `refit`."""
        return self.refit

    @property
    def _mixed(self) -> bool:
        """Whether mixtures are searched, not paths."""
        return self.relaxed or self.second_order

    # The backbones, and the space over their features.

    def setup(self, task: SearchTask) -> None:
        """Name the backbones, and lay out the space.

        Raises:
            UsageError: backbones, features or operations that there are not, or no such network.
        """
        self._task, schema = task, task.schema
        problems = [
            f"features: no modality '{name}': {did_you_mean(name, schema.names)}"
            for name in self.features
            if name not in schema.names
        ]
        lacking = any(m.optional for m in schema.modalities)
        recipe = Recipe(
            lr=self.backbone_lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule="cosine",
            modality_dropout=self.modality_dropout if lacking else 0.0,
        )
        self._backbones = Backbones(
            task, self.backbones, self.preset, self.backbone_epochs, recipe, problems
        )
        self._space = self._open(self._backbones.blocks)

    def _open(self, blocks: Mapping[str, Block]) -> BMNASSpace:
        """The space over these backbones' features."""
        counts = {name: self._backbones.features[name] for name in blocks}
        return lay_out(
            blocks,
            counts,
            self.features,
            self._task.schema,
            cells=self.cells,
            steps=self.steps,
            operations=tuple(self.operations),
            inputs=self.inputs,
            channels=self.channels,
            length=self.length,
            dropout=self.dropout,
        )

    def reasons(self) -> Sequence[str]:
        """Which of the searches it is: along paths, or of the paper's mixtures."""
        if self.second_order:
            how = (
                "on mixtures of all networks, as in the paper, and choices see one step of the "
                "weights ahead (second_order=true)"
            )
        elif self.relaxed:
            how = "on mixtures of all networks, as in the paper (relaxed=true)"
        else:
            how = "along sampled paths; relaxed=true trains the paper's mixtures"
        return [f"bm-nas: weights and choices are trained {how}"]

    def ask(self) -> Sequence[Proposal]:
        """The backbones, once."""
        return [] if self._backbones.trained else self._backbones.proposals()

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the backbones; a modality whose backbone could not be trained takes no part.

        Where too little would be left to pair, the backbones stay as they are initialised.
        """
        self._backbones.keep(trials)
        left = self._backbones.usable()
        if len(left) < len(self._space.backbones):  # a training failed, or ran out of time
            try:
                self._space = self._open(left)
            except UsageError:
                self._backbones.weights.clear()

    # Algorithm 1.

    def start(self, horizon: int | None, trainer: SupernetTrainer) -> int:
        """Initialise α, β, γ and ω: build the supernet anew, on the bank's features."""
        schema = trainer.schema_for(replace(self._backbones.recipe, lr=self.lr, frozen=True))
        with seeds.torch_stream("cpu", trainer.seed, "bm-nas supernet"):
            net = Supernet(self._space, schema)
        # An epoch's cost is counted along one path where paths are what is run.
        net.path = None if self._mixed else net.derive().cells
        self._flops, net.path = count_fusing(net, schema), None
        trainer.initialize(net, self._backbones.init)
        self._source = trainer.banked(net)
        # The bank has the backbones' features, so they are not run again: the public code spends
        # most of an epoch on that.
        net.encoders = torch.nn.ModuleDict()
        self._net = net
        # Table 8's Adam for ω; the choices' has the public code's betas, and a rate that stays.
        recipe = Recipe(lr=self.lr, weight_decay=self.weight_decay)
        choices = torch.optim.Adam(
            net.architecture(), self.choice_lr, (0.5, 0.999),
            weight_decay=self.choice_decay, fused=True,
        )  # fmt: skip
        self._optimizers = {"weights": make_optimizer(net.weights(), recipe), "choices": choices}
        self._epochs, self._epoch, self._found = horizon or self.horizon, 0, {}
        return self._epochs

    def epoch(self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader) -> EpochRecord:
        """Update ω and (α, β, γ) in turns; derive; keep the best by validation."""
        net = self._net
        train, val = train.over(self._source), val.over(self._source)
        losses, won = self._alternate(trainer, train, val)  # update ω and (α, β, γ)
        genotype = net.derive()  # Eq. 3 and 11
        # With ω as it is now, also those that scored well before: their old scores do not compare.
        looked = {g: self._look(g, trainer, val) for g in [genotype, *self._kept_ones(), *won]}
        self._found |= looked
        numbers = {
            "score": looked[genotype][0],
            "score_loss": looked[genotype][1],
            **losses,
            **{f"entropy_{name}": value for name, value in net.entropies().items()},
            "temperature": net.temperature,
            "flops": self._spent(len(train), len(val), len(looked)),
        }
        self._epoch += 1
        return EpochRecord(self._epoch - 1, tuple(numbers.items()))

    def _alternate(
        self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader
    ) -> tuple[dict[str, float], list[BMNASGenotype]]:
        """One epoch of both updates: their mean losses, and the networks that won most often."""
        ours = math.ceil(len(train) / self.batch_size)  # updates of ω, one a batch
        theirs = max(STEPS, math.ceil(len(val) / self.batch_size))
        # Shares that follow untrained weights would follow whichever operation learns quickest.
        still = self._epoch < math.floor(self.warmup * self._epochs)
        kept = [] if still else self._kept_ones()
        others = self._again(val)
        weights, choices, taken = [], [], 0
        won: Counter[BMNASGenotype] = Counter()
        rng = seeds.stream(trainer.seed, "bm-nas hide", self._epoch)
        draws = seeds.stream(trainer.seed, "bm-nas paths", self._epoch)
        updates = self._updates(trainer)
        # Streams are named by the epoch: a resumed search draws what an undisturbed one does.
        with trainer.dropout("bm-nas epoch", self._epoch):
            for t, batch in enumerate(train.shuffled(self.batch_size, self._epoch)):
                self._anneal((self._epoch + t / ours) / self._epochs)
                batch = self._hidden(batch, trainer, rng)
                weights.append(updates.weights(batch, draws, kept))
                # `theirs` steps of the choices are spread evenly over `ours` of the weights.
                while taken < (t + 1) * theirs // ours:
                    other = self._hidden(next(others), trainer, rng)
                    told = updates.choices(batch, other, draws, kept, still)
                    choices.append(told.loss)
                    won.update(told.won)
                    taken += 1
        self._anneal((self._epoch + 1) / self._epochs)
        found = {
            "loss": float(torch.stack(weights).mean()),
            # A clock may end an epoch before its first update of the choices.
            "choice_loss": float(torch.stack(choices).mean()) if choices else math.nan,
        }
        return found, [genotype for genotype, _ in won.most_common(self.kept)]

    def _updates(self, trainer: SupernetTrainer) -> Updates:
        steps = SupernetSteps(self._net, trainer, self._optimizers)
        if self._mixed:
            return MixtureUpdates(steps, self.second_order)
        return PathUpdates(steps, self.paths)

    def _again(self, val: RowLoader) -> Iterator[Batch]:
        """Validation rows, as often as asked for, each time in another order."""
        for order in count(self._epoch, self._epochs):
            yield from val.shuffled(self.batch_size, order)

    def _anneal(self, share: float) -> None:
        """Set the learning rate and the temperature for a share of the whole search."""
        # lr follows a cosine (Table 8); the temperature falls from 1 to `coldest` geometrically.
        low = min(self.lowest_lr, self.lr)
        lr = low + 0.5 * (self.lr - low) * (1 + math.cos(math.pi * share))
        for group in self._optimizers["weights"].param_groups:
            group["lr"] = lr
        self._net.temperature = self.coldest**share

    def _hidden(self, batch: Batch, trainer: SupernetTrainer, rng: np.random.Generator) -> Batch:
        share = self._backbones.recipe.modality_dropout
        return hide_modalities(batch, trainer.objective, list(self._space.backbones), share, rng)

    def _look(
        self, genotype: BMNASGenotype, trainer: SupernetTrainer, val: RowLoader
    ) -> tuple[float, float]:
        """Score and loss of a network with the supernet's weights: a clean pass."""
        learner = SingleLearner(self.inherit(trainer, genotype), frozen=True)
        predictions, losses, _ = validate(learner, val.source, val.rows, trainer.objective)
        targets = [b.target.cpu().numpy() for b in val.ordered() if b.target is not None]
        # A network that diverged is the worst there is, whatever the metric makes of its outputs.
        value = math.nan
        if np.isfinite(predictions).all():
            value = trainer.metric(np.concatenate(targets), predictions[0])
        return (value if math.isfinite(value) else -math.inf), float(losses[0])

    def _kept_ones(self) -> list[BMNASGenotype]:
        """The best by validation so far, which paths go through again; none of mixtures."""
        return [] if self._mixed or not self._found else self.chosen()[: self.kept]

    def _spent(self, rows: int, val: int, looked: int) -> float:
        """FLOPs of an epoch: of both updates, and of the networks that were validated."""
        # A mixture is run forward and backward; paths, the drawn and the kept ones, forward alone.
        again = max(1.0, STEPS / math.ceil(val / self.batch_size))
        compared = again * (1 + BACKWARD if self._mixed else self.paths + self.kept)
        return float(self._flops * ((1 + BACKWARD) * rows + (looked + compared) * val))

    # What comes of it.

    def derive(self) -> Sequence[Proposal]:
        """The best by validation, each trained alone from the backbones."""
        trained = bool(self._backbones.weights)
        thaw = min(self.thaw, self.full_epochs // 2) if trained else 0
        free = self.unfreeze or not trained  # a backbone without weights has to learn
        recipe = replace(
            self._backbones.recipe, lr=self.full_lr, frozen=not free, thaw=thaw if free else 0
        )
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [
            Proposal(genotype, fidelity, recipe, self._backbones.init, stage="winner")
            for genotype in self.chosen()[: self.top]
        ]

    def chosen(self) -> list[BMNASGenotype]:
        """The validated networks, the best first; a guess where none was derived."""
        # By score; of equal scores, by the lower validation loss.
        order = sorted(self._found, key=lambda g: (-self._found[g][0], self._found[g][1]))
        return order or [self._plain()]

    def _plain(self) -> BMNASGenotype:
        """The last features, through a layer over both."""
        # A drawn network has the right numbers of Cells and steps; both are then replaced.
        first = self._space.sample(seeds.stream(self._task.seed, "bm-nas guess"))
        try:
            late = late_pairs(first)
            cells = [c.model_copy(update={"inputs": late[n]}) for n, c in enumerate(first.cells)]
            return with_fusion(first.model_copy(update={"cells": tuple(cells)}), "concat-fc")
        except GenotypeError:
            return first  # one modality, or three inputs

    def random(self, rng: np.random.Generator) -> Proposal:
        """A network drawn uniformly, trained alone and briefly."""
        frozen = bool(self._backbones.weights)
        recipe = replace(self._backbones.recipe, lr=self.full_lr, frozen=frozen)
        fidelity = Fidelity(self._task.rows, self.probe_epochs, self._task.seed)
        genotype = self._space.sample(rng)
        return Proposal(genotype, fidelity, recipe, self._backbones.init, stage="random")

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The backbones."""
        return self._backbones.blocks

    def expected(self) -> Sequence[Proposal]:
        """The backbones; the search itself is timed by a few steps."""
        return self._backbones.proposals()

    def size(self) -> int:
        """How many networks the space holds: `BMNASSpace.count`."""
        return self._space.count()

    @property
    def space(self) -> BMNASSpace:
        """The space that is searched."""
        return self._space

    @property
    def supernet(self) -> Supernet:
        """The supernet, as far as it is trained."""
        return self._net

    @property
    def source(self) -> Source:
        """Of banked features, as the supernet reads them."""
        return self._source

    def inherit(self, trainer: SupernetTrainer, genotype: BMNASGenotype) -> Model:
        """A genotype's model with the supernet's weights, for banked features."""
        model = trainer.model(genotype)
        load_matching(model, self._net.state_dict())
        return model

    # Stopped and resumed.

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The supernet, α, β and γ in it; both optimizers; what was derived, and its scores."""
        tensors = {f"net/{name}": t.detach() for name, t in self._net.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer/{name}")
        # As text: JSON has no infinity, and `repr` gives each float back to the last bit.
        found = [[g.to_json(), *map(repr, scores)] for g, scores in self._found.items()]
        return tensors, {"epoch": self._epoch, "found": found}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        net = {n.removeprefix("net/"): t for n, t in tensors.items() if n.startswith("net/")}
        self._net.load_state_dict(net)
        for name, optimizer in self._optimizers.items():
            restore_optimizer(optimizer, tensors, f"optimizer/{name}")
        self._epoch = meta["epoch"]
        for text, *scores in meta["found"]:
            genotype = parse_genotype(text)
            assert isinstance(genotype, BMNASGenotype)
            self._found[genotype] = float(scores[0]), float(scores[1])
