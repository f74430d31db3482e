"""A learner with its target's transform, and with what others predict as further columns.

A base model's column holds, for a training row, the prediction of a fit that did not see it
(stacked generalisation, Wolpert 1992); for every other row, that of the fit to all training rows.
So the learner above sees its base as it is on rows to come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from polymix import seeds
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.inner import FOLDS, fold_of, left
from polymix.comparators.tabular.learner import SURE
from polymix.comparators.tabular.learners import make_learner
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.target import TargetTransform
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Target, Task
from polymix.genotype import Block

BASE_SHARE = 0.7
"""Of the time, what base models may take."""

PART = 2048
"""Rows whose columns are computed at a time."""

View = tuple[str, Block]


class Stacked(nn.Module):
    """The part of a `TabularModel` that is fitted to targets; its base are such parts, too.

    Args:
        genotype: what to build.
        layouts: of every view, in the order of samples.
        target: what is predicted.

    Raises:
        GenotypeError: the learner does not read these views, or has no such option.
    """

    def __init__(
        self, genotype: TabularGenotype, layouts: Mapping[View, Layout], target: Target
    ) -> None:
        super().__init__()
        self.task = target.task
        order = list(layouts)
        self.picked = [order.index(view) for view in genotype.views]
        self.bases = nn.ModuleList(Stacked(one, layouts, target) for one in genotype.base)
        own = [layouts[view] for view in genotype.views]
        self.transform = TargetTransform(genotype.transform) if self._regression else None
        count = len(self.bases) * (1 if target.task is Task.BINARY else target.outputs)
        if count:
            own.append(Layout("dense", count))
        self.learner = make_learner(genotype.learner, own, target)

    @property
    def _regression(self) -> bool:
        return self.task is Task.REGRESSION

    @property
    def uncounted(self) -> int:
        """FLOPs of a row that are no tensor product's."""
        return self.learner.uncounted + sum(base.uncounted for base in self._bases())

    def _bases(self) -> list[Stacked]:
        return [base for base in self.bases if isinstance(base, Stacked)]

    def sums(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`, of a regression as it is learned."""
        own = sample.pick(self.picked)
        if len(self.bases):
            own = own.with_numbers(torch.cat([b.column(sample) for b in self._bases()], 1))
        found: Tensor = self.learner(own)
        return found

    def column(self, sample: Sample) -> Tensor:
        """What this model says to one that stands on it, `(B, S)`."""
        sums = self.sums(sample)
        return sums if self._regression else sums.clamp(-SURE, SURE)

    def forward(self, sample: Sample) -> Tensor:
        """Rows to values in the target's units, or to logits, `(B, S)`."""
        sums = self.sums(sample)
        return sums if self.transform is None else self.transform.inverse(sums)

    @torch.no_grad()
    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Fit the base out of fold and to all rows, then the learner.

        Args:
            sample: training rows.
            y: values or classes `(N,)`, or labels `(N, K)`.
            seed: of what is drawn.
            deadline: on `time.monotonic`'s clock; none for no limit.

        Returns:
            Whether there was time for all of it.
        """
        own, whole = sample.pick(self.picked), True
        if len(self.bases):
            columns = []
            for i, base in enumerate(self._bases()):
                until = self._until(deadline, i)
                found, done = crossed(base, sample, y, seeds.derive(seed, "base", i), until)
                columns.append(found)
                whole = whole and done
            own = own.with_numbers(torch.cat(columns, 1))
        learned = y if self.transform is None else self.transform.fit(y)
        return self.learner.fit(own, learned, seed, deadline) and whole

    @torch.no_grad()
    def fit_left_out(
        self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None
    ) -> tuple[Tensor, bool]:
        """`fit`, of a learner that `leaves_one_out`: a column of each row without it, too."""
        learned = y if self.transform is None else self.transform.fit(y)
        own = sample.pick(self.picked)
        found, whole = self.learner.fit_left_out(own, learned, seed, deadline)
        return found if self._regression else found.clamp(-SURE, SURE), whole

    @property
    def leaves_one_out(self) -> bool:
        """Whether leaving each row out has a closed form."""
        return not len(self.bases) and self.learner.leaves_one_out

    def _until(self, deadline: float | None, base: int) -> float | None:
        """When a base model is to be done: those to come share what is left for them."""
        if deadline is None:
            return None
        return time.monotonic() + BASE_SHARE * left(deadline) / (len(self.bases) - base)


def crossed(
    model: Stacked, sample: Sample, y: np.ndarray, seed: int, deadline: float | None
) -> tuple[Tensor, bool]:
    """Columns of training rows out of fold `(N, S)`; leaves the model fitted to all rows.

    What its fits say is in the units that it learned in, which differ little between folds.
    """
    if model.leaves_one_out:
        return model.fit_left_out(sample, y, seed, deadline)
    fold = fold_of(y, model.task, FOLDS, seeds.stream(seed, "folds"))
    found, whole = None, True
    for k in range(FOLDS):
        held = torch.from_numpy(fold == k)
        if not held.any() or held.all():
            continue
        until = None
        if deadline is not None:
            until = time.monotonic() + left(deadline) / (FOLDS + 1 - k)
        whole = model.fit(sample.take(~held), y[fold != k], seed, until) and whole
        column = _in_parts(model, sample.take(held))
        if found is None:
            found = torch.zeros((len(sample), column.shape[1]), dtype=torch.float64)
        found[held] = column
    whole = model.fit(sample, y, seed, deadline) and whole
    if found is None:
        found = _in_parts(model, sample)
    return found, whole


def _in_parts(model: Stacked, sample: Sample) -> Tensor:
    """A model's columns of many rows, some at a time: what it makes of them may be wide."""
    parts = torch.split(torch.arange(len(sample)), PART)
    return torch.cat([model.column(sample.take(rows)) for rows in parts])
