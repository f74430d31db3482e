"""The model of a `TabularGenotype`: views of each modality, then what is fitted to targets.

scikit-learn fits; what is kept and run are tensors, so that the model is exported like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.inner import FOLDS
from polymix.comparators.tabular.learners import LEARNERS, learner_options
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.stack import Stacked, View
from polymix.comparators.tabular.views import Layout, layout_of, make_view, view_version
from polymix.data.batch import Source
from polymix.data.schema import Schema, Task
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.nn.by_modality import ByModality
from polymix.nn.descriptions import Description, is_pretrained
from polymix.nn.model import Model
from polymix.nn.tokens import Features, Output
from polymix.nn.views import CHUNK, Views, fit_views
from polymix.registry import register

VERSION = 2

LEFT_OUT = 1.5
"""Times a fit that leaving each row out takes, where it has a closed form."""


@register
class TabularModel(Model):
    """A learner on views.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema.
    """

    builds = TabularGenotype
    fitted = True

    def __init__(self, genotype: TabularGenotype, schema: Schema) -> None:
        super().__init__()
        self.genotype, self.target = genotype, schema.target
        made = make_views(genotype, schema)
        parts: dict[str, list[Description]] = {name: [] for name in genotype.modalities}
        blocks: dict[str, list[Block]] = {name: [] for name in genotype.modalities}
        self.order: list[tuple[str, int]] = []
        for name, block in genotype.every_view:
            self.order.append((name, len(parts[name])))
            parts[name].append(made[name, block])
            blocks[name].append(block)
        self.places = {name: schema.index(name) for name in parts}
        views = {name: Views(several, blocks[name]) for name, several in parts.items()}
        self.encoders = ByModality(views)
        self.wants = {name: tuple(range(len(several))) for name, several in parts.items()}
        self.absent = ByModality()
        layouts = layouts_of(made, schema)
        self.states = [layouts[view].form == "states" for view in genotype.every_view]
        self.head = Stacked(genotype, layouts, schema.target)
        self.uncounted = self.head.uncounted

    @classmethod
    def versions(cls, genotype: TabularGenotype) -> dict[str, int]:
        """Of the learners and the views."""
        found = {"tabular": VERSION}
        for one in (genotype, *genotype.base):
            found[one.learner.name] = LEARNERS[one.learner.name].VERSION
        return found | {block.name: view_version(block) for _, block in genotype.every_view}

    @classmethod
    def frozen_blocks(cls, genotype: TabularGenotype) -> set[tuple[str, Block]]:
        """The pretrained encoders among its views."""
        return {(name, block) for name, block in genotype.every_view if is_pretrained(block)}

    @classmethod
    def one_core(cls, genotype: TabularGenotype) -> bool:
        """Where all of its learners say so."""
        learners = (genotype.learner, *(one.learner for one in genotype.base))
        return all(LEARNERS[one.name].one_core for one in learners)

    @classmethod
    def fit_seconds(cls, genotype: TabularGenotype, schema: Schema, rows: int) -> float:
        """The learners' seconds; the pass of frozen encoders is counted where it is made."""
        made = make_views(genotype, schema)
        return learning_seconds(genotype, layouts_of(made, schema), schema, rows)

    def sample(self, features: Features, present: Tensor | None) -> Sample:
        """Features by modality as learners see them."""
        every_view = [features[name][i].x for name, i in self.order]
        pairs = zip(every_view, self.states, strict=True)
        views = [x if states else x[:, 0] for x, states in pairs]
        views = [x if x.dtype == torch.int64 or x.ndim == 3 else x.double() for x in views]
        rows = views[0].shape[0]
        every = torch.ones(rows, dtype=torch.bool, device=views[0].device)
        there = [every if present is None else present[:, self.places[n]] for n, _ in self.order]
        return Sample(tuple(views), tuple(there))

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        sums = self.head(self.sample(features, present))
        if self.target.task is Task.REGRESSION:
            fitted = self.target.statistics
            mean, std = (fitted.mean[0], fitted.std[0]) if fitted else (0.0, 1.0)
            sums = (sums - mean) / std
        elif self.target.task is Task.BINARY:
            sums = torch.cat([torch.zeros_like(sums), sums], 1)
        return Output(sums.to(torch.get_default_dtype()), {})

    @torch.no_grad()
    def fit(
        self,
        source: Source,
        train: np.ndarray,
        val: np.ndarray,  # noqa: ARG002
        seed: int,
        deadline: float | None,
    ) -> bool:
        """Views that are not ready yet, then learners, to training rows.

        Validation rows are not looked at: they may be those that score the model.

        Returns:
            Whether there was time for all that was asked for.
        """
        fit_views(self, source, train, seed)
        sample, y = self.gathered(source, train)
        self.head.to("cpu")
        whole = self.head.fit(sample, y, seed, deadline)
        self.head.to(source.device)
        return whole

    @torch.no_grad()
    def gathered(self, source: Source, rows: np.ndarray) -> tuple[Sample, np.ndarray]:
        """Rows as learners see them, on the CPU, and their targets."""
        parts, targets = [], []
        for begin in range(0, len(rows), CHUNK):
            batch = source.batch(rows[begin : begin + CHUNK])
            inputs: Any = batch.inputs
            part = self.sample(self.encode(inputs), batch.present)
            # As they are banked: in single precision, states of many rows are all of the memory.
            views = tuple(x.half() if x.ndim == 3 else x for x in part.views)
            parts.append(Sample(views, part.present))
            assert batch.target is not None
            targets.append(batch.target.cpu().numpy())
        every = zip(*(part.views for part in parts), strict=True)
        there = zip(*(part.present for part in parts), strict=True)
        sample = Sample(
            tuple(torch.cat(each).cpu() for each in every),
            tuple(torch.cat(each).cpu() for each in there),
        )
        return sample, np.concatenate(targets)


def make_views(genotype: TabularGenotype, schema: Schema) -> dict[View, Description]:
    """Every view of a genotype, in order.

    Raises:
        GenotypeError: some cannot be built on this schema; every problem of all is told.
    """
    made, problems = {}, []
    for name, block in genotype.every_view:
        if name not in schema.names:
            problems.append(f"no modality '{name}': {did_you_mean(name, schema.names)}")
            continue
        try:
            made[name, block] = make_view(block, schema[name])
        except GenotypeError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise GenotypeError(problems)
    return made


def layouts_of(made: dict[View, Description], schema: Schema) -> dict[View, Layout]:
    """What each view's numbers are."""
    return {view: layout_of(one, schema[view[0]]) for view, one in made.items()}


def learning_seconds(
    genotype: TabularGenotype, layouts: dict[View, Layout], schema: Schema, rows: int
) -> float:
    """About how long a fit to rows whose views are there takes.

    Args:
        genotype: what is fitted.
        layouts: of its views.
        schema: of the data.
        rows: training rows.
    """
    own = [layouts[view] for view in genotype.views]
    if genotype.base:
        own.append(Layout("dense", len(genotype.base) * schema.target.outputs))
    options = learner_options(genotype.learner)
    cls = LEARNERS[genotype.learner.name]
    total = cls.seconds(rows, own, schema.target, options)
    for one in genotype.base:
        if not one.base and LEARNERS[one.learner.name].leaves_one_out:
            total += LEFT_OUT * learning_seconds(one, layouts, schema, rows)
            continue
        inner = learning_seconds(one, layouts, schema, rows * (FOLDS - 1) // FOLDS)
        total += FOLDS * inner + learning_seconds(one, layouts, schema, rows)
    return total
