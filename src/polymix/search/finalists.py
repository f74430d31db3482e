"""The finalists: who they are, for how long they are trained, and their rounds, seed by seed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from polymix.errors import SearchError
from polymix.genotype import Block, Genotype
from polymix.nn.build import frozen_blocks
from polymix.records import Fidelity, Proposal, Role, Trial
from polymix.search.run import Run
from polymix.search.standings import ENOUGH_SEEDS, Finalist, Standings, stand
from polymix.space.mix import MixGenotype

MIN_EPOCHS, MIN_STEPS = 4, 200
"""What a training has at least, before there are fewer seeds: where rows are few, epochs are short,
and seeds of what was hardly trained say nothing of each other."""

COST_MARGIN = 1.15
"""Predictions are held to be this much too low."""


@dataclass(frozen=True)
class Contest:
    """What is known once the search is over, before the first finalist is trained.

    Attributes:
        own: the strategy's proposals, best first.
        encoders: the encoder of each modality, as the strategy chose them.
        trials: the strategy's and random search's.
        random: random search's alone.
    """

    own: Sequence[Proposal]
    encoders: Mapping[str, Block]
    trials: Sequence[Trial]
    random: Sequence[Trial]

    @property
    def whole(self) -> Proposal:
        """The strategy's best, as it is trained where there are no backbones to start from."""
        best = self.own[0]
        return replace(best, recipe=replace(best.recipe, frozen=False, thaw=0), init=())


class Comparator(Protocol):
    """Proposes finalists that the strategy's own are compared with."""

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:
        """Finalists, none where it has nothing to say of these data."""


class Combiner(Protocol):
    """Makes more finalists of those that are trained."""

    def combine(
        self,
        run: Run,
        finalists: Sequence[Finalist],
        trials: Sequence[Trial],
        deadline: float | None,
    ) -> Sequence[Finalist]:
        """Finalists, trained; none where there is nothing to combine, or no time left.

        Args:
            run: whose budget it spends.
            finalists: trained.
            trials: all others that were scored on the same rows.
            deadline: on `time.monotonic`'s clock; none for no limit.
        """


