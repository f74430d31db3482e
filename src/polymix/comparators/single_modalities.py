"""Each modality alone: what fusion has to gain over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polymix.records import Role
from polymix.search.finalists import Contest
from polymix.search.run import Run
from polymix.search.standings import Finalist
from polymix.space.mix import MixGenotype

MAX_SINGLES = 3


class SingleModalities:
    """The chosen encoder of each modality, alone; the best ones by their probes of many."""

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:  # noqa: ARG002
        """One a modality, `MAX_SINGLES` at most, in the modalities' order."""
        singles = {n: MixGenotype.single(n, block) for n, block in contest.encoders.items()}
        scores = {t.proposal.genotype: t.value for t in contest.trials if t.usable}
        ordered = sorted(singles, key=lambda n: -scores.get(singles[n], float("-inf")))
        kept = set(ordered[:MAX_SINGLES])
        return [
            Finalist(replace(contest.whole, genotype=single), (Role.SINGLE,), f"{name} alone")
            for name, single in singles.items()
            if name in kept
        ]
