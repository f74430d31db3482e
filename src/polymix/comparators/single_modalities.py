"""Each modality alone: what fusion has to gain over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from polymix.records import Role, Trial
from polymix.search.finalists import Contest
from polymix.search.run import Run
from polymix.search.standings import Finalist
from polymix.space.mix import MixGenotype

MAX_SINGLES = 3


class SingleModalities:
    """The chosen encoder of each modality, alone; the best ones by their probes of many.

    A backbone, which the strategy trained in full and whose weights its networks start from, stands
    as it is: a modality is never worth less than what was seen of it. It is trained anew beside
    that only where the finalists are trained for longer.
    """

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:  # noqa: ARG002
        """One or two a modality, of `MAX_SINGLES` at most, in the modalities' order."""
        singles = {n: MixGenotype.single(n, block) for n, block in contest.encoders.items()}
        scores = {t.proposal.genotype: t.value for t in contest.trials if t.usable}
        ordered = sorted(singles, key=lambda n: -scores.get(singles[n], float("-inf")))
        kept = set(ordered[:MAX_SINGLES])
        backbones = _backbones(contest)
        found = []
        for name, single in singles.items():
            if name not in kept:
                continue
            if single in backbones:
                known = backbones[single].proposal
                found.append(Finalist(known, (Role.SINGLE,), f"{name} backbone", as_is=True))
            anew = replace(contest.whole, genotype=single)
            found.append(Finalist(anew, (Role.SINGLE,), f"{name} alone"))
        return found


def _backbones(contest: Contest) -> Mapping[MixGenotype, Trial]:
    """Those trials of one modality whose weights the strategy's finalists start from."""
    started = {digest for proposal in contest.own for digest in proposal.init}
    return {
        t.proposal.genotype: t
        for t in contest.trials
        if t.usable and t.weights in started and isinstance(t.proposal.genotype, MixGenotype)
    }
