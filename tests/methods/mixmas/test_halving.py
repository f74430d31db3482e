from __future__ import annotations

from typing import Any

import pytest

from polymix.methods.mixmas.mixmas import MixMAS
from polymix.records import Trial
from polymix.testing.toy_data import toy_dataset
from search.common import answer, task

NAMES = ["mlp", "mlp-mixer", "hyper-mixer", "gmlp", "s2-mlp"]
SCORES = dict(zip(NAMES, (0.95, 0.8, 0.6, 0.4, 0.2), strict=True))


@pytest.fixture(name="schema", scope="module")
def _schema() -> Any:
    return toy_dataset().schema


def told(strategy: MixMAS) -> list[list[Trial]]:
    """Answer everything, an encoder's probes by `SCORES`, the others by the order asked."""
    found = []
    while cohort := list(strategy.ask()):
        trials = []
        for i, proposal in enumerate(cohort):
            encoders = dict(proposal.genotype.encoders)
            alone = next(iter(encoders.values())).name if len(encoders) == 1 else ""
            right = SCORES[alone] if alone else 0.9 - 0.1 * i
            trials.append(answer(proposal, right, weights=f"weights of {proposal!r}"))
        strategy.tell(trials)
        found.append(trials)
    return found


def halved(schema: Any, **options: Any) -> MixMAS:
    strategy = MixMAS(halving=True, encoders=NAMES, epochs=10, **options)
    strategy.setup(task(schema))
    return strategy


def test_the_better_half_goes_on_from_where_it_stood(schema: Any) -> None:
    cohorts = told(halved(schema))
    first, second = cohorts[0], cohorts[1]
    assert {t.proposal.fidelity.epochs for t in first} == {2}
    assert {t.proposal.fidelity.epochs for t in second} == {3}
    for modality in schema.names:
        began = [t for t in first if modality in dict(t.proposal.genotype.encoders)]
        went = [t for t in second if modality in dict(t.proposal.genotype.encoders)]
        assert len(went) == -(-len(began) // 2)
        best = sorted(began, key=lambda t: -t.value)[: len(went)]
        assert {t.proposal.genotype for t in went} == {t.proposal.genotype for t in best}
        reached = {t.proposal.genotype: t.weights for t in began}
        assert all(t.proposal.init == (reached[t.proposal.genotype],) for t in went)


def test_the_winner_is_the_same_as_without(schema: Any) -> None:
    full = MixMAS(encoders=NAMES, epochs=10)
    full.setup(task(schema))
    told(full)
    strategy = halved(schema)
    told(strategy)
    assert strategy.chosen_encoders() == full.chosen_encoders()
    assert strategy.derive()[0].genotype == full.derive()[0].genotype


def test_it_costs_at_most_half(schema: Any) -> None:
    def epochs(cohorts: list[list[Trial]]) -> int:
        return sum(t.proposal.fidelity.epochs for trials in cohorts for t in trials)

    full = MixMAS(encoders=NAMES, epochs=10)
    full.setup(task(schema))
    assert epochs(told(halved(schema))) <= epochs(told(full)) / 2


def test_each_seed_goes_on_from_its_own_weights(schema: Any) -> None:
    cohorts = told(halved(schema, seeds=2))
    reached = {(t.proposal.genotype, t.proposal.fidelity.seed): t.weights for t in cohorts[0]}
    for trial in cohorts[1]:
        where = (trial.proposal.genotype, trial.proposal.fidelity.seed)
        assert trial.proposal.init == (reached[where],)


def test_the_next_stage_starts_from_scratch(schema: Any) -> None:
    cohorts = told(halved(schema))
    starts = [c for c in cohorts if c[0].proposal.fidelity.epochs == 2]
    assert len(starts) == 3
    assert all(t.proposal.init == () for c in starts for t in c)
