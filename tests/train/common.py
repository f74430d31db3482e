"""Genotypes and proposals that these tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

from polymix.genotype import Block
from polymix.nn.tokens import Features, Output
from polymix.records import Fidelity, Proposal, Recipe
from polymix.registry import register
from polymix.space.mix import Loss, MixGenotype
from polymix.testing.toy_model import ToyGenotype, ToyModel

MLP = Block.of("mlp", channels=8, layers=2)
DROPOUT = Block.of("mlp-mixer", channels=8, token_dim=4, channel_dim=8, dropout=0.2)
MIX = MixGenotype(
    encoders=(("series", DROPOUT), ("table", MLP)),
    fusion="concat",
    network=Block.of("mlp-mixer", token_dim=4, channel_dim=8),
    loss=Loss(kind="uniform"),
)


def toy(*features: int, kind: type[ToyGenotype] = ToyGenotype, **changes: Any) -> ToyGenotype:
    names = ("image", "series", "table")[: len(features)]
    return kind(encoders=tuple((name, MLP) for name in names), features=features, **changes)


def proposal(genotype: Any = MIX, epochs: int = 3, seed: int = 0, **changes: Any) -> Proposal:
    recipe = {key: changes.pop(key) for key in list(changes) if key in Recipe.__slots__}
    rows = changes.pop("rows", 10**6)
    return Proposal(genotype, Fidelity(rows, epochs, seed), Recipe(**recipe), **changes)


def run_all(evaluator: Any, *proposals: Proposal, **arguments: Any) -> list[Any]:
    """The trials and weights of a cohort, in its order."""
    found = {}
    for group in evaluator.groups(proposals):
        for done in evaluator.run(group, **arguments):
            found[done[0].key] = done
    return [found[evaluator.key(p)] for p in proposals]


def same(one: Any, other: Any) -> None:
    """Bit for bit the same trial, measured time aside, and the same weights."""
    (a, weights_a), (b, weights_b) = one, other
    assert (a.status, a.score, a.error) == (b.status, b.score, b.error)
    assert repr(a.curve) == repr(b.curve)
    assert (a.cost.params, a.cost.flops, a.cost.steps) == (
        b.cost.params,
        b.cost.flops,
        b.cost.steps,
    )
    np.testing.assert_array_equal(a.predictions, b.predictions)
    assert (weights_a is None) == (weights_b is None)
    if weights_a is not None:
        assert weights_a.keys() == weights_b.keys()
        for name, tensor in weights_a.items():
            assert torch.equal(tensor, weights_b[name]), name


@register
class FaultyGenotype(ToyGenotype):
    """A toy that goes wrong in one way or another, if `fault` says so."""

    kind: ClassVar[str] = "faulty-toy"

    fault: str = ""


@register
class FaultyModel(ToyModel):
    builds = FaultyGenotype

    def __init__(self, genotype: FaultyGenotype, schema: Any) -> None:
        super().__init__(genotype, schema)
        # A buffer, so that a faulty one stacks with the sound ones.
        self.register_buffer(
            "factor",
            torch.tensor(float("nan") if genotype.fault == "nan" else 1.0),
            persistent=False,
        )
        if genotype.fault == "build":
            raise ZeroDivisionError("it cannot be built")

    @classmethod
    def stack_key(cls, genotype: FaultyGenotype, schema: Any) -> Any:
        return "faulty"

    def fuse(self, features: Features, present: torch.Tensor | None) -> Output:
        output = super().fuse(features, present)
        return Output(output.fused * self.factor, {})


Maker = Callable[..., Any]
