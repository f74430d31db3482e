"""The best fitted models on each modality alone: what fusion has to gain over.

A model of everything is compared with the same learner on one modality, or a better learner would
be taken for a gain of fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.portfolio import alone
from polymix.records import Proposal, Role, Trial
from polymix.search.finalists import COST_MARGIN, Contest
from polymix.search.run import Run
from polymix.search.standings import Finalist

MAX_SINGLES = 3
"""Modalities of which the best single model is shown."""

ALONE_SHARE = 1 / 3
"""Of the time that the search leaves, what models of one modality may be expected to take."""


class SingleModalityLearners:
    """The learners of the best fitted models, on each modality alone.

    The best model's learner comes first, then the best one of every other learner; of each, the
    modality that is quickest.
    """

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:
        """The best model of each modality, of those that the search tried and those tried here.

        The best one of several modalities stands beside them, whatever place it has.
        """
        fitted = _fitted(contest.trials)
        tried = self._tried(run, contest, fitted)
        best: dict[str, Trial] = {}
        for trial in [*fitted, *tried]:
            names = trial.proposal.genotype.modalities
            if len(names) == 1 and trial.usable:
                known = best.get(names[0])
                best[names[0]] = trial if known is None or trial.value > known.value else known
        ordered = sorted(best, key=lambda name: -best[name].value)[:MAX_SINGLES]
        found = [Finalist(best[name].proposal, (Role.SINGLE,), f"{name} alone") for name in ordered]
        if found:
            found[0].tried = tuple(tried)
        return found + _best_of_several(contest, fitted)

    def _tried(self, run: Run, contest: Contest, fitted: Sequence[Trial]) -> list[Trial]:
        """Trials of the learners on one modality, as many as time or `--trials` allow."""
        asked = self._asked(run, fitted)
        count = run.ledger.decision("alone: models")
        if count is None:
            count = run.record_decision("alone: models", self._affordable(run, contest, asked))
        if not count:
            return []
        run.phase("single modalities", count)
        proposals = [proposal for proposal, _ in asked[:count]]
        deadline = run.clock.deadline(1.0)
        if deadline is not None:
            deadline -= (1 - ALONE_SHARE) * (run.clock.remaining or 0.0)
        return run.trial_runner.evaluate(proposals, Role.SINGLE, deadline)

    def _asked(self, run: Run, fitted: Sequence[Trial]) -> list[tuple[Proposal, float]]:
        """What is to be tried, in order, and the seconds that each is expected to take."""
        found: dict[TabularGenotype, tuple[Proposal, float]] = {}
        known = {t.proposal.genotype for t in fitted}
        rows = len(run.evaluator.dataset.split.train)
        for one in _by_learner(fitted):
            genotype = one.proposal.genotype
            assert isinstance(genotype, TabularGenotype)
            parts = [part for part in alone(genotype) if part not in known]
            parts.sort(key=lambda g: run.evaluator.costs.fitting(g, rows) or 0.0)
            for part in parts:
                asked = replace(one.proposal, genotype=part, stage="one modality")
                # It takes no longer than the same learner on all columns, which may have passed
                # rows through a network: what that says is there now.
                expected = COST_MARGIN * run.predict(asked)
                found.setdefault(part, (asked, min(expected, one.cost.wall_s)))
        return list(found.values())

    def _affordable(
        self, run: Run, contest: Contest, asked: Sequence[tuple[Proposal, float]]
    ) -> int:
        """How many of these fit the time, and the trials, that are left."""
        count = len(asked)
        if run.budget.trials is not None:
            # One is kept for each that the strategy proposed, and one for what ships.
            left = run.budget.trials - len(contest.trials) - len(contest.own) - 1
            count = max(0, min(count, left))
        if run.clock.remaining is None:
            return count
        allowed, spent = ALONE_SHARE * run.clock.remaining, 0.0
        for place, (_, seconds) in enumerate(asked[:count]):
            spent += seconds
            if spent > allowed:
                return place
        return count


def _best_of_several(contest: Contest, fitted: Sequence[Trial]) -> list[Finalist]:
    """The best model of several modalities, where the strategy proposes none."""
    several = [t.proposal for t in fitted if len(t.proposal.genotype.modalities) > 1]
    if not several or any(len(p.genotype.modalities) > 1 for p in contest.own):
        return []
    return [Finalist(several[0], (Role.WINNER,), "best of several modalities")]


def _fitted(trials: Sequence[Trial]) -> list[Trial]:
    """Fitted models with a score, best first."""
    found = [t for t in trials if t.usable and isinstance(t.proposal.genotype, TabularGenotype)]
    return sorted(found, key=lambda t: -t.value)


def _by_learner(fitted: Sequence[Trial]) -> list[Trial]:
    """The best of each learner that reads several modalities, best first."""
    found: dict[str, Trial] = {}
    for trial in fitted:
        if len(trial.proposal.genotype.modalities) > 1:
            found.setdefault(trial.proposal.genotype.learns, trial)
    return list(found.values())
