"""What a search method is: two protocols, both run by the one driver.

    ask/tell   ask() → proposals, evaluated together → tell(trials) … until ask() is empty
    one-shot   start(horizon), then epoch(trainer, train, val) → EpochRecord, horizon times

A one-shot strategy that needs backbones first is an ask/tell strategy too: the driver asks until
nothing is asked, and then runs the epochs. Either way `derive()` gives what is to be trained in
full. A strategy never opens a file, picks a device, prints, or sees test data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from polymix import built_in
from polymix.data.schema import Schema
from polymix.genotype import Block, Genotype
from polymix.records import Cost, EpochRecord, Interval, Proposal, Recipe, Trial
from polymix.registry import Parts, classes_of, lacking
from polymix.train.supernet import RowLoader, SupernetTrainer


@dataclass(frozen=True)
class SearchTask:
    """What a strategy is told of the data and the budget.

    Attributes:
        schema: modalities and target.
        rows: number of training rows.
        seed: of the run.
        metric: the metric's name.
        seconds: the strategy's share of the clock, summed over the processes that train; none
            without a time limit.
        trials: how many trials it may ask for; none without a limit.
        cost: parameters and FLOPs of a genotype trained by a recipe.
        difference: the 95% interval of the difference between the mean scores of two sets of
            trials, paired by validation row.
        predict: seconds that a proposal is expected to take; 0 without a time limit.
        folds: into how many folds the development rows are cut, for those trials that are to be
            scored on all of them; 0 where they are not.
        most_rows: of the largest fit there will be: what ships may be fitted on every row.
        targets: of the development rows that a strategy may look at: training rows.
    """

    schema: Schema
    rows: int
    seed: int
    metric: str
    seconds: float | None
    trials: int | None
    cost: Callable[[Genotype, Recipe], Cost]
    difference: Callable[[Sequence[Trial], Sequence[Trial]], Interval]
    predict: Callable[[Proposal], float]
    folds: int = 0
    most_rows: int = 0
    targets: np.ndarray = field(default_factory=lambda: np.zeros(0))


class Strategy(BaseModel):
    """Base of all strategies; its fields are what `-o key=value` sets.

    Attributes:
        name: what the command line calls it.
        summary: one line for its users.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    name: ClassVar[str]
    summary: ClassVar[str]

    @property
    def search_share(self) -> float:
        """Of the budget, what the search may take; the rest is for training what it found."""
        return 0.5

    @property
    def has_random(self) -> bool:
        """Whether random search has a space to draw from, and so a share of the search."""
        return True

    @property
    def refits(self) -> bool:
        """Whether what is chosen is trained again, on training and validation rows."""
        return False

    def fresh(self) -> Self:
        """One with the same options that has not begun: an object serves any number of runs."""
        return type(self).model_validate(self.model_dump())

    def setup(self, task: SearchTask) -> None:  # noqa: ARG002
        """Begin. Called once, before anything else."""
        raise TypeError(f"{type(self).__name__} must define setup")

    def reasons(self) -> Sequence[str]:
        """What a person should know of how it set itself up, once `setup` is done."""
        return []

    def derive(self) -> Sequence[Proposal]:
        """What to train in full, best first.

        The fidelity's epochs are a wish, its rows and seed are ignored: the driver sets them,
        alike for all finalists.
        """
        raise TypeError(f"{type(self).__name__} must define derive")

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The encoder of each modality, for the comparators: each alone, and late fusion."""
        raise TypeError(f"{type(self).__name__} must define encoders")

    def random(self, rng: np.random.Generator) -> Proposal | None:  # noqa: ARG002
        """A genotype drawn uniformly from the strategy's space, at its search fidelity.

        None where there is no space to draw from.
        """
        return None

    def in_full(self, tried: Proposal, like: Proposal) -> Proposal:
        """What `random` gave, as it is to be trained in full: as `like`, which `derive` gave."""
        return replace(like, genotype=tried.genotype, init=tried.init)

    def expected(self) -> Sequence[Proposal]:
        """All that will be asked for, as far as it is known after `setup`: for `--dry-run`."""
        return []

    def size(self) -> int | None:
        """How many genotypes its space holds; none where there is no space."""
        return None


@runtime_checkable
class AskTell(Protocol):
    """A strategy that asks."""

    def ask(self) -> Sequence[Proposal]:
        """The next cohort; empty when there is nothing left to ask."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """The cohort's trials, in the order asked; a failed or skipped one has no score."""


@runtime_checkable
class OneShot(Protocol):
    """A strategy that trains a supernet itself."""

    def start(self, horizon: int | None, trainer: SupernetTrainer) -> int:
        """Build the supernet anew.

        Args:
            horizon: epochs there will be; none asks the strategy.
            trainer: see `epoch`.

        Returns:
            The epochs there will be.
        """

    def epoch(self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader) -> EpochRecord:
        """One epoch. `trainer.step(loss, optimizer)` is the shared loop's own step."""

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """Everything the next epoch depends on: tensors, and JSON."""

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` returned. Called after `start`."""


ONE_SHOT = ("start", "epoch", "state", "load_state")


def _lacks(cls: type[Strategy]) -> Iterator[str]:
    meaning = {"summary": "one line for its users"}
    yield from lacking(cls, Strategy, meaning, ["setup", "derive", "chosen_encoders"])
    found = [name for name in ("ask", "tell", *ONE_SHOT) if hasattr(cls, name)]
    if not found:
        yield f"it neither asks (ask and tell) nor trains a supernet ({', '.join(ONE_SHOT)})"
    for names in (("ask", "tell"), ONE_SHOT):
        if set(names) & set(found):
            yield from (f"no method {name}" for name in names if name not in found)


STRATEGIES: Parts[type[Strategy]] = Parts(
    "a strategy",
    "a class of polymix.Strategy",
    classes_of(Strategy),
    _lacks,
    modules=built_in.STRATEGIES,
)
