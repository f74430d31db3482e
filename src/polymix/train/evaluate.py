"""The evaluator: proposals in, trials out. It builds, trains, scores, and counts the cost.

It knows rows, devices and time, and nothing of why a proposal was made. What it returns depends
on the proposal and the data alone: never on what it evaluated before, or beside it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymix.data.batch import RowSource, Source
from polymix.data.dataset import Dataset
from polymix.data.sample import Sample, draw_balanced, draw_sample, draw_weighted
from polymix.data.schema import Schema, Task
from polymix.errors import CostError, GenotypeError, PolymixError, SearchError
from polymix.faults import LESS_MEMORY, is_disk_full, is_out_of_memory
from polymix.genotype import Genotype
from polymix.nn.build import build_seeded, frozen_blocks, stack_key
from polymix.nn.by_modality import key_of
from polymix.nn.model import Model, load_matching
from polymix.nn.tokens import Moments
from polymix.nn.views import Views
from polymix.records import Cost, Fidelity, Proposal, Recipe, Score, Status, Trial
from polymix.scoring.metrics import Metric
from polymix.train.absent_tokens import State, with_absent_tokens
from polymix.train.costs import Costs, schema_for
from polymix.train.cross_validation import CrossValidation
from polymix.train.feature_bank import BankSource, FeatureBank, FeatureProgress
from polymix.train.groups import Group, Grouping, Memory
from polymix.train.learner import Learner, SingleLearner, StackLearner
from polymix.train.loop import Job, Trainer
from polymix.train.meter import Meter
from polymix.train.moments import moments_of
from polymix.train.objective import Objective
from polymix.train.shift import shifts_of
from polymix.train.uncertainty import uncertainty
from polymix.train.view_bank import ViewBank

Done = tuple[Trial, State | None]

MAX_TRACEBACK = 100_000
"""Characters of a failed trial's traceback that are kept, from its end."""


