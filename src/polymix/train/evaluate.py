"""The evaluator: proposals in, trials out. It builds, trains, scores, and counts the cost.

It knows rows, devices and time, and nothing of why a proposal was made. What it returns depends
on the proposal and the data alone: never on what it evaluated before, or beside it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from polymix.data.batch import RowSource, Source
from polymix.data.dataset import Dataset
from polymix.data.sample import Sample, draw_balanced, draw_sample, draw_weighted
from polymix.data.schema import Schema, Task
from polymix.errors import GenotypeError, PolymixError
from polymix.genotype import Block, Genotype
from polymix.nn.build import build_seeded, fit_seconds, frozen_blocks, stack_key, versions
from polymix.nn.model import Model, Moments, load_matching
from polymix.records import Cost, Fidelity, Proposal, Recipe, Score, Status, Trial
from polymix.train.cost import cost_key, count_cost, count_fusing, count_trained
from polymix.train.feature_bank import BankSource, FeatureBank, Progress
from polymix.train.learner import Learner, SingleLearner, StackLearner
from polymix.train.loop import Job, Trainer
from polymix.train.metrics import Metric
from polymix.train.moments import moments_of
from polymix.train.objective import Objective
from polymix.train.settle import State, settled
from polymix.train.shift import shifts_of
from polymix.train.uncertainty import uncertainty

Done = tuple[Trial, State | None]


class Memory(Protocol):
    """What the evaluator needs of a ledger."""

    def weights(self, digest: str) -> State:
        """Kept weights."""

    def keep_weights(self, tensors: Mapping[str, Tensor]) -> str:
        """Keep weights that no trial made; their digest."""

    def save_checkpoint(self, name: str, tensors: Mapping[str, Tensor], meta: Any) -> None:
        """Keep an unfinished trial."""

    def load_checkpoint(self, name: str) -> tuple[State, Any] | None:
        """An unfinished trial, if one was kept."""


@dataclass(frozen=True)
class Group:
    """Proposals that are trained in one computation."""

    proposals: tuple[Proposal, ...]
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """Names its checkpoint."""
        if len(self.keys) == 1:
            return self.keys[0]
        return hashlib.sha256("".join(self.keys).encode()).hexdigest()[:32]


@dataclass
class Evaluator:
    """Evaluates proposals on one dataset.

    Attributes:
        dataset: the rows; its test rows are never touched.
        metric: what a trial is scored by.
        memory: kept weights and checkpoints.
        bank: where the feature bank's files go.
        device: where models run.
        checkpoint_after: seconds after which an unfinished trial is kept at each epoch's end.
        on_features: called while the bank computes features: the modality, rows done, rows.
    """

    dataset: Dataset
    metric: Metric
    memory: Memory
    bank: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    checkpoint_after: float = 60.0
    on_features: Progress | None = None

    def __post_init__(self) -> None:
        self._bank = FeatureBank(self.bank, self.dataset, self.device)
        self._encoders: dict[str, str] = {}
        self._costs: dict[Hashable, Cost] = {}
        self._fusing: dict[Hashable, int] = {}
        self._passed: set[tuple[str, Block]] = set()
        self._doubts: dict[int, np.ndarray] = {}
        self._data_key = json.dumps(
            {
                "data": self.dataset.fingerprint,
                "split": self.dataset.split.fingerprint,
                "schema": hashlib.sha256(self.dataset.schema.to_json().encode()).hexdigest()[:16],
                "metric": self.metric.name,
            },
            sort_keys=True,
        )

    @property
    def val_targets(self) -> np.ndarray:
        """Targets of the validation rows."""
        return np.asarray(self.dataset.targets[self.dataset.split.val])

    def key(self, proposal: Proposal) -> str:
        """The ledger's key.

        Of data, split, statistics, metric; genotype, its blocks' versions; fidelity, recipe, init.
        """
        parts = {
            "genotype": proposal.genotype.to_json(),
            "versions": versions(proposal.genotype),
            "fidelity": asdict(proposal.fidelity),
            "recipe": _told(proposal.recipe),
            "init": proposal.init,
            "keep": proposal.keep,
        }
        text = self._data_key + json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def groups(self, proposals: Sequence[Proposal]) -> list[Group]:
        """A cohort cut into computations: those of one shape together, the others alone."""
        together: dict[object, list[Proposal]] = {}
        for i, proposal in enumerate(proposals):
            shape = stack_key(proposal.genotype, self.schema_for(proposal.recipe))
            recipe = proposal.recipe
            steady = recipe.schedule != "plateau" and not recipe.patience and recipe.frozen
            alone = shape is None or not steady
            where = i if alone else (shape, proposal.fidelity, recipe, self._backbones(proposal))
            together.setdefault(where, []).append(proposal)
        return [Group(tuple(g), tuple(self.key(p) for p in g)) for g in together.values()]

    def _backbones(self, proposal: Proposal) -> str:
        """What the encoders' weights are: stacked models read the same banked features."""
        return "".join(self._encoders_of(digest) for digest in proposal.init)

    def _encoders_of(self, digest: str) -> str:
        """What stands for the encoders among kept weights; nothing where there are none."""
        if digest not in self._encoders:
            found, count = hashlib.sha256(), 0
            for name, tensor in sorted(self.memory.weights(digest).items()):
                if name.startswith("encoders."):
                    found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
                    count += 1
            self._encoders[digest] = found.hexdigest() if count else ""
        return self._encoders[digest]

    def schema_for(self, recipe: Recipe) -> Schema:
        """The schema to build on: with modality dropout, any row may lack any modality."""
        schema = self.dataset.schema
        if not recipe.modality_dropout:
            return schema
        every = tuple(m.model_copy(update={"optional": True}) for m in schema.modalities)
        return schema.model_copy(update={"modalities": every})

    def cost(self, genotype: Genotype, recipe: Recipe | None = None) -> Cost:
        """Parameters and forward FLOPs of a row.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        schema = self.schema_for(recipe or Recipe())
        where = cost_key(genotype, schema)
        if where not in self._costs:
            self._costs[where] = count_cost(build_seeded(genotype, schema, 0), schema)
        return self._costs[where]

    def trained_flops(self, genotype: Genotype, recipe: Recipe) -> int:
        """FLOPs of a row's forward pass through what is trained: without frozen encoders.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        if not recipe.frozen and not frozen_blocks(genotype):
            return self.cost(genotype, recipe).flops
        schema = self.schema_for(recipe)
        where = recipe.frozen, cost_key(genotype, schema)
        if where not in self._fusing:
            count = count_fusing if recipe.frozen else count_trained
            self._fusing[where] = count(build_seeded(genotype, schema, 0), schema)
        return self._fusing[where]

    def pass_flops(self, genotype: Genotype, recipe: Recipe) -> int:
        """FLOPs of passing all rows through frozen encoders whose features are not there yet.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        if recipe.frozen or frozen_blocks(genotype) <= self._passed:
            return 0
        split = self.dataset.split
        each = self.cost(genotype, recipe).flops - self.trained_flops(genotype, recipe)
        return each * (len(split.train) + len(split.val))

    def fit_seconds(self, genotype: Genotype, rows: int) -> float | None:
        """About how long what is no gradient step takes; none where all of training is steps.

        Raises:
            GenotypeError: it cannot be built on this data.
        """
        return fit_seconds(genotype, self.dataset.schema, rows)

    def sample(self, fidelity: Fidelity) -> Sample:
        """The training rows that a fidelity means."""
        targets, train = self.dataset.targets, self.dataset.split.train
        if fidelity.sampler == "balanced":
            return draw_balanced(targets, train, fidelity.rows, fidelity.seed)
        if fidelity.sampler == "uncertain" and fidelity.rows < len(train):
            if fidelity.seed not in self._doubts:
                self._doubts[fidelity.seed] = uncertainty(self.dataset, fidelity.seed)
            doubts = self._doubts[fidelity.seed]
            return draw_weighted(train, doubts, fidelity.rows, fidelity.seed)
        return draw_sample(targets, train, fidelity.rows, fidelity.seed)

    def run(
        self,
        group: Group,
        deadline: float | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> list[Done]:
        """Train a group. A failure is a trial that says why, never an exception.

        What is not the trial's fault is raised: a ledger or a feature bank that cannot be
        written, or whatever `on_epoch` raises.

        Args:
            group: of `groups`.
            deadline: on `time.monotonic`'s clock; a trial that meets it is `stopped: time`.
            on_epoch: called after each epoch with its number and best score.
        """
        start, cpu = time.monotonic(), time.process_time()
        if deadline is not None and start > deadline:
            unrun = [Trial(p, k, Status.STOPPED, None, Cost(0, 0)) for p, k in zip(
                group.proposals, group.keys, strict=True)]  # fmt: skip
            return [(trial, None) for trial in unrun]
        raised: list[Exception] = []

        def tell(epoch: int, value: float) -> None:
            try:
                if on_epoch:
                    on_epoch(epoch, value)
            except Exception as error:
                raised.append(error)
                raise

        try:
            return self._train(group, deadline, tell, start, cpu)
        except Exception as error:
            if isinstance(error, PolymixError) and not isinstance(error, GenotypeError):
                raise  # A full disk or a broken ledger is no fault of the candidate.
            if raised:
                raise
            if len(group.proposals) > 1:
                # One of them may have brought the others down: each gets its own chance.
                alone = [
                    Group((p,), (k,)) for p, k in zip(group.proposals, group.keys, strict=True)
                ]
                return [done for one in alone for done in self.run(one, deadline, on_epoch)]
            return [self._failed(group.proposals[0], group.keys[0], error, start, cpu)]

    def _failed(
        self, proposal: Proposal, key: str, error: Exception, start: float, cpu: float
    ) -> Done:
        spent = Cost(0, 0, 0, time.process_time() - cpu, time.monotonic() - start)
        said = f"{type(error).__name__}: {error}"[:2000]
        return Trial(proposal, key, Status.FAILED, None, spent, error=said), None

    def _train(
        self,
        group: Group,
        deadline: float | None,
        on_epoch: Callable[[int, float], None] | None,
        start: float,
        cpu: float,
    ) -> list[Done]:
        first = group.proposals[0]
        models = [self.model(p) for p in group.proposals]
        costs = [self.cost(p.genotype, p.recipe) for p in group.proposals]
        frozen = first.recipe.frozen
        source: Source
        if frozen:
            banked = self.banked(models[0])
            source, known = banked, banked.moments
        else:
            source = self._source(models[0])
            known = self._moments(models[0], source) if models[0].calibrated else None
        for model in models:
            if known is not None:
                model.calibrate(known)
            if frozen:
                model.encoders = torch.nn.ModuleDict()
        # One that could be stacked is a stack of one: what it learns is the same in any company.
        stacked = frozen and stack_key(first.genotype, self.schema_for(first.recipe)) is not None
        learner: Learner = (
            StackLearner(models) if stacked else SingleLearner(models[0], frozen, first.recipe.thaw)
        )

        before = {"cpu": 0.0, "wall": 0.0}

        def spent() -> dict[str, float]:
            now = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - start}
            return {name: before[name] + now[name] for name in now}

        def save(tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
            so_far = spent()
            if so_far["wall"] > self.checkpoint_after:
                self.memory.save_checkpoint(group.name, tensors, {**meta, **so_far})

        rows, val, targets = (
            self.sample(first.fidelity).rows,
            self.dataset.split.val,
            self.val_targets,
        )
        if first.recipe.refit:
            rows, val, targets = np.concatenate([rows, val]), val[:0], targets[:0]
        job = Job(
            source=source,
            train=rows,
            val=val,
            targets=targets,
            objective=self._objective(first.recipe),
            metric=self.metric,
            recipe=first.recipe,
            fidelity=first.fidelity,
            name=first.genotype.digest,
            modalities=tuple(models[0].wants),
            shifts=shifts_of(self.dataset.schema, first.recipe.shift),
            keep=any(p.keep for p in group.proposals),
            deadline=deadline,
            save=save,
            on_epoch=on_epoch,
        )
        trainer = Trainer(learner, job)
        kept = self.memory.load_checkpoint(group.name)
        if kept is not None:
            tensors, meta = kept
            before.update(cpu=meta.pop("cpu"), wall=meta.pop("wall"))
            trainer.restore(tensors, meta)
        trainer.run()
        self._passed |= frozen_blocks(first.genotype)
        size, whole = len(models), spent()
        done: list[Done] = []
        for k, (proposal, key) in enumerate(zip(group.proposals, group.keys, strict=True)):
            best = trainer.best[k]
            cost = replace(
                costs[k],
                steps=trainer.steps,
                cpu_s=whole["cpu"] / size,
                wall_s=whole["wall"] / size,
            )
            status = Status.STOPPED if trainer.stopped else Status.DONE
            if not best.finite:
                said = (
                    f"the loss, the outputs or the score were not finite in epoch {trainer.epoch}"
                )
                failed = Trial(
                    proposal, key, Status.FAILED, None, cost, tuple(best.curve), error=said
                )
                done.append((failed, None))
                continue
            score = None
            if not first.recipe.refit:
                unimodal = tuple(sorted(best.unimodal.items()))
                score = Score(best.value, best.loss, best.epoch, unimodal)
            state = best.state if proposal.keep else None
            if state is not None:
                state = settled(models[k], state, source, rows, frozen)
            trial = Trial(
                proposal,
                key,
                status,
                score,
                cost,
                tuple(best.curve),
                predictions=best.predictions,
            )
            done.append((trial, state))
        return done

    def _objective(self, recipe: Recipe) -> Objective:
        """The loss; a balanced recipe weighs rare labels as `--class-weights` does."""
        dataset = self.dataset
        target = dataset.schema.target
        if recipe.balanced and target.task is Task.MULTILABEL and not target.weights:
            dataset = dataset.with_balanced_classes()
        return Objective(dataset.schema)

    def _source(self, model: Model) -> Source:
        """Batches of raw rows; of what frozen encoders read, their features, computed once."""

        def rows(names: list[str]) -> Source:
            return RowSource(self.dataset, self.device, names)

        if model.fitted or not any(getattr(e, "frozen", False) for e in model.encoders.values()):
            return rows(list(model.encoders))
        self._bank.progress = self.on_features
        return self._bank.beside(model, rows)

    def banked(self, model: Model) -> BankSource:
        """Batches of what a model's `fuse` reads, from the bank; the model is calibrated."""
        self._bank.progress = self.on_features
        return self._bank.source(model)

    def _moments(self, model: Model, source: Source) -> Moments:
        """Of the features that untrained encoders, or those of `init`, give."""
        train = self.dataset.split.train
        columns = {name: self.dataset.schema.index(name) for name in model.encoders}
        rows = train[:: max(1, len(train) // 1024)]
        model.eval()
        return moments_of(source, model.native, rows, columns)

    def model(self, proposal: Proposal) -> Model:
        """The model of a proposal before training: seeded weights, then `init`'s, in order."""
        schema = self.schema_for(proposal.recipe)
        model = build_seeded(proposal.genotype, schema, proposal.fidelity.seed)
        for position, digest in enumerate(proposal.init):
            model.take(position, self.memory.weights(digest))
        if proposal.recipe.frozen:
            model.encoders.requires_grad_(False)
        return model.to(self.device)

    def trained(self, trial: Trial) -> Model:
        """The model of a trial whose weights were kept."""
        assert trial.weights is not None
        model = self.model(trial.proposal)
        load_matching(model, self.memory.weights(trial.weights))
        return model.eval()


LATER = ("thaw", "refit", "balanced", "shift")


def _told(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the ledger's key has it: what came later is left out where it is not used."""
    return {n: v for n, v in asdict(recipe).items() if n not in LATER or v}
