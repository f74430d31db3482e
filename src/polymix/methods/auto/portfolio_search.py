"""The search among fitted models: the portfolio, then what is like the best of it.

portfolio   member by member, the greatest gain a second first
lighter     in place of a member that the clock has no time for
variations  of the best, as long as they gain: only where a budget says when to stop
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from polymix import seeds
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.portfolio import most_rounds
from polymix.comparators.tabular.variations import lighter, variation
from polymix.records import Fidelity, Proposal, Status, Trial
from polymix.search.protocol import SearchTask

PATIENCE = 8
"""Variations in a row that gain nothing, after which no more are tried."""

DRAWS = 50
"""Draws of a variation that was not tried yet, at most."""


class PortfolioSearch:
    """Asks for fitted models, one after the other.

    Args:
        members: the portfolio, in order; one at least.
        task: what is known of the data and the budget.

    Attributes:
        first: of the members: the best guess.
        scored: the trials that have a score.
    """

    def __init__(self, members: Sequence[TabularGenotype], task: SearchTask) -> None:
        self.task, self.waiting, self.first = task, list(members), members[0]
        self.scored: list[Trial] = []
        self._seen = set(members)
        self._rng = seeds.stream(task.seed, "variations")
        self._best, self._stale = -math.inf, 0
        self._varied = 0
        self._late: list[TabularGenotype] = []

    def next(self) -> Proposal | None:
        """The next member, or what takes the place of one; none once all were asked for."""
        return self.proposal(self.waiting.pop(0)) if self.waiting else None

    def vary(self) -> Proposal | None:
        """A variation of the best; none where there is no budget to say when it is enough."""
        task = self.task
        limited = task.seconds is not None or task.trials is not None
        if not limited or self._stale >= PATIENCE or not self.scored:
            return None
        ranked = list(dict.fromkeys(t.proposal.genotype for t in self.ranked))
        known = [one for one in ranked if isinstance(one, TabularGenotype)]
        for _ in range(DRAWS):
            found = variation(known, most_rounds(task.schema), self._rng)
            if found is None:
                return None
            if found not in self._seen:
                self._seen.add(found)
                self._varied += 1
                return self.proposal(found)
        return None

    def tell(self, trials: Sequence[Trial]) -> None:
        """What came of the last one."""
        for trial in trials:
            genotype = trial.proposal.genotype
            assert isinstance(genotype, TabularGenotype)
            if trial.usable:
                self.scored.append(trial)
            elif trial.status is Status.SKIPPED:
                self._lighten(genotype)
            if trial.usable and trial.value > self._best:
                self._best, self._stale = trial.value, 0
            elif self._varied:
                self._stale += 1

    def _lighten(self, genotype: TabularGenotype) -> None:
        less = lighter(genotype)
        if less is None or less in self._seen:
            self._late.append(genotype)
            return
        self._seen.add(less)
        self.waiting.insert(0, less)

    @property
    def ranked(self) -> list[Trial]:
        """What was scored, best first."""
        return sorted(self.scored, key=lambda t: -t.value)

    def reasons(self) -> list[str]:
        """Why it ended, where a person may want to know."""
        found = []
        if self._late:
            found.append(
                f"{len(self._late)} fitted models were not tried: each would have taken longer "
                "than was left; a longer --time-limit tries them"
            )
        elif self._stale >= PATIENCE:
            found.append(
                f"the search ended early: of {self._varied} variations of the best models the "
                f"last {PATIENCE} gained nothing"
            )
        return found

    def proposal(self, genotype: TabularGenotype) -> Proposal:
        """A genotype as it is scored: on folds, where there are any."""
        task = self.task
        fidelity = Fidelity(task.rows, 1, task.seed, folds=task.folds)
        # What takes longer than all of the search is not begun, but for the first: it stops in
        # time with less, and then there is something to use.
        share = math.inf if task.seconds is None or genotype == self.first else task.seconds
        return Proposal(genotype, fidelity, keep=not task.folds, stage="portfolio", share=share)
