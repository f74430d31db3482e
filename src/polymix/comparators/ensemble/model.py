"""The weighted mean of several models' predictions, as a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from polymix.comparators.ensemble.genotype import EnsembleGenotype
from polymix.data.batch import Source
from polymix.data.schema import Schema, Task
from polymix.genotype import Block
from polymix.nn import build
from polymix.nn.by_modality import ByModality
from polymix.nn.descriptions import Description
from polymix.nn.model import Model, load_matching
from polymix.nn.tokens import Features, Output, Tokens
from polymix.nn.views import Views
from polymix.registry import register

VERSION = 1
MIN_PROBABILITY = 1e-12


@register
class EnsembleModel(Model):
    """The model of an `EnsembleGenotype`.

    It is `fitted`: its members were trained before, so that there is nothing left to do.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: a member cannot be built on this schema.
    """

    fitted = True

    builds = EnsembleGenotype

    def __init__(self, genotype: EnsembleGenotype, schema: Schema) -> None:
        super().__init__()
        self.task = schema.target.task
        self.weights = [member.weight for member in genotype.members]
        self.members = nn.ModuleList(build.build(m.genotype, schema) for m in genotype.members)
        names = dict.fromkeys(name for model in self._models for name in model.encoders)
        # Views that several members read are computed once, here; other members encode themselves.
        self._reads: list[dict[str, list[int]]] = []
        parts: dict[str, dict[Block, Description]] = {name: {} for name in names}
        for model in self._models:
            self._reads.append(_take_views(model, parts))
        self.encoders = ByModality(
            {
                name: Views(list(known.values()), list(known)) if known else nn.Identity()
                for name, known in parts.items()
            }
        )
        self.wants = dict.fromkeys(names, (0,))
        self.absent = ByModality()
        self.uncounted = sum(model.uncounted for model in self._models)

    @classmethod
    def versions(cls, genotype: EnsembleGenotype) -> dict[str, int]:
        """Of all members."""
        found = {"ensemble": VERSION}
        for member in genotype.members:
            found |= build.versions(member.genotype)
        return found

    @classmethod
    def fit_seconds(cls, genotype: EnsembleGenotype, schema: Schema, rows: int) -> float:  # noqa: ARG003
        """None: its members are trained already."""
        return 0.0

    @property
    def _models(self) -> list[Model]:
        return [model for model in self.members if isinstance(model, Model)]

    def encode(self, inputs: Mapping[str, Tensor]) -> Features:
        """Each member's features, named `number/modality`."""
        # What a bank has of views passes as it is.
        seen = {
            name: views.features(x) if isinstance(x := inputs[name], Tensor) else list(x)
            for name, views in self.encoders.items()
            if isinstance(views, Views)
        }
        found: dict[str, list[Tokens]] = {}
        for i, (model, reads) in enumerate(zip(self._models, self._reads, strict=True)):
            if reads:
                own = {name: [seen[name][k] for k in places] for name, places in reads.items()}
                found |= {f"{i}/{name}": tokens for name, tokens in own.items()}
                continue
            raw = {name: inputs[name] for name in model.encoders}
            found |= {f"{i}/{name}": list(tokens) for name, tokens in model.encode(raw).items()}
        return found

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Each member's features to the logits of the mean prediction."""
        total: Tensor | None = None
        for i, (model, weight) in enumerate(zip(self._models, self.weights, strict=True)):
            prefix = f"{i}/"
            own = {n.removeprefix(prefix): t for n, t in features.items() if n.startswith(prefix)}
            part = weight * self._predicted(model.fuse(own, present).fused)
            total = part if total is None else total + part
        assert total is not None
        return Output(self._logits(total).to(torch.get_default_dtype()), {})

    def _predicted(self, logits: Tensor) -> Tensor:
        logits = logits.double()
        if self.task is Task.REGRESSION:
            return logits
        return torch.sigmoid(logits) if self.task is Task.MULTILABEL else logits.softmax(1)

    def _logits(self, mean: Tensor) -> Tensor:
        if self.task is Task.REGRESSION:
            return mean
        p = mean.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return p.log() - (1 - p).log() if self.task is Task.MULTILABEL else p.log()

    def take(self, position: int, tensors: Mapping[str, Tensor]) -> None:
        """Kept weights are a member's, in the order of members; views are fitted apart."""
        load_matching(self._models[position], tensors)

    def fit(self, source: Source, train: object, val: object, seed: int, deadline: object) -> bool:  # noqa: ARG002
        """Nothing is left to fit."""
        return True


def _take_views(model: Model, known: dict[str, dict[Block, Description]]) -> dict[str, list[int]]:
    """Move a member's views to those that all members share.

    Args:
        model: the member; it encodes nothing afterwards, if all that it reads are views.
        known: the views so far, by modality and block.

    Returns:
        Which of them the member reads, by modality; nothing for one that encodes by itself.
    """
    views = dict(model.encoders.items())
    if not all(isinstance(one, Views) for one in views.values()):
        return {}
    reads = {}
    for name, one in views.items():
        assert isinstance(one, Views)
        for block, part in zip(one.blocks, one, strict=True):
            known[name].setdefault(block, part)
        order = list(known[name])
        reads[name] = [order.index(block) for block in one.blocks]
    model.encoders = ByModality()
    return reads
