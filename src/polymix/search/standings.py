"""The finalists' standings: scores with intervals, ranks, ties, and which one is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from polymix.records import Cost, Interval, Proposal, Role, Status, Trial
from polymix.scoring.intervals import Referee

ENOUGH_SEEDS = 3


@dataclass
class Finalist:
    """One of those that are trained in full.

    Attributes:
        proposal: what is trained; its seed is the first one's.
        roles: why it is here; several where two came to the same genotype.
        label: what to call it.
        trials: one a seed, in the order of seeds.
        as_is: whether the proposal is one that the search answered, and its trial stands here as
            it is: it is trained at no other seed, nor for longer.
        tried: other trials, scored on the same rows, that it was found among.
    """

    proposal: Proposal
    roles: tuple[Role, ...]
    label: str
    trials: list[Trial] = field(default_factory=list)
    as_is: bool = False
    tried: tuple[Trial, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether it reads one modality."""
        return Role.SINGLE in self.roles or len(self.proposal.genotype.modalities) == 1

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
class FusionGain:
    """The best model of several modalities minus the best of one.

    Attributes:
        difference: paired by row, over the seeds that both have.
        fused: the best finalist that reads several modalities, of a learner that was tried on one
            modality, too: a better learner, or averaging, is no gain of fusion.
        single: the best finalist that reads one modality, whatever its learner.
        scores: of both, over the seeds that are compared.
        missed: the best trial of the search that reads several modalities and scored above
            `single`, where no finalist that does so came as far: they had less time to train.
    """

    difference: Interval
    fused: Standing
    single: Standing
    scores: tuple[float, float]
    missed: Trial | None = None


@dataclass(frozen=True)
class Standings:
    """All finalists, best first.

    Attributes:
        rows: see `Standing`.
        chosen: the trial whose model is shipped; none if nothing has a score.
        chosen_rank: the rank of its finalist; none if it is no finalist's.
        seeds: rounds that every ranked finalist finished.
        gain: what fusion gained; none where there is nothing to compare.
        why: why that one ships, in a sentence.
    """

    rows: tuple[Standing, ...]
    chosen: Trial | None
    chosen_rank: int | None
    seeds: int
    gain: FusionGain | None
    why: str = ""

    @property
    def ranked(self) -> bool:
        """Whether there are seeds enough to rank, or folds in their place."""
        folded = self.chosen is not None and self.chosen.proposal.fidelity.folds > 0
        return folded or self.seeds >= ENOUGH_SEEDS

    def shipping(self, trial: Trial, why: str) -> Standings:
        """The same with another choice.

        Args:
            trial: what ships in place of what was chosen; a finalist's, or of the search.
            why: in a sentence.
        """
        genotype = trial.proposal.genotype
        ranks = [r.rank for r in self.rows if r.finalist.proposal.genotype == genotype]
        rank = next((rank for rank in ranks if rank), None)
        return replace(self, chosen=trial, chosen_rank=rank, why=why)

    def of(self, role: Role) -> Standing | None:
        """The best finalist with a role."""
        return next((row for row in self.rows if role in row.finalist.roles and row.rank), None)


def stand(
    finalists: Sequence[Finalist], referee: Referee, tried: Sequence[Trial] = ()
) -> Standings:
    """Rank finalists on validation rows, and choose.

    A finalist counts with every seed it finished, once all have finished one; two are compared on
    the seeds that both have. Of those within a standard error of the best, the one with the fewest
    FLOPs is chosen (the one-standard-error rule: Breiman et al. 1984, section 3.4.3), and of its
    seeds the best; an ensemble that is the best ships, whatever it costs: it was asked for. Ties
    are by the 95% interval: they say what is not known to differ, which with few validation rows
    is nearly everything, and is no reason to take a worse one.

    Args:
        finalists: trained or not.
        referee: says how far scores can be trusted.
        tried: the search's trials, for what fusion gained.
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
        return Standings(tuple(rows), None, None, 0, None, "no finalist has a score yet")
    best = runs[id(scored[0])]
    contenders = [
        r for r, one in zip(rows, scored, strict=False)
        if r.rank == 1 or referee.difference(best, runs[id(one)]).near()
    ]  # fmt: skip
    if Role.ENSEMBLE in scored[0].roles:
        contenders = contenders[:1]
    chosen = min(contenders, key=lambda r: (r.cost.flops, r.rank))
    trial = max(runs[id(chosen.finalist)], key=lambda t: t.value)
    # What stands as it is has the one seed that the search gave it.
    several = [f for f in scored if not f.as_is] or scored
    seeds = min(len(runs[id(f)]) for f in several)
    gain = _gain(rows, runs, referee, tried)
    return Standings(tuple(rows), trial, chosen.rank, seeds, gain, _why(rows[0], chosen))


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


def _why(best: Standing, chosen: Standing) -> str:
    """Why the chosen one ships."""
    label = chosen.finalist.label
    if chosen is best:
        return f"{label} ships: it scored best"
    ours, theirs = (row.cost.flops / 1e6 for row in (chosen, best))
    return (
        f"{label} (rank {chosen.rank}) ships: it is within one standard error of the best, "
        f"{best.finalist.label}, and the cheapest of those ({ours:.2f} against {theirs:.2f} MFLOPs)"
    )


def _gain(
    rows: Sequence[Standing],
    runs: dict[int, list[Trial]],
    referee: Referee,
    tried: Sequence[Trial],
) -> FusionGain | None:
    ranked = [r for r in rows if r.rank]
    alone = [r for r in ranked if r.finalist.alone]
    kinds = {r.finalist.proposal.genotype.learns for r in alone}
    fusing = [r for r in ranked if not r.finalist.alone]
    fusing = [r for r in fusing if r.finalist.proposal.genotype.learns in kinds]
    if not fusing or not alone:
        return None
    ours, theirs = (runs[id(r.finalist)] for r in (fusing[0], alone[0]))
    count = min(len(ours), len(theirs))
    score, single = (referee.score(side[:count]).value for side in (ours, theirs))
    more = [
        t
        for t in tried
        if t.value > single
        and len(t.proposal.genotype.modalities) > 1
        and t.proposal.genotype.learns in kinds
        and t.proposal.fidelity.folds == theirs[0].proposal.fidelity.folds
    ]
    missed = max(more, key=lambda t: t.value) if more and score < single else None
    less = referee.difference(ours, theirs)
    return FusionGain(less, fusing[0], alone[0], (score, single), missed)
