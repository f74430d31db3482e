"""The finalists: who they are, for how long they are trained, and their rounds, seed by seed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polymix.errors import SearchError
from polymix.genotype import Block, Genotype
from polymix.nn.build import frozen_blocks
from polymix.records import Fidelity, Proposal, Role, Trial
from polymix.search.boosting import boosting_genotype, within
from polymix.search.ensemble import ensembles
from polymix.search.standings import ENOUGH_SEEDS, Finalist, Standings, stand
from polymix.space.mix import MixGenotype

if TYPE_CHECKING:
    from polymix.search.driver import Driver

MOST_SINGLES = 3
LEAST_EPOCHS, LEAST_STEPS = 4, 200
"""What a training has at least, before there are fewer seeds: where rows are few, epochs are short,
and seeds of what was hardly trained say nothing of each other."""

BOOSTING_SHARE = 0.15
"""Of the finalists' time, what gradient boosting may be expected to take."""

MARGIN = 1.15
"""Predictions are held to be this much too low."""


class Finals:
    """Trains the finalists of a run.

    Args:
        driver: whose run it is.
        trials: the strategy's trials.
        random: random search's.
    """

    def __init__(self, driver: Driver, trials: Sequence[Trial], random: Sequence[Trial]) -> None:
        self.driver = driver
        self.trials = [*trials, *random]
        self.finalists = self._who(random)
        self.plan = self._plan(len(self.trials))
        self.finalists = self.finalists[: self.plan["finalists"]]

    @property
    def expected(self) -> int:
        """How many trials there will be."""
        return len(self.finalists) * int(self.plan["seeds"])

    def rounds(self) -> Iterator[Standings]:
        """Train all finalists at the first seed, then at the next; standings after each round."""
        driver = self.driver
        deadline = driver.clock.deadline(1.0)
        if deadline is not None and driver.clock.limit is not None:
            deadline -= max(2.0, 0.01 * driver.clock.limit)
        for repeat in range(self.plan["seeds"]):
            # The first one alone, so that there is a model to use as soon as can be.
            parts = [self.finalists[:1], self.finalists[1:]] if repeat == 0 else [self.finalists]
            for part in filter(None, parts):
                if deadline is not None and not any(f.scored for f in self.finalists):
                    # A run that runs out still leaves a usable model: the plan has cut this one
                    # down to what is left, and it gets a little more if that was nothing.
                    grace = max(5.0, 0.05 * (driver.clock.limit or 0.0))
                    deadline = max(deadline, time.monotonic() + grace)
                before = driver.bench.fresh
                cohort = [self._at(finalist, driver.seed + repeat) for finalist in part]
                roles = [finalist.roles[0] for finalist in part]
                trials = driver.bench.evaluate(cohort, roles, deadline)
                for finalist, trial in zip(part, trials, strict=True):
                    finalist.trials.append(trial)
                # What is replayed was published when it was made.
                if driver.bench.fresh > before and any(f.scored for f in self.finalists):
                    yield self.standings()
        if driver.ensemble and (ensemble := ensembles(driver, self.finalists, deadline)):
            self.finalists.append(ensemble)
            yield self.standings()

    def _at(self, finalist: Finalist, seed: int) -> Proposal:
        epochs = self.plan["epochs"] if self._fit_seconds(finalist) is None else 1
        fidelity = Fidelity(self.plan["rows"], epochs, seed)
        proposal = finalist.proposal.at(fidelity, keep=True)
        return replace(proposal, stage=finalist.label, share=float("inf"))

    def standings(self) -> Standings:
        """As they are now."""
        return stand(self.finalists, self.driver.referee)

    # Who.

    def _who(self, random: Sequence[Trial]) -> list[Finalist]:
        driver = self.driver
        own = list(driver.strategy.derive())
        if not own:
            raise SearchError(f"strategy {driver.strategy.name} proposed nothing to train in full")
        names = [driver.strategy.name if i == 0 else f"{driver.strategy.name} {i + 1}"
                 for i in range(len(own))]  # fmt: skip
        found = [Finalist(p, (Role.WINNER,), name) for p, name in zip(own, names, strict=True)]
        encoders = driver.strategy.chosen_encoders()
        # Comparators are trained whole: there are no backbones that their encoders could be.
        shared = replace(own[0], recipe=replace(own[0].recipe, frozen=False, thaw=0), init=())
        singles = self._singles(encoders)
        found += [
            Finalist(replace(shared, genotype=g), (Role.SINGLE,), f"{name} alone")
            for name, g in singles
        ]
        if len(encoders) > 1:
            late = MixGenotype(
                encoders=tuple(encoders.items()), fusion="concat", network=Block.of("mlp")
            )
            found.append(Finalist(replace(shared, genotype=late), (Role.LATE,), "late fusion"))
        best = max((t for t in random if t.usable), key=lambda t: t.value, default=None)
        if best is not None:
            proposal = driver.strategy.in_full(best.proposal, own[0])
            found.append(Finalist(proposal, (Role.RANDOM,), "random search"))
        return _merged([*found, *self._boosting()])

    def _boosting(self) -> list[Finalist]:
        """Gradient boosting, where the data are of its kind, with as many rounds as fit."""
        driver = self.driver
        genotype = boosting_genotype(driver.evaluator.dataset.schema)
        if genotype is None:
            return []
        rows = len(driver.evaluator.dataset.split.train)
        if driver.clock.limit is not None:
            decided = driver.ledger.decision("gradient boosting: rounds")
            allowed = BOOSTING_SHARE * (driver.clock.remaining or 0.0) / ENOUGH_SEEDS
            plain = boosting_genotype(driver.evaluator.dataset.schema, pretrained=False)
            assert plain is not None
            if plain != genotype:
                # The pass through a network is all or nothing: no fewer rounds make it quicker.
                read = driver.ledger.decision("gradient boosting: pretrained")
                if read is None:
                    taken = driver.evaluator.costs.fitting(genotype, rows) or 0.0
                    read = driver.decide("gradient boosting: pretrained", taken <= allowed)
                genotype = genotype if read else plain
            if decided is None:
                expected = driver.evaluator.costs.fitting(genotype, rows) or 0.0
                asked = within(genotype, expected, allowed)
                decided = driver.decide("gradient boosting: rounds", asked)
            genotype = genotype.model_copy(update={"rounds": decided})
        proposal = Proposal(genotype, Fidelity(rows, 1, driver.seed))
        return [Finalist(proposal, (Role.BOOSTING,), "gradient boosting")]

    def _singles(self, encoders: Mapping[str, Block]) -> list[tuple[str, Genotype]]:
        """Each modality alone; the best ones by their probes where there are many."""
        singles = [(name, MixGenotype.single(name, block)) for name, block in encoders.items()]
        scores = {t.proposal.genotype: t.value for t in self.trials if t.usable}
        ordered = sorted(singles, key=lambda s: -scores.get(s[1], float("-inf")))
        kept = ordered[:MOST_SINGLES]
        return [single for single in singles if single in kept]

    # How long.

    def _plan(self, used: int) -> dict[str, Any]:
        """Seeds, epochs and rows, fixed before the first finalist is trained."""
        driver = self.driver
        known = driver.ledger.decision("finalists")
        if known is not None:
            return dict(known)
        wish = self.finalists[0].proposal.fidelity
        rows = len(driver.evaluator.dataset.split.train)
        count = len(self.finalists)
        plan = {"seeds": ENOUGH_SEEDS, "epochs": wish.epochs, "rows": rows, "finalists": count}
        if driver.budget.trials is not None:
            # One is kept for the refit, if there are two.
            left = max(1, driver.budget.trials - used - driver.strategy.refits)
            plan["seeds"] = max(1, min(ENOUGH_SEEDS, left // count))
            plan["finalists"] = min(count, left)
        if driver.clock.remaining is not None:
            # A refit takes about as long as a finalist's seed.
            share = 1 / (1 + driver.strategy.refits / (count * plan["seeds"]))
            steps = math.ceil(rows / self.finalists[0].proposal.recipe.batch_size)
            least = max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / steps))
            room = share * driver.clock.remaining
            plan |= self._timed(room, plan["seeds"], wish.epochs, rows, least)
        return dict(driver.decide("finalists", plan))

    def _timed(
        self, remaining: float, seeds: int, epochs: int, rows: int, least: int = LEAST_EPOCHS
    ) -> dict[str, Any]:
        """What fits the time left: fewer epochs, down to `least`, then fewer seeds, then rows."""
        seconds = max(0.0, remaining * 0.97 - 2.0) / MARGIN
        seconds *= min(self.driver.runner.jobs, len(self.finalists))
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
        """Seconds of a fit that is no epochs; none for what is trained by epochs."""
        rows = len(self.driver.evaluator.dataset.split.train)
        return self.driver.evaluator.costs.fitting(finalist.proposal.genotype, rows)

    def _epoch_seconds(self, finalist: Finalist, rows: int) -> float:
        """Seconds of an epoch, predicted, and corrected by how probes of the same blocks did."""
        proposal = finalist.proposal.at(Fidelity(rows, 1, 0))
        return self.driver.predict(proposal) * self._factor(proposal.genotype)

    def _steps(self, proposal: Proposal) -> int:
        fidelity, there = proposal.fidelity, len(self.driver.evaluator.dataset.split.train)
        return fidelity.epochs * math.ceil(min(fidelity.rows, there) / proposal.recipe.batch_size)

    def _factor(self, genotype: Genotype) -> float:
        """Measured over predicted, of the same genotype, else the largest of its encoders."""
        factors: dict[Genotype, float] = {}
        passes: dict[Genotype, list[float]] = {}
        for trial in self.trials:
            expected = self.driver.predict(trial.proposal)
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
        where = (one.proposal.genotype, one.proposal.recipe, one.proposal.init)
        if where in found:
            found[where].roles += one.roles
            found[where].label += f" = {one.label}"
        else:
            found[where] = one
    return list(found.values())