class FinalistRounds:
    """Trains the finalists of a run.

    Args:
        run: whose budget they spend.
        comparators: who else stands among them, in this order.
        combiner: makes more of those that are trained; none for none.
        trials: the strategy's trials.
        random: random search's.
    """

    def __init__(
        self,
        run: Run,
        comparators: Sequence[Comparator],
        combiner: Combiner | None,
        trials: Sequence[Trial],
        random: Sequence[Trial],
    ) -> None:
        self.run, self.combiner = run, combiner
        self.trials = [*trials, *random]
        self.finalists = self._who(comparators, random)
        self.trials += [t for f in self.finalists for t in f.tried]
        self.plan = self._plan(len(self.trials))
        dropped = self.plan.get("left out", ())
        kept = [f for f in self.finalists if f.label not in dropped]
        kept = kept[: self.plan["finalists"]]
        planned = self.plan["epochs"] * self.plan["rows"]
        self.finalists = [f for f in kept if not self._outdone(f, kept, planned)]

    @property
    def expected(self) -> int:
        """How many trials there will be."""
        return len(self.finalists) * int(self.plan["seeds"])

    def rounds(self) -> Iterator[Standings]:
        """Train all finalists at the first seed, then at the next; standings after each round."""
        run = self.run
        deadline = run.clock.deadline(1.0)
        if deadline is not None and run.clock.limit is not None:
            deadline -= max(2.0, 0.01 * run.clock.limit)
        repeat, took = 0, 0.0
        while repeat < self.plan["seeds"] or self._another_seed(repeat, took):
            begun = time.monotonic()
            # The first one alone, so that there is a model to use as soon as can be.
            parts = [self.finalists[:1], self.finalists[1:]] if repeat == 0 else [self.finalists]
            for part in filter(None, parts):
                if deadline is not None and not any(f.scored for f in self.finalists):
                    # A run that runs out still leaves a usable model: the plan has cut this one
                    # down to what is left, and it gets a little more if that was nothing.
                    grace = max(5.0, 0.05 * (run.clock.limit or 0.0))
                    deadline = max(deadline, time.monotonic() + grace)
                before = run.trial_runner.fresh
                part = [f for f in part if repeat == 0 or not f.as_is]
                cohort = [self._at(finalist, run.seed + repeat) for finalist in part]
                roles = [finalist.roles[0] for finalist in part]
                trials = run.trial_runner.evaluate(cohort, roles, deadline)
                for finalist, trial in zip(part, trials, strict=True):
                    finalist.trials.append(trial)
                # What is replayed was published when it was made.
                if run.trial_runner.fresh > before and any(f.scored for f in self.finalists):
                    yield self.standings()
            repeat, took = repeat + 1, time.monotonic() - begun
        if self.combiner is None:
            return
        combined = self.combiner.combine(run, self.finalists, self.trials, deadline)
        if combined:
            self.finalists += combined
            yield self.standings()

    def _another_seed(self, seeds: int, took: float) -> bool:
        """Whether the time left allows one more seed than was planned; decided once.

        Args:
            seeds: that all finalists were trained at.
            took: seconds of the last one.
        """
        run = self.run
        limited = run.clock.remaining is not None and run.budget.trials is None
        if (
            run.folds
            or self._settled
            or not limited
            or seeds >= ENOUGH_SEEDS
            or run.strategy.refits
        ):
            return False
        known = run.ledger.decision(f"finalists: seed {seeds + 1}")
        if known is None:
            room = (run.clock.remaining or 0.0) - max(2.0, 0.01 * (run.clock.limit or 0.0))
            known = run.record_decision(f"finalists: seed {seeds + 1}", took * COST_MARGIN <= room)
        return bool(known)

    def _at(self, finalist: Finalist, seed: int) -> Proposal:
        """A finalist's proposal at a seed; one that the search scored out of fold is that again."""
        stage = finalist.label
        if finalist.as_is or finalist.proposal.fidelity.folds:
            return replace(finalist.proposal, stage=stage, share=float("inf"))
        epochs = self.plan["epochs"] if self._fit_seconds(finalist) is None else 1
        fidelity = Fidelity(self.plan["rows"], epochs, seed, folds=self.run.folds)
        # Folds leave no weights: what ships is fitted on more rows than any of them had.
        proposal = finalist.proposal.at(fidelity, keep=not self.run.folds)
        return replace(proposal, stage=stage, share=float("inf"))

    def standings(self) -> Standings:
        """As they are now."""
        return stand(self.finalists, self.run.referee(self.run.folds), self.trials)

    # Who.

    def _who(self, comparators: Sequence[Comparator], random: Sequence[Trial]) -> list[Finalist]:
        strategy = self.run.strategy
        own = list(strategy.derive())
        if not own:
            raise SearchError(f"strategy {strategy.name} proposed nothing to train in full")
        names = [strategy.name if i == 0 else f"{strategy.name} {i + 1}" for i in range(len(own))]
        found = [
            Finalist(p, (Role.WINNER,), name, as_is=self._answered(p))
            for p, name in zip(own, names, strict=True)
        ]
        contest = Contest(own, strategy.chosen_encoders(), self.trials, random)
        for comparator in comparators:
            found += comparator.propose(self.run, contest)
        return _merged(found)

    def _answered(self, proposal: Proposal) -> bool:
        """Whether the search fitted it to all training rows and kept it: there is no more to do."""
        rows = len(self.run.evaluator.dataset.split.train)
        whole = not self.run.folds and proposal.keep and proposal.fidelity.rows >= rows
        fits = self.run.evaluator.costs.fitting(proposal.genotype, rows) is not None
        return whole and fits and any(t.proposal == proposal and t.usable for t in self.trials)

    @property
    def _settled(self) -> bool:
        """Whether every finalist stands as it is."""
        return all(f.as_is for f in self.finalists)

    # How long.

    def _plan(self, used: int) -> dict[str, Any]:
        """Seeds, epochs and rows, fixed before the first finalist is trained."""
        run = self.run
        known = run.ledger.decision("finalists")
        if known is not None:
            return dict(known)
        trained = [f for f in self.finalists if self._fit_seconds(f) is None]
        wish = (trained or self.finalists)[0].proposal.fidelity
        rows = len(run.evaluator.dataset.split.train)
        count = len(self.finalists)
        # Folds repeat the training of each: one seed of all of them says as much as three.
        plan = {
            "seeds": 1 if run.folds or self._settled else ENOUGH_SEEDS,
            "epochs": wish.epochs,
            "rows": rows,
            "finalists": count,
        }
        if run.budget.trials is not None:
            # One is kept for the refit, if there are two.
            left = max(1, run.budget.trials - used - run.strategy.refits)
            plan["seeds"] = max(1, min(plan["seeds"], left // count))
            plan["finalists"] = min(count, left)
        if run.clock.remaining is not None:
            # A refit takes about as long as a finalist's seed.
            share = 1 / (1 + run.strategy.refits / (count * plan["seeds"]))
            steps = math.ceil(rows / self.finalists[0].proposal.recipe.batch_size)
            least = max(MIN_EPOCHS, math.ceil(MIN_STEPS / steps), self._probed_epochs(rows))
            room = share * run.clock.remaining
            plan |= self._affordable(room, plan["seeds"], wish.epochs, rows, least)
        return dict(run.record_decision("finalists", plan))

    def _probed_epochs(self, rows: int) -> int:
        """Epochs on all rows that are as much as the longest probe of the strategy's own best."""
        own = {f.proposal.genotype for f in self.finalists if Role.WINNER in f.roles}
        probes = [t.proposal.fidelity for t in self.trials if t.proposal.genotype in own]
        return max((math.ceil(p.epochs * min(p.rows, rows) / rows) for p in probes), default=0)

    def _affordable(
        self, remaining: float, seeds: int, epochs: int, rows: int, least: int
    ) -> dict[str, Any]:
        """What fits, without the dearest comparators where they would leave less than `least`.

        A finalist that is trained less than the probe that chose it says nothing; one comparator
        fewer is the smaller loss. The strategy's own best stays, and one modality alone.
        """
        everyone, dropped = self.finalists, list[str]()
        try:
            while True:
                found = self._timed(remaining, seeds, epochs, rows, least)
                planned = found["epochs"] * found.get("rows", rows)
                outdone = [f for f in self.finalists if self._outdone(f, self.finalists, planned)]
                if outdone:
                    # What stands as it is was trained for as long; what they free is no reason
                    # to train the others for longer than it.
                    dropped += [f.label for f in outdone]
                    self.finalists = [f for f in self.finalists if f not in outdone]
                    settled = [f.proposal.fidelity.epochs for f in self.finalists if f.as_is]
                    epochs = min(epochs, *settled)
                    continue
                singles = [f for f in self.finalists if Role.SINGLE in f.roles]
                spare = [
                    f
                    for f in self.finalists
                    if Role.WINNER not in f.roles
                    and not (Role.SINGLE in f.roles and len(singles) == 1)
                    and self._fit_seconds(f) is None
                ]
                enough = found["epochs"] >= min(epochs, least) and "rows" not in found
                if enough or not spare:
                    return found | ({"left out": dropped} if dropped else {})
                dearest = max(spare, key=lambda f: self._epoch_seconds(f, rows))
                dropped.append(dearest.label)
                self.finalists = [f for f in self.finalists if f is not dearest]
        finally:
            self.finalists = everyone

    def _timed(
        self, remaining: float, seeds: int, epochs: int, rows: int, least: int = MIN_EPOCHS
    ) -> dict[str, Any]:
        """What fits the time left: fewer epochs, down to `least`, then fewer seeds, then rows."""
        seconds = max(0.0, remaining * 0.97 - 2.0) / COST_MARGIN
        seconds *= min(self.run.runner.jobs, len(self.finalists))
        fits = [self._fit_seconds(f) for f in self.finalists]
        pairs = list(zip(self.finalists, fits, strict=True))
        epoch = sum(self._epoch_seconds(f, rows) for f, fit in pairs if fit is None)
        fixed = sum(fit for fit in fits if fit is not None)
        for count in range(seeds, 0, -1):
            fitting = int((seconds - count * fixed) / (count * max(epoch, 1e-9)))
            if fitting >= min(epochs, least):
                return {"seeds": count, "epochs": min(epochs, fitting)}
        seconds = max(0.0, seconds - fixed)
        fitting = int(seconds / max(epoch, 1e-9))
        if fitting >= 1:
            return {"seeds": 1, "epochs": min(epochs, fitting)}
        share = max(seconds / max(epoch, 1e-9), 0.01)
        return {"seeds": 1, "epochs": 1, "rows": max(1, int(rows * share))}

    def _fit_seconds(self, finalist: Finalist) -> float | None:
        """Seconds of fits that are no epochs; none for what is trained by epochs."""
        if self._known(finalist):
            return 0.0
        rows = len(self.run.evaluator.dataset.split.train)
        found = self.run.evaluator.costs.fitting(finalist.proposal.genotype, rows)
        return None if found is None else found * max(1, self.run.folds)

    def _known(self, finalist: Finalist) -> bool:
        """Whether the search scored it out of fold."""
        asked = finalist.proposal
        settled = finalist.as_is or bool(asked.fidelity.folds)
        return settled and any(t.proposal == asked for t in self.trials)

    def _outdone(self, finalist: Finalist, others: Sequence[Finalist], planned: int) -> bool:
        """Whether the same genotype stands as it is, trained on as many rows as are planned.

        Args:
            finalist: to be trained.
            others: all of them.
            planned: rows that it would see, over all epochs.
        """
        return not finalist.as_is and any(
            other.as_is
            and other.proposal.genotype == finalist.proposal.genotype
            and other.proposal.fidelity.epochs * other.proposal.fidelity.rows >= planned
            for other in others
        )

    def _epoch_seconds(self, finalist: Finalist, rows: int) -> float:
        """Seconds of an epoch, predicted, and corrected by how probes of the same blocks did."""
        proposal = finalist.proposal.at(Fidelity(rows, 1, 0))
        once = self.run.predict(proposal) * self._factor(proposal.genotype)
        return once * max(1, self.run.folds)

    def _steps(self, proposal: Proposal) -> int:
        fidelity, there = proposal.fidelity, len(self.run.evaluator.dataset.split.train)
        return fidelity.epochs * math.ceil(min(fidelity.rows, there) / proposal.recipe.batch_size)

    def _factor(self, genotype: Genotype) -> float:
        """Measured over predicted, of the same genotype, else the largest of its encoders."""
        factors: dict[Genotype, float] = {}
        passes: dict[Genotype, list[float]] = {}
        for trial in self.trials:
            expected = self.run.predict(trial.proposal)
            if trial.cost.steps and expected and trial.score:
                # A stopped trial took fewer steps than its proposal says.
                share = trial.cost.steps / self._steps(trial.proposal)
                found = trial.cost.wall_s / (expected * share)
                factors[trial.proposal.genotype] = found
                if frozen_blocks(trial.proposal.genotype):
                    passes.setdefault(trial.proposal.genotype, []).append(found)
        # The first to read a frozen encoder passed all rows through it, and no other does.
        for one, several in passes.items():
            factors[one] = min(several) if len(several) > 1 else min(1.0, *several)
        if genotype in factors:
            return factors[genotype]
        if isinstance(genotype, MixGenotype):
            parts = [MixGenotype.single(name, block) for name, block in genotype.encoders]
            known = [factors[part] for part in parts if part in factors]
            return max(known, default=max(factors.values(), default=1.0))
        return max(factors.values(), default=1.0)


def _merged(finalists: Sequence[Finalist]) -> list[Finalist]:
    """One finalist a genotype and recipe; it has all the roles that came to it."""
    found: dict[tuple[Any, ...], Finalist] = {}
    for one in finalists:
        where = (one.proposal.genotype, one.proposal.recipe, one.proposal.init, one.as_is)
        if where in found:
            found[where].roles += one.roles
            found[where].label += f" = {one.label}"
            found[where].tried += one.tried
        else:
            found[where] = one
    return list(found.values())
