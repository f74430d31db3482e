"""A run under way: what all that spend its budget share, from the search to the last finalist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from polymix.errors import CostError
from polymix.records import Budget, Interval, Proposal, Status, Trial
from polymix.scoring.intervals import Referee
from polymix.search.callbacks import Callback
from polymix.search.clock import Clock
from polymix.search.estimate import BACKWARD, Pace, Rate, measure_rate
from polymix.search.protocol import Strategy
from polymix.search.trial_runner import Runner, TrialRunner
from polymix.store.ledger import Ledger
from polymix.train.cross_validation import rounds_of
from polymix.train.evaluate import Evaluator


class Run:
    """The clock, the ledger, the trials and the notes of one run.

    Args:
        evaluator: trains and scores.
        runner: where trials run.
        ledger: remembers.
        strategy: what searches.
        budget: what may be spent.
        seed: of everything.
        callbacks: watch.
        timed: whether to measure this machine even where no time limit asks for it.

    Attributes:
        clock: of the budget; it starts now.
        rate: how fast this machine trains; none where no clock matters.
        pace: how much longer fits take here than was expected.
        trial_runner: cohorts in, trials out.
        notes: what a person should know before trusting the run, in the order noted.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        runner: Runner,
        ledger: Ledger,
        strategy: Strategy,
        budget: Budget,
        seed: int,
        callbacks: Sequence[Callback] = (),
        *,
        timed: bool = False,
    ) -> None:
        self.evaluator, self.runner, self.ledger = evaluator, runner, ledger
        self.strategy, self.budget, self.seed = strategy, budget, seed
        self.callbacks = callbacks
        self.notes: list[str] = []
        self.clock = Clock(ledger, budget.seconds)
        self._referees: dict[int, Referee] = {}
        self.rate = self._measured_rate(timed)
        self.pace = Pace()
        self.trial_runner = TrialRunner(
            evaluator, runner, ledger, self.clock, callbacks, self.predict, self._learn_pace
        )
        evaluator.on_features = self._on_features

    @property
    def folds(self) -> int:
        """Into how many folds the development rows are cut; 0 where they are not."""
        cut = self.evaluator.dataset.split.folds
        return 0 if cut is None else int(cut.max()) + 1

    def referee(self, folds: int) -> Referee:
        """Says how far scores can be trusted: on validation rows, or on all rows out of fold."""
        if folds not in self._referees:
            targets = self.evaluator.scored_targets(folds)
            self._referees[folds] = Referee(self.evaluator.metric, targets, folded=folds > 0)
        return self._referees[folds]

    def difference(self, ours: Sequence[Trial], theirs: Sequence[Trial]) -> Interval:
        """The mean difference of two sets of trials that were scored on the same rows."""
        return self.referee(ours[0].proposal.fidelity.folds).difference(ours, theirs)

    def _measured_rate(self, timed: bool) -> Rate | None:
        """Measured once a run, where the clock matters, and written down."""
        if self.budget.seconds is None and not timed:
            return None
        known = self.ledger.decision("rate")
        if known is None:
            known = self.record_decision("rate", asdict(measure_rate(self.evaluator)))
        return Rate(**known)

    def _on_features(self, modality: str, done: int, rows: int) -> None:
        for callback in self.callbacks:
            callback.on_features(modality, done, rows)

    def predict(self, proposal: Proposal) -> float:
        """Seconds that a proposal is expected to take, from its FLOPs; 0 without a limit.

        It is 0, too, for what cannot be built: the trial will say why.
        """
        if self.rate is None:
            return 0.0
        split = self.evaluator.dataset.split
        try:
            fit = self.evaluator.costs.fitting(proposal.genotype, len(split.train))
            if fit is not None:
                passed = self.evaluator.pass_seconds(proposal.genotype)
                whole = fit * rounds_of(proposal.genotype, proposal.fidelity.folds)
                return whole * self.pace.of(proposal.genotype) + passed
            flops = self.evaluator.costs.trained(proposal.genotype, proposal.recipe)
            passed = self.evaluator.costs.passing(proposal.genotype, proposal.recipe)
        except CostError:
            return 0.0
        once = self.rate.seconds(
            flops, proposal.fidelity, proposal.recipe, len(split.train), len(split.val)
        )
        return passed * self.rate.flop + once * max(1, proposal.fidelity.folds)

    def _learn_pace(self, trial: Trial, expected: float) -> None:
        """Take notice of how long a trial took that was expected to take so many seconds."""
        fitted = self.evaluator.costs.fitting(trial.proposal.genotype, 1) is not None
        if fitted and trial.status is Status.DONE and trial.proposal.fidelity.folds:
            self.pace.learn(trial.proposal.genotype, trial.cost.wall_s, expected)

    def effort(self, proposal: Proposal) -> float:
        """A trial's FLOPs: the same on any machine, so that no clock decides.

        It is 0 for what cannot be built.
        """
        try:
            flops = self.evaluator.costs.trained(proposal.genotype, proposal.recipe)
        except CostError:
            return 0.0
        fidelity, val = proposal.fidelity, len(self.evaluator.dataset.split.val)
        return flops * fidelity.epochs * ((1 + BACKWARD) * fidelity.rows + val)

    def record_decision(self, name: str, value: Any) -> Any:
        """Write down what the clock decided; the first word stands."""
        value = self.ledger.record_decision(name, value)
        for callback in self.callbacks:
            callback.on_decision(name, value)
        return value

    def note(self, text: str) -> None:
        """Say something worth knowing, once."""
        if text not in self.notes:
            self.notes.append(text)
            for callback in self.callbacks:
                callback.on_note(text)

    def phase(self, name: str, expected: int | None = None) -> None:
        """Say that a phase begins, and how many trials it will have, where that is known."""
        for callback in self.callbacks:
            callback.on_phase(name, expected)
