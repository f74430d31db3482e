"""The finalist that is made of finalists: at each seed, a greedy mean of what that seed trained.

Beside it stands the best mean of models that read one modality, so that what fusion gains is told
apart from what averaging gains. A seed's ensemble is chosen from that seed's models alone, so that
it is compared with them seed by seed, as they are with each other; what it is chosen by, and ranked
by, are validation rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polymix.comparators.ensemble.genotype import EnsembleGenotype, Member
from polymix.genotype import Genotype
from polymix.records import Cost, Fidelity, Proposal, Role, Score, Trial
from polymix.scoring.calibration import mean_loss
from polymix.scoring.greedy import greedy_weights
from polymix.scoring.metrics import steady
from polymix.search.run import Run
from polymix.search.standings import Finalist

FOLDED_STEPS = 25
"""Steps of the greedy choice where all rows choose: as in Caruana et al."""


class GreedyEnsemble:
    """The ensemble of each seed, or of all that was scored out of fold, as a finalist.

    Nothing is trained, so that `--trials` does not count it.
    """

    def combine(
        self,
        run: Run,
        finalists: Sequence[Finalist],
        trials: Sequence[Trial],
        deadline: float | None,
    ) -> Sequence[Finalist]:
        """The ensemble of everything, and the best one of a single modality, as far as there are.

        None is there where no seed has two models, or no time is left.
        """
        if run.folds:
            every = [*trials, *(t for f in finalists for t in f.trials)]

            def make(only: str | None) -> Finalist | None:
                return _out_of_fold(run, _reading(every, only), only)
        else:

            def make(only: str | None) -> Finalist | None:
                return _of_seeds(run, finalists, trials, only, deadline)

        names = [one.name for one in run.evaluator.dataset.schema.modalities]
        alone = [made for name in names if len(names) > 1 and (made := make(name)) is not None]
        best = max(alone, key=lambda f: f.scored[0].value, default=None)
        whole = make(None)
        if best is not None and whole is not None and best.trials == whole.trials:
            return [best]  # the members of the best of all read one modality
        return [one for one in (whole, best) if one is not None]


def _reading(trials: Sequence[Trial], only: str | None) -> list[Trial]:
    """Those that read one modality; all of them where none is named."""
    return [t for t in trials if only is None or t.proposal.genotype.modalities == (only,)]


def _finalist(proposal: Proposal, only: str | None) -> Finalist:
    roles = (Role.ENSEMBLE,) if only is None else (Role.ENSEMBLE, Role.SINGLE)
    return Finalist(proposal, roles, "ensemble" if only is None else f"ensemble of {only} alone")


def _of_seeds(
    run: Run,
    finalists: Sequence[Finalist],
    trials: Sequence[Trial],
    only: str | None,
    deadline: float | None,
) -> Finalist | None:
    """The ensemble of each seed's models, as one finalist."""
    known = {t.key: t for f in finalists for t in f.scored if t.weights}
    known |= {t.key: t for t in _fitted(run, trials)}
    scored = _reading(list(known.values()), only)
    seeds = sorted({t.proposal.fidelity.seed for t in scored})
    members = ([t for t in scored if t.proposal.fidelity.seed == seed] for seed in seeds)
    proposals = [p for several in members if (p := _proposal(run, several)) is not None]
    if not proposals:
        return None
    found = _finalist(proposals[0], only)
    found.trials += run.trial_runner.evaluate(proposals, Role.ENSEMBLE, deadline)
    return found if found.scored else None


def _out_of_fold(run: Run, trials: Sequence[Trial], only: str | None) -> Finalist | None:
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
    metric = steady(run.evaluator.metric, run.evaluator.dataset.schema.target.task)
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
    found = _finalist(proposal, only)
    found.trials.append(trial)
    return found


def _fitted(run: Run, trials: Sequence[Trial]) -> list[Trial]:
    """Trials of the search that are as good as a finalist's: fitted to all training rows."""
    rows = len(run.evaluator.dataset.split.train)
    whole = [t for t in trials if t.usable and t.weights and t.proposal.fidelity.rows >= rows]
    return [t for t in whole if run.evaluator.costs.fitting(t.proposal.genotype, rows) is not None]


def _proposal(run: Run, members: Sequence[Trial]) -> Proposal | None:
    """The ensemble of one seed's models; none of fewer than two."""
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
    seed = members[0].proposal.fidelity.seed
    return Proposal(genotype, Fidelity(rows, 1, seed), init=init, keep=True, stage="ensemble")


def _predictions(trial: Trial) -> np.ndarray:
    assert trial.predictions is not None
    return trial.predictions
