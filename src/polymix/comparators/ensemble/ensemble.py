"""The finalist that is made of finalists: at each seed, a greedy mean of what that seed trained.

A seed's ensemble is chosen from that seed's models alone, so that it is compared with them seed by
seed, as they are with each other; what it is chosen by, and ranked by, are validation rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polymix.comparators.ensemble.genotype import EnsembleGenotype, Member
from polymix.genotype import Genotype
from polymix.records import Cost, Fidelity, Proposal, Role, Score, Trial
from polymix.scoring.calibration import mean_loss
from polymix.scoring.greedy import greedy_weights
from polymix.scoring.metrics import METRICS
from polymix.search.run import Run
from polymix.search.standings import Finalist

FOLDED_STEPS = 25
"""Steps of the greedy choice where all rows choose: as in Caruana et al."""


class GreedyEnsemble:
    """The ensemble of each seed, or of all that was scored out of fold, as one finalist.

    Nothing is trained, so that `--trials` does not count it.
    """

    def combine(
        self,
        run: Run,
        finalists: Sequence[Finalist],
        trials: Sequence[Trial],
        deadline: float | None,
    ) -> Finalist | None:
        """The finalist; none where no seed has two models, or no time is left."""
        if run.folds:
            return _out_of_fold(run, [*trials, *(t for f in finalists for t in f.trials)])
        seeds = sorted({t.proposal.fidelity.seed for f in finalists for t in f.scored})
        proposals = [p for seed in seeds if (p := _proposal(run, finalists, seed)) is not None]
        if not proposals:
            return None
        found = Finalist(proposals[0], (Role.ENSEMBLE,), "ensemble")
        found.trials += run.trial_runner.evaluate(proposals, Role.ENSEMBLE, deadline)
        return found if found.scored else None


def _out_of_fold(run: Run, trials: Sequence[Trial]) -> Finalist | None:
    """The greedy mean of everything that was scored out of fold, as one finalist.

    Its predictions are the mean of its members', so that there is nothing to compute; members are
    fitted when it ships.
    """
    known: dict[Genotype, Trial] = {}
    for trial in trials:
        if trial.usable and trial.proposal.fidelity.folds == run.folds:
            known.setdefault(trial.proposal.genotype, trial)
    # Of two that add as much, the first is taken: the cheaper one. No clock decides.
    members = sorted(known.values(), key=lambda t: (t.cost.flops, t.proposal.genotype.digest))
    if len(members) < 2:
        return None
    targets = run.evaluator.scored_targets(run.folds)
    # A metric of the labels said moves in jumps, and choosing by it chooses noise.
    metric = METRICS["neg_log_loss"] if run.evaluator.metric.hard else run.evaluator.metric
    weights = greedy_weights(metric, targets, [_predictions(t) for t in members], FOLDED_STEPS)
    if len(weights) < 2:
        return None
    genotype = EnsembleGenotype(
        members=tuple(
            Member(genotype=members[i].proposal.genotype, weight=w) for i, w in weights.items()
        )
    )
    rows = max(t.proposal.fidelity.rows for t in members)
    proposal = Proposal(genotype, Fidelity(rows, 1, run.seed, folds=run.folds), stage="ensemble")
    mean = np.sum([w * _predictions(members[i]) for i, w in weights.items()], 0)
    loss = mean_loss(run.evaluator.dataset.schema.target, targets, mean)
    score = Score(run.evaluator.metric(targets, mean), loss, 0)
    costs = [members[i].cost for i in weights]
    cost = Cost(sum(c.params for c in costs), sum(c.flops for c in costs))
    trial = run.trial_runner.record(proposal, Role.ENSEMBLE, score, cost, mean)
    return Finalist(proposal, (Role.ENSEMBLE,), "ensemble", [trial])


def _proposal(run: Run, finalists: Sequence[Finalist], seed: int) -> Proposal | None:
    members = [
        t for f in finalists for t in f.scored if t.proposal.fidelity.seed == seed and t.weights
    ]
    if len(members) < 2:
        return None
    evaluator = run.evaluator
    weights = greedy_weights(
        evaluator.metric, evaluator.val_targets, [_predictions(t) for t in members]
    )
    genotype = EnsembleGenotype(
        members=tuple(
            Member(genotype=members[i].proposal.genotype, weight=w) for i, w in weights.items()
        )
    )
    # Whole models: a frozen one's encoders lie in other weights than its own.
    kept = [evaluator.trained(members[i]).state_dict() for i in weights]
    init = tuple(evaluator.memory.keep_weights({n: t.cpu() for n, t in s.items()}) for s in kept)
    rows = max(t.proposal.fidelity.rows for t in members)
    return Proposal(genotype, Fidelity(rows, 1, seed), init=init, keep=True, stage="ensemble")


def _predictions(trial: Trial) -> np.ndarray:
    assert trial.predictions is not None
    return trial.predictions
