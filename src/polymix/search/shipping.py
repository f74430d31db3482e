"""What ships after a choice out of fold: models fitted on more rows than any fold had.

    development rows   what `evaluate` scores: it never saw the sealed rows
    every row          what predicts, once the choice is made; it is compared with nothing

The folds' own models are let go: each saw fewer rows, and a linear model or a forest gains more
from rows than from being averaged over folds. How long is fixed beforehand: a network is trained
for as many epochs as were best out of fold, on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polymix.genotype import Genotype
from polymix.records import Fidelity, Proposal, Recipe, Role, Trial
from polymix.search.finalists import COST_MARGIN
from polymix.search.run import Run


@dataclass
class Shipping:
    """Fits what was chosen.

    Attributes:
        run: whose budget it spends.
        trials: all that were scored out of fold: they say how each genotype is trained.
    """

    run: Run
    trials: Sequence[Trial]

    def seconds(self, chosen: Trial) -> float:
        """What one more fit is expected to take, by what the folds of its parts took."""
        folds = chosen.proposal.fidelity.folds
        trained = [t for part in self._parts(chosen) if (t := self._trial_of(part)) is not None]
        if folds:
            return sum(t.cost.wall_s for t in trained) / (folds - 1)
        split = self.run.evaluator.dataset.split
        rows = len(split.development) + len(split.test)
        return sum(t.cost.wall_s * rows / max(1, t.proposal.fidelity.rows) for t in trained)

    def in_time(self, chosen: Trial) -> bool:
        """Whether there is time for one more fit; decided once, and written down."""
        known = self.run.ledger.decision("fit on every row")
        if known is None:
            left = self.run.clock.remaining
            enough = left is None or self.seconds(chosen) * COST_MARGIN <= left
            known = self.run.record_decision("fit on every row", enough)
        return bool(known)

    def fit(self, chosen: Trial, *, sealed: bool) -> Trial | None:
        """The trial whose weights ship; none where there was no time for its parts.

        Args:
            chosen: scored out of fold.
            sealed: whether the sealed rows are trained on, too.
        """
        run = self.run
        split = run.evaluator.dataset.split
        rows = len(split.train) + len(split.val) + (len(split.test) if sealed else 0)
        parts = [self._question(part, rows, sealed) for part in self._parts(chosen)]
        deadline = run.clock.deadline(1.0)
        fitted = run.trial_runner.evaluate(parts, Role.REFIT, deadline)
        if not all(t.weights for t in fitted):
            return None
        if not chosen.proposal.genotype.parts():
            return fitted[0]
        whole = Proposal(
            chosen.proposal.genotype, Fidelity(rows, 1, run.seed),
            Recipe(refit=True, sealed=sealed),
            init=tuple(t.weights for t in fitted if t.weights), keep=True, stage="refit",
        )  # fmt: skip
        # Nothing is left to train: it takes no time, whatever the clock says.
        (made,) = run.trial_runner.evaluate([whole], Role.REFIT, None)
        return made if not made.failed and made.weights else None

    def _parts(self, chosen: Trial) -> tuple[Genotype, ...]:
        genotype = chosen.proposal.genotype
        return genotype.parts() or (genotype,)

    def _trial_of(self, genotype: Genotype) -> Trial | None:
        found = [t for t in self.trials if t.proposal.genotype == genotype and t.usable]
        return max(found, key=lambda t: t.value, default=None)

    def _question(self, genotype: Genotype, rows: int, sealed: bool) -> Proposal:
        trial = self._trial_of(genotype)
        recipe, epochs = Recipe(), 1
        init: tuple[str, ...] = ()
        if trial is not None:
            recipe, init = trial.proposal.recipe, trial.proposal.init
            epochs = 1 if trial.score is None else trial.score.epoch + 1
        # Without validation rows there is nothing to be patient about.
        schedule = "constant" if recipe.schedule == "plateau" else recipe.schedule
        recipe = replace(recipe, refit=True, sealed=sealed, patience=0, schedule=schedule)
        fidelity = Fidelity(rows, epochs, self.run.seed)
        return Proposal(genotype, fidelity, recipe, init, keep=True, stage="refit")
