"""The finalists' standings: scores with intervals, ranks, ties, and which one is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from polymix.records import Cost, Interval, Proposal, Role, Status, Trial
from polymix.scoring.intervals import Referee

ENOUGH_SEEDS = 3


FUSING = {Role.WINNER, Role.LATE, Role.RANDOM}
"""Whose networks fuse, unless they are a single modality's, too."""


@dataclass
class Finalist:
    """One of those that are trained in full.

    Attributes:
        proposal: what is trained; its seed is the first one's.
        roles: why it is here; several where two came to the same genotype.
        label: what to call it.
        trials: one a seed, in the order of seeds.
    """

    proposal: Proposal
    roles: tuple[Role, ...]
    label: str
    trials: list[Trial] = field(default_factory=list)

    @property
    def scored(self) -> list[Trial]:
        """The trials that ended with a score."""
        return [t for t in self.trials if t.usable]


@dataclass(frozen=True)
class Standing:
    """A finalist's place.

    Attributes:
        finalist: whose.
        rank: from 1; none if it has no score.
        score: mean over seeds, with its 95% interval.
        seeds: how many seeds that is.
        tied_with: ranks of those from which it differs by no more than the noise.
        cost: of one trial; CPU seconds are all seeds'.
    """

    finalist: Finalist
    rank: int | None
    score: Interval | None
    seeds: int
    tied_with: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True)
class Standings:
    """All finalists, best first.

    Attributes:
        rows: see `Standing`.
        chosen: the trial whose model is shipped; none if nothing has a score.
        chosen_rank: the rank of its finalist.
        seeds: rounds that every ranked finalist finished.
        gain: the best network that fuses, whoever proposed it, minus the best single modality.
    """

    rows: tuple[Standing, ...]
    chosen: Trial | None
    chosen_rank: int | None
    seeds: int
    gain: Interval | None

    @property
    def ranked(self) -> bool:
        """Whether there are seeds enough to rank, or folds in their place."""
        folded = self.chosen is not None and self.chosen.proposal.fidelity.folds > 0
        return folded or self.seeds >= ENOUGH_SEEDS

    def of(self, role: Role) -> Standing | None:
        """The best finalist with a role."""
        return next((row for row in self.rows if role in row.finalist.roles and row.rank), None)


def stand(finalists: Sequence[Finalist], referee: Referee) -> Standings:
    """Rank finalists on validation rows, and choose.

    A finalist counts with every seed it finished, once all have finished one; two are compared on
    the seeds that both have. Of those within a standard error of the best, the one with the fewest
    FLOPs is chosen (the one-standard-error rule: Breiman et al. 1984, section 3.4.3), and of its
    seeds the best; an ensemble that is the best ships, whatever it costs: it was asked for. Ties
    are by the 95% interval: they say what is not known to differ, which with few validation rows
    is nearly everything, and is no reason to take a worse one.
    """
    runs = {id(f): _compared(f, finalists) for f in finalists}
    scored = [f for f in finalists if runs[id(f)]]
    scores = {id(f): referee.score(runs[id(f)]) for f in scored}
    scored.sort(key=lambda f: -scores[id(f)].value)
    tied = {
        (id(a), id(b))
        for i, a in enumerate(scored)
        for b in scored[i + 1 :]
        if referee.difference(runs[id(a)], runs[id(b)]).noise
    }
    rows = []
    for rank, one in enumerate(scored, 1):
        equals = tuple(
            r
            for r, other in enumerate(scored, 1)
            if (id(one), id(other)) in tied or (id(other), id(one)) in tied
        )
        count = len(runs[id(one)])
        rows.append(Standing(one, rank, scores[id(one)], count, equals, _cost(one)))
    rows += [Standing(f, None, None, 0, (), _cost(f)) for f in finalists if not runs[id(f)]]
    if not scored:
        return Standings(tuple(rows), None, None, 0, None)
    best = runs[id(scored[0])]
    contenders = [
        r for r, one in zip(rows, scored, strict=False)
        if r.rank == 1 or referee.difference(best, runs[id(one)]).near()
    ]  # fmt: skip
    if Role.ENSEMBLE in scored[0].roles:
        contenders = contenders[:1]
    chosen = min(contenders, key=lambda r: (r.cost.flops, r.rank))
    trial = max(runs[id(chosen.finalist)], key=lambda t: t.value)
    seeds = min(len(runs[id(f)]) for f in scored)
    return Standings(tuple(rows), trial, chosen.rank, seeds, _gain(rows, runs, referee))


def _compared(finalist: Finalist, finalists: Sequence[Finalist]) -> list[Trial]:
    """The seeds it finished, where every one finished some; else whatever has a score."""
    done = {id(f): [t for t in f.trials if t.status is Status.DONE and t.usable] for f in finalists}
    if all(done[id(f)] for f in finalists if _alive(f)):
        return done[id(finalist)]
    return finalist.scored[:1]


def _alive(finalist: Finalist) -> bool:
    """Whether it is in the comparison: a finalist that failed does not hold up the others."""
    return not any(t.failed for t in finalist.trials)


def _cost(finalist: Finalist) -> Cost:
    trials = finalist.trials
    if not trials:
        return Cost(0, 0)
    one = next((t for t in trials if t.usable), trials[0])  # a failed trial may know of no cost
    return Cost(
        params=one.cost.params,
        flops=one.cost.flops,
        steps=one.cost.steps,
        cpu_s=sum(t.cost.cpu_s for t in trials),
        wall_s=sum(t.cost.wall_s for t in trials),
    )


def _gain(
    rows: Sequence[Standing], runs: dict[int, list[Trial]], referee: Referee
) -> Interval | None:
    ranked = [r for r in rows if r.rank]
    alone = [r for r in ranked if Role.SINGLE in r.finalist.roles]
    single = next(iter(alone), None)
    fused = next((r for r in ranked if r not in alone and FUSING & set(r.finalist.roles)), None)
    if fused is None or single is None:
        return None
    return referee.difference(runs[id(fused.finalist)], runs[id(single.finalist)])
