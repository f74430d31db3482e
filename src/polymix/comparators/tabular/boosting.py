"""The finalist that is no network: gradient boosting on descriptions of every modality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.portfolio import tree_views
from polymix.data.schema import Kind, Schema
from polymix.genotype import Block
from polymix.nn.descriptions import is_columns
from polymix.records import Fidelity, Proposal, Role
from polymix.search.finalists import Contest
from polymix.search.run import Run
from polymix.search.standings import ENOUGH_SEEDS, Finalist

KINDS = frozenset({Kind.TABULAR, Kind.TEXT, Kind.FEATURES})
"""It stands among the finalists where a modality is of these kinds, or a short series."""

ROUNDS, LEAST_ROUNDS = 200, 5
MAX_TREES = 5000
BOOSTING_SHARE = 0.15
"""Of the finalists' time, what gradient boosting may be expected to take."""


def boosting_genotype(schema: Schema, pretrained: bool = True) -> TabularGenotype | None:
    """Gradient boosting on all modalities; none where there is nothing that it is known for.

    Args:
        schema: of the data.
        pretrained: whether frozen encoders may describe a modality, beside what is fitted.
    """
    if not any(m.kind in KINDS or is_columns(m) for m in schema.modalities):
        return None
    rounds = max(LEAST_ROUNDS, min(ROUNDS, MAX_TREES // schema.target.outputs))
    learner = Block.of("gradient-boosting", rounds=rounds)
    return TabularGenotype(views=tree_views(schema, pretrained), learner=learner)


def rounds_of(genotype: TabularGenotype) -> int:
    """The rounds that are asked for, at most."""
    found = dict(genotype.learner.options).get("rounds", ROUNDS)
    assert isinstance(found, int)
    return found


def within(genotype: TabularGenotype, expected: float, allowed: float) -> int:
    """Rounds that fit some seconds, where all of them are expected to take `expected`."""
    rounds = rounds_of(genotype)
    if expected <= allowed or not math.isfinite(expected):
        return rounds
    return max(min(LEAST_ROUNDS, rounds), int(rounds * allowed / expected))


class GradientBoosting:
    """The finalist that is no network."""

    def propose(self, run: Run, contest: Contest) -> Sequence[Finalist]:
        """Gradient boosting, with as many rounds as fit, unless the search tried trees itself."""
        if any(isinstance(t.proposal.genotype, TabularGenotype) for t in contest.trials):
            return []
        genotype = boosting_genotype(run.evaluator.dataset.schema)
        if genotype is None:
            return []
        rows = len(run.evaluator.dataset.split.train)
        if run.clock.limit is not None:
            decided = run.ledger.decision("gradient boosting: rounds")
            allowed = BOOSTING_SHARE * (run.clock.remaining or 0.0) / ENOUGH_SEEDS
            plain = boosting_genotype(run.evaluator.dataset.schema, pretrained=False)
            assert plain is not None
            if plain != genotype:
                # The pass through a network is all or nothing: no fewer rounds make it quicker.
                read = run.ledger.decision("gradient boosting: pretrained")
                if read is None:
                    taken = run.evaluator.pass_seconds(genotype)
                    taken += run.evaluator.costs.fitting(genotype, rows) or 0.0
                    read = run.record_decision("gradient boosting: pretrained", taken <= allowed)
                genotype = genotype if read else plain
            if decided is None:
                expected = run.evaluator.costs.fitting(genotype, rows) or 0.0
                asked = within(genotype, expected, allowed)
                decided = run.record_decision("gradient boosting: rounds", asked)
            learner = Block.of("gradient-boosting", rounds=decided)
            genotype = genotype.model_copy(update={"learner": learner})
        proposal = Proposal(genotype, Fidelity(rows, 1, run.seed))
        return [Finalist(proposal, (Role.BOOSTING,), "gradient boosting")]
