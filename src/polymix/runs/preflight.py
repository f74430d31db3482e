"""A driver that leaves nothing behind: what a search would do is asked before it is begun."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polymix.data.dataset import Dataset
from polymix.errors import GenotypeError, UsageError
from polymix.records import Budget
from polymix.runs.config import RunConfig
from polymix.runs.evaluator import evaluator_of
from polymix.search.driver import Driver
from polymix.search.protocol import Strategy
from polymix.search.trial_runner import LocalRunner
from polymix.store.ledger import Ledger


@contextmanager
def preflight_driver(
    config: RunConfig, dataset: Dataset, strategy: Strategy, budget: Budget
) -> Iterator[Driver]:
    """The run's driver on a ledger that is gone afterwards.

    Raises:
        PolymixError: a ledger to reuse is none.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        Ledger.open(Path(scratch) / "ledger.sqlite", config.reuse) as ledger,
    ):
        evaluator = evaluator_of(config, dataset, ledger, Path(scratch))
        yield Driver(
            evaluator=evaluator,
            runner=LocalRunner(evaluator),
            ledger=ledger,
            strategy=strategy,
            budget=budget,
            seed=config.seed,
            compare=config.compare,
        )


def check_setup(config: RunConfig, dataset: Dataset, strategy: Strategy) -> None:
    """Set a copy of the strategy up on the data: only it can say what it cannot use.

    Raises:
        PolymixError: an option does not go with the data, nothing that it would try can be built,
            or a ledger to reuse is none.
    """
    budget = Budget(trials=config.trials)
    with preflight_driver(config, dataset, strategy.fresh(), budget) as driver:
        driver.prepare()
        refused: dict[str, GenotypeError] = {}
        # A strategy that asks for nothing has its one model to train.
        for proposal in driver.strategy.expected() or driver.strategy.derive()[:1]:
            try:
                driver.evaluator.cost(proposal.genotype, proposal.recipe)
                return
            except GenotypeError as error:
                refused |= dict.fromkeys(error.problems, error)
        if refused:
            raise UsageError(list(refused)[:5]) from next(iter(refused.values()))
