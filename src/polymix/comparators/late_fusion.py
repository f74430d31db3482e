"""Late fusion: the chosen encoders' last features side by side, through one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polymix.genotype import Block
from polymix.records import Role
from polymix.search.finalists import Contest
from polymix.search.run import Run
from polymix.search.standings import Finalist
from polymix.space.mix import MixGenotype


class LateFusion:
    """Plain late fusion of the encoders that the strategy chose."""

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:  # noqa: ARG002
        """One, where there are two modalities to fuse."""
        if len(contest.encoders) < 2:
            return []
        encoders = tuple(contest.encoders.items())
        late = MixGenotype(encoders=encoders, fusion="concat", network=Block.of("mlp"))
        return [Finalist(replace(contest.whole, genotype=late), (Role.LATE,), "late fusion")]
