"""The portfolio where rows are many, and what its members are expected to take."""

from __future__ import annotations

import torch

from polymix.comparators.tabular.linear import Linear
from polymix.comparators.tabular.portfolio import MANY, portfolio
from polymix.comparators.tabular.vectors import TokenWeights
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Kind, Modality, Schema, Target, Task

TARGET = Target(name="y", task=Task.REGRESSION)
SCHEMA = Schema(
    modalities=(
        Modality(name="words", kind=Kind.TEXT, shape=(6,), dtype="int32", vocabulary=50),
        Modality(name="tabular", kind=Kind.TABULAR, shape=(4,), dtype="float32"),
    ),
    target=TARGET,
)


def test_boosting_on_a_linear_model_comes_before_forests_where_rows_are_many():
    many, few = portfolio(SCHEMA, MANY), portfolio(SCHEMA, MANY - 1)
    learners = [one.learner.name for one in many]
    assert learners[:2] == ["linear", "gradient-boosting"]
    assert many[1].base == (many[0],)
    assert learners.index("extra-trees") > max(
        place for place, name in enumerate(learners) if name == "gradient-boosting"
    )
    assert "kernel" not in learners
    assert few[0] == many[0]
    assert few != many
    assert len(set(many)) == len(many)


def test_a_category_beside_words_costs_no_more_the_more_levels_it_has():
    words = Layout("ids", 10, vocabulary=100)

    def seconds(levels, *more):
        table = Layout("columns", levels, categories=((0, levels),))
        return Linear.seconds(10_000, [table, *more], TARGET, {})

    assert seconds(1000, words) == seconds(10, words)
    assert seconds(1000) > 5 * seconds(10)


def test_tokens_are_counted_and_weighed_as_a_vector_of_the_vocabulary_would_be():
    ids = torch.randint(0, 9, (500, 7), generator=torch.Generator().manual_seed(0))
    ids[3] = 0
    weights = TokenWeights(9, 9)
    weights.fit(ids)
    rows = torch.stack([(ids == token).any(1) for token in range(9)], 1).sum(0).double()
    slots, found = weights(ids)
    idf = torch.log(501 / (1 + rows)) + 1
    counts = torch.stack([(ids == token).sum(1) for token in range(9)], 1).double()
    counts[:, 0] = 0
    vectors = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0.0) * idf
    vectors /= vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    made = torch.zeros(500, 9, dtype=torch.float64).scatter_add(1, slots, found)
    order = weights.slot[1:].long()
    torch.testing.assert_close(made[:, order], vectors[:, 1:])
