"""What random search found, trained as the strategy's own."""

from __future__ import annotations

from collections.abc import Sequence

from polymix.records import Role
from polymix.search.finalists import Contest
from polymix.search.run import Run
from polymix.search.standings import Finalist


class BestOfRandom:
    """The best of random search by its probe."""

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:
        """One, where random search could train any."""
        tried = [t for t in contest.random if t.usable]
        if not tried:
            return []
        best = max(tried, key=lambda t: t.value)
        proposal = run.strategy.in_full(best.proposal, contest.own[0])
        return [Finalist(proposal, (Role.RANDOM,), "random search")]