@dataclass
class Evaluator:
    """Evaluates proposals on one dataset.

    Attributes:
        dataset: the rows; its test rows are never touched.
        metric: what a trial is scored by.
        memory: kept weights and checkpoints.
        bank: where the feature bank's files go.
        device: where models run.
        stack_limit: models that are trained in one computation over folds, at most.
        checkpoint_after: seconds after which an unfinished trial is kept at each epoch's end.
        on_features: called while the bank computes features: the modality, rows done, rows.
        raise_errors: raise what a candidate raises, in place of writing a failed trial down.
        costs: of proposals on it.
    """

    dataset: Dataset
    metric: Metric
    memory: Memory
    bank: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    checkpoint_after: float = 60.0
    stack_limit: int = 64
    on_features: FeatureProgress | None = None
    raise_errors: bool = False

    def __post_init__(self) -> None:
        self._bank = FeatureBank(self.bank, self.dataset, self.device)
        self._views = ViewBank(self.bank, self.dataset, self.device, self._bank)
        self.costs = Costs(self.dataset)
        self._grouping = Grouping(self.dataset, self.metric, self.memory)
        self._doubts: dict[int, np.ndarray] = {}

    @property
    def val_targets(self) -> np.ndarray:
        """Targets of the validation rows."""
        return np.asarray(self.dataset.targets[self.dataset.split.val])

    def pass_seconds(self, genotype: Genotype) -> float:
        """Seconds of passing the development rows through a fitted model's frozen networks.

        Those whose numbers are there already take none.
        """
        missing = frozen_blocks(genotype) - self.costs.passed
        rows = len(self.dataset.split.development)
        return rows * sum(self._views.pass_seconds(name, block) for name, block in missing)

    def scored_rows(self, folds: int) -> np.ndarray:
        """The rows that score a trial: validation rows, or all development rows out of fold."""
        split = self.dataset.split
        return split.development if folds else split.val

    def scored_targets(self, folds: int) -> np.ndarray:
        """Targets of `scored_rows`."""
        return np.asarray(self.dataset.targets[self.scored_rows(folds)])

    def key(self, proposal: Proposal) -> str:
        """See `Grouping.key`."""
        return self._grouping.key(proposal)

    def groups(self, proposals: Sequence[Proposal]) -> list[Group]:
        """See `Grouping.groups`."""
        return self._grouping.groups(proposals)

    def schema_for(self, recipe: Recipe) -> Schema:
        """The schema to build on."""
        return schema_for(self.dataset.schema, recipe)

    def cost(self, genotype: Genotype, recipe: Recipe | None = None) -> Cost:
        """See `Costs.of`."""
        return self.costs.of(genotype, recipe)

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
        """Train a group. A failure is a trial that says why, unless `raise_errors` is set.

        What is not the trial's fault is raised: a ledger or a feature bank that cannot be
        written, or whatever `on_epoch` raises.

        Args:
            group: of `groups`.
            deadline: on `time.monotonic`'s clock; a trial that meets it is `stopped: time`.
            on_epoch: called after each epoch with its number and best score.

        Raises:
            SearchError: with `raise_errors`, a candidate's loss or outputs were not finite;
                whatever else a candidate raises is then raised as it is.
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
            except Exception as error:  # noted, and raised: it is no fault of the candidate
                raised.append(error)
                raise

        try:
            done = self._train(group, deadline, tell, start, cpu)
        except Exception as error:  # a candidate's own code may raise anything
            if isinstance(error, PolymixError) and not isinstance(error, GenotypeError):
                raise  # A full disk or a broken ledger is no fault of the candidate.
            if raised:
                raise
            if is_disk_full(error):
                raise SearchError(
                    f"nothing more can be written: {error}; free some space"
                ) from error
            # What counting the cost met is told as what it was.
            cause = error.__cause__ if isinstance(error, CostError) else None
            fault = cause if isinstance(cause, Exception) else error
            if len(group.proposals) > 1 and not self.raise_errors:
                # One of them may have brought the others down: each gets its own chance.
                alone = [
                    Group((p,), (k,)) for p, k in zip(group.proposals, group.keys, strict=True)
                ]
                return [done for one in alone for done in self.run(one, deadline, on_epoch)]
            if not self.raise_errors:
                return [self._failed(group.proposals[0], group.keys[0], fault, start, cpu)]
        else:
            if self.raise_errors:
                _raise_failed(done)
            return done
        raise fault  # Out of the handler, so that its traceback is the original one.

    def _failed(
        self, proposal: Proposal, key: str, error: Exception, start: float, cpu: float
    ) -> Done:
        spent = Cost(0, 0, 0, time.process_time() - cpu, time.monotonic() - start)
        said, status = f"{type(error).__name__}: {error}"[:2000], Status.FAILED
        if is_out_of_memory(error):
            said, status = f"out of memory: {LESS_MEMORY} ({said})", Status.LOST
        trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
        return Trial(proposal, key, status, None, spent, error=said, traceback=trace), None

    def _train(
        self,
        group: Group,
        deadline: float | None,
        on_epoch: Callable[[int, float], None] | None,
        start: float,
        cpu: float,
    ) -> list[Done]:
        meter = Meter(start, cpu)
        first = group.proposals[0]
        if first.fidelity.folds:
            return CrossValidation(self, group, deadline, on_epoch, meter).run()
        split, rows = self.dataset.split, self.sample(first.fidelity).rows
        val, targets = split.val, self.val_targets
        if first.recipe.refit:
            parts = [rows, val, *([split.test.open()] if first.recipe.sealed else [])]
            rows, val, targets = np.concatenate(parts), val[:0], targets[:0]
        models, source = self.prepared(group)

        def save(tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
            if meter.wall > self.checkpoint_after:
                self.memory.save_checkpoint(group.name, tensors, {**meta, **meter.spent()})

        job = self.job(first, source, models[0], rows, val, targets, deadline)
        job = replace(job, keep=any(p.keep for p in group.proposals), save=save, on_epoch=on_epoch)
        trainer = Trainer(self.learner(models, first), job)
        kept = self.memory.load_checkpoint(group.name)
        if kept is not None:
            tensors, meta = kept
            meter.resume(meta.pop("cpu"), meta.pop("wall"))
            trainer.restore(tensors, meta)
        trainer.run()
        self.costs.passed |= frozen_blocks(first.genotype)
        done: list[Done] = []
        for k, (proposal, key) in enumerate(zip(group.proposals, group.keys, strict=True)):
            cost = self.spent(proposal, trainer.steps, meter, len(models))
            trial = _trial(proposal, key, cost, trainer, k)
            state = trainer.best[k].state if proposal.keep else None
            if trial.status is Status.FAILED:
                state = None
            if state is not None:
                state = with_absent_tokens(models[k], state, source, rows, first.recipe.frozen)
                state = _without_views(models[k], state)
            done.append((trial, state))
        return done

    def prepared(self, group: Group) -> tuple[list[Model], Source]:
        """The models of a group before training, and the source of what they read."""
        first = group.proposals[0]
        models = [self.model(p) for p in group.proposals]
        source: Source
        if first.recipe.frozen:
            banked = self.banked(models[0], sealed=first.recipe.sealed)
            source, known = banked, banked.moments
        else:
            source = self._source(models[0], sealed=first.recipe.sealed)
            known = self._moments(models[0], source) if models[0].calibrated else None
        for model in models:
            if known is not None:
                model.calibrate(known)
            if first.recipe.frozen:
                model.encoders = torch.nn.ModuleDict()
        return models, source

    def learner(self, models: Sequence[Model], first: Proposal) -> Learner:
        """What trains a group's models.

        One that could be stacked is a stack of one: what it learns is the same in any company.
        """
        if self.stacks(first):
            return StackLearner(models)
        return SingleLearner(models[0], first.recipe.frozen, first.recipe.thaw)

    def stacks(self, proposal: Proposal) -> bool:
        """Whether its model can be trained beside others of its shape."""
        if not proposal.recipe.frozen:
            return False
        return stack_key(proposal.genotype, self.schema_for(proposal.recipe)) is not None

    def job(
        self,
        proposal: Proposal,
        source: Source,
        model: Model,
        rows: np.ndarray,
        val: np.ndarray,
        targets: np.ndarray,
        deadline: float | None,
    ) -> Job:
        """What the loop is to do for a proposal.

        Args:
            proposal: how to train.
            source: supplies batches.
            model: what is trained.
            rows: training rows.
            val: validation rows.
            targets: of the validation rows; of all rows, where there are folds.
            deadline: on `time.monotonic`'s clock; none for no limit.
        """
        return Job(
            source=source,
            train=rows,
            val=val,
            targets=targets,
            objective=self._objective(proposal.recipe),
            metric=self.metric,
            recipe=proposal.recipe,
            fidelity=proposal.fidelity,
            name=proposal.genotype.digest,
            modalities=tuple(model.wants),
            shifts=shifts_of(self.dataset.schema, proposal.recipe.shift),
            deadline=deadline,
        )

    def spent(self, proposal: Proposal, steps: int, meter: Meter, size: int) -> Cost:
        """What one of a computation's proposals cost.

        Args:
            proposal: one of them.
            steps: that were taken.
            meter: of the computation.
            size: how many there are.
        """
        spent = meter.spent()
        return replace(
            self.cost(proposal.genotype, proposal.recipe),
            steps=steps,
            cpu_s=spent["cpu"] / size,
            wall_s=spent["wall"] / size,
        )

    def _objective(self, recipe: Recipe) -> Objective:
        """The loss; a balanced recipe weighs rare labels as `--class-weights` does."""
        dataset = self.dataset
        target = dataset.schema.target
        if recipe.balanced and target.task is Task.MULTILABEL and not target.weights:
            dataset = dataset.with_balanced_classes()
        return Objective(dataset.schema)

    def _source(self, model: Model, *, sealed: bool = False) -> Source:
        """Batches of raw rows; of what frozen encoders and views read, what they say of it."""
        views = [isinstance(encoder, Views) for encoder in model.encoders.values()]
        if views and all(views):
            self._views.progress = self.on_features
            return self._views.source(model, sealed=sealed)

        def rows(names: list[str]) -> Source:
            return RowSource(self.dataset, self.device, names)

        if model.fitted or not any(getattr(e, "frozen", False) for e in model.encoders.values()):
            return rows(list(model.encoders))
        return self._bank_of(sealed).beside(model, rows)

    def banked(self, model: Model, *, sealed: bool = False) -> BankSource:
        """Batches of what a model's `fuse` reads, from the bank; the model is calibrated.

        Args:
            model: whose encoders are frozen.
            sealed: whether the sealed rows are among them, as in the last refit.
        """
        return self._bank_of(sealed).source(model)

    def _bank_of(self, sealed: bool) -> FeatureBank:
        """The bank of the development rows, or one of every row, which has a folder of its own."""
        bank = self._bank
        if sealed:
            split = self.dataset.split
            every = np.concatenate([split.development, split.test.open()])
            where = self.bank / "every row"
            bank = FeatureBank(where, self.dataset, self.device, rows=every)
        bank.progress = self.on_features
        return bank

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
        self._views.prepare(model)
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


def _raise_failed(done: Sequence[Done]) -> None:
    """Raise for what failed without an exception: numbers that were not finite."""
    failed = [f"{t.proposal.genotype}: {t.error}" for t, _ in done if t.status is Status.FAILED]
    if failed:
        raise SearchError(failed)


def _without_views(model: Model, state: State) -> State:
    """Weights without those of views, which the bank keeps, once for all models."""
    views = tuple(
        f"encoders.{key_of(n)}." for n, e in model.encoders.items() if isinstance(e, Views)
    )
    return {n: t for n, t in state.items() if not n.startswith(views)} if views else state


def _trial(proposal: Proposal, key: str, cost: Cost, trainer: Trainer, k: int) -> Trial:
    """What the k-th of a computation's models came to."""
    best = trainer.best[k]
    curve = tuple(best.curve)
    if not best.finite:
        said = f"the loss, the outputs or the score were not finite in epoch {trainer.epoch}"
        return Trial(proposal, key, Status.FAILED, None, cost, curve, error=said)
    status = Status.STOPPED if trainer.stopped else Status.DONE
    score = None
    if not proposal.recipe.refit:
        unimodal = tuple(sorted(best.unimodal.items()))
        score = Score(best.value, best.loss, best.epoch, unimodal)
    return Trial(proposal, key, status, score, cost, curve, predictions=best.predictions)
