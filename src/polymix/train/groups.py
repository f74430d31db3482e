"""Which proposals are one computation, and what each is called in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from polymix.data.dataset import Dataset
from polymix.nn.build import stack_key, versions
from polymix.records import Fidelity, Proposal, Recipe
from polymix.scoring.metrics import Metric
from polymix.train.absent_tokens import State
from polymix.train.costs import schema_for


class Memory(Protocol):
    """What the evaluator needs of a ledger."""

    def weights(self, digest: str) -> State:
        """Kept weights."""

    def keep_weights(self, tensors: Mapping[str, Tensor]) -> str:
        """Keep weights that no trial made; their digest."""

    def save_checkpoint(self, name: str, tensors: Mapping[str, Tensor], meta: Any) -> None:
        """Keep an unfinished trial."""

    def load_checkpoint(self, name: str) -> tuple[State, Any] | None:
        """An unfinished trial, if one was kept."""


@dataclass(frozen=True)
class Group:
    """Proposals that are trained in one computation."""

    proposals: tuple[Proposal, ...]
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """Names its checkpoint."""
        if len(self.keys) == 1:
            return self.keys[0]
        return hashlib.sha256("".join(self.keys).encode()).hexdigest()[:32]


class Grouping:
    """Names proposals, and cuts cohorts.

    Args:
        dataset: what they are evaluated on.
        metric: what they are scored by.
        memory: kept weights.
    """

    def __init__(self, dataset: Dataset, metric: Metric, memory: Memory) -> None:
        self.dataset, self.memory = dataset, memory
        self._encoders: dict[str, str] = {}
        self._data_key = json.dumps(
            {
                "data": dataset.fingerprint,
                "split": dataset.split.fingerprint,
                "schema": hashlib.sha256(dataset.schema.to_json().encode()).hexdigest()[:16],
                "metric": metric.name,
            },
            sort_keys=True,
        )

    def key(self, proposal: Proposal) -> str:
        """The ledger's key.

        Of data, split, statistics, metric; genotype, its blocks' versions; fidelity, recipe, init.
        """
        parts = {
            "genotype": proposal.genotype.to_json(),
            "versions": versions(proposal.genotype),
            "fidelity": _used(proposal.fidelity),
            "recipe": _used(proposal.recipe),
            "init": proposal.init,
            "keep": proposal.keep,
        }
        text = self._data_key + json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def groups(self, proposals: Sequence[Proposal]) -> list[Group]:
        """A cohort cut into computations: those of one shape together, the others alone."""
        together: dict[object, list[Proposal]] = {}
        for i, proposal in enumerate(proposals):
            shape = stack_key(proposal.genotype, schema_for(self.dataset.schema, proposal.recipe))
            recipe = proposal.recipe
            steady = recipe.schedule != "plateau" and not recipe.patience and recipe.frozen
            alone = shape is None or not steady
            # Folds see their rows in one order, whatever the seed: seeds are one computation, too.
            fidelity = proposal.fidelity
            fidelity = replace(fidelity, seed=0) if fidelity.folds else fidelity
            where = i if alone else (shape, fidelity, recipe, self._backbones(proposal))
            together.setdefault(where, []).append(proposal)
        return [Group(tuple(g), tuple(self.key(p) for p in g)) for g in together.values()]

    def _backbones(self, proposal: Proposal) -> str:
        """What the encoders' weights are: stacked models read the same banked features."""
        return "".join(self._encoders_of(digest) for digest in proposal.init)

    def _encoders_of(self, digest: str) -> str:
        """What stands for the encoders among kept weights; nothing where there are none."""
        if digest not in self._encoders:
            found, count = hashlib.sha256(), 0
            for name, tensor in sorted(self.memory.weights(digest).items()):
                if name.startswith("encoders."):
                    found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
                    count += 1
            self._encoders[digest] = found.hexdigest() if count else ""
        return self._encoders[digest]


LATER = frozenset({"thaw", "refit", "sealed", "balanced", "shift", "folds"})


def _used(part: Fidelity | Recipe) -> dict[str, Any]:
    """A part of a proposal as the key has it: what came later is left out where it is not used."""
    return {name: value for name, value in asdict(part).items() if name not in LATER or value}
