"""Gradient boosting as a model: descriptions of each modality, then trees (Friedman 2001).

scikit-learn fits the trees; what is kept and run are tensors (see `nn.trees`). A modality that a
row lacks is missing values to the trees, which learn at each split where those go.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from polymix import seeds
from polymix.comparators.tabular.genotype import BoostingGenotype
from polymix.comparators.tabular.trees import Trees
from polymix.data.batch import Source
from polymix.data.schema import Schema, Task
from polymix.errors import GenotypeError, did_you_mean
from polymix.nn import build
from polymix.nn.by_modality import ByModality
from polymix.nn.descriptions import (
    Description,
    Frozen,
    Together,
    description_version,
    make_description,
)
from polymix.nn.model import Model, blank
from polymix.nn.tokens import Features, Output

VERSION = 1
FITTED = 4096
"""Rows that descriptions are fitted to, at most."""

CHUNK = 256
PATIENCE = 20
SURE = 12.0
"""The logit of what no training row was, or all were."""

CELL, COLUMN = 1.3e-8, 6e-5
"""Seconds a tree takes for a cell of the table, and for a column whatever its rows."""

FLOP = 5e-11
"""Seconds that a frozen encoder takes for a FLOP."""


class BoostedModel(Model):
    """The model of a `BoostingGenotype`.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema.
    """

    fitted = True

    def __init__(self, genotype: BoostingGenotype, schema: Schema) -> None:
        super().__init__()
        self.genotype, self.target = genotype, schema.target
        parts: dict[str, list[Description]] = {name: [] for name in genotype.modalities}
        problems = []
        for name, block in genotype.descriptions:
            if name not in schema.names:
                problems.append(f"no modality '{name}': {did_you_mean(name, schema.names)}")
                continue
            try:
                parts[name].append(make_description(block, schema[name]))
            except GenotypeError as error:
                problems += [f"{name}: {problem}" for problem in error.problems]
        if problems:
            raise GenotypeError(problems)
        self.places = {name: schema.index(name) for name in parts}
        self.encoders = ByModality({name: Together(several) for name, several in parts.items()})
        self.wants = dict.fromkeys(parts, (0,))
        self.absent = ByModality()
        # A binary target is one sum, the second class's logit; the first one's is zero.
        self.sums = 1 if self.target.task is Task.BINARY else self.target.outputs
        self.trees = Trees(self.sums, genotype.rounds, genotype.leaves, genotype.depth)
        self.uncounted = self.sums * genotype.rounds * (genotype.depth + 1)
        self.width = sum(self._description(name).channels for name in parts)

    def _description(self, name: str) -> Description:
        found = self.encoders[name]
        assert isinstance(found, Description)
        return found

    def table(self, features: Features, present: Tensor | None) -> Tensor:
        """Descriptions side by side, `(B, D)`, NaN where a row lacks the modality."""
        columns = []
        for name, place in self.places.items():
            x = features[name][0].x[:, 0]
            if present is not None:
                x = torch.where(present[:, place : place + 1], x, torch.nan)
            columns.append(x)
        return torch.cat(columns, 1)

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        sums = self.trees(self.table(features, present)).to(torch.get_default_dtype())
        if self.target.task is Task.BINARY:
            sums = torch.cat([torch.zeros_like(sums), sums], 1)
        return Output(sums, {})

    # Fitting.

    @torch.no_grad()
    def fit(
        self,
        source: Source,
        train: np.ndarray,
        val: np.ndarray,
        seed: int,
        deadline: float | None,
    ) -> bool:
        """Descriptions to some training rows, then trees to all, until validation loss stays.

        Returns:
            Whether there was time for as many rounds as were asked for.
        """
        state = seeds.derive(seed, "gradient boosting") % 2**31
        self._describe(source, train, seed, state)
        x, y = self._gathered(source, train)
        x_val, y_val = self._gathered(source, val)
        rounds = self._affordable(x, y, state, deadline)
        if self.target.task is Task.MULTILABEL:
            for k in range(self.sums):
                self._fit_classes([k], x, y[:, k], x_val, y_val[:, k], rounds, state)
        elif self.target.task is Task.REGRESSION:
            fitted = self.target.statistics
            mean, std = (fitted.mean[0], fitted.std[0]) if fitted else (0.0, 1.0)
            model = HistGradientBoostingRegressor(**self._options(rounds, state))
            model.fit(x, (y - mean) / std, X_val=x_val, y_val=(y_val - mean) / std)
            self._take(model, [0])
        else:
            outputs = list(range(self.sums))
            self._fit_classes(outputs, x, y, x_val, y_val, rounds, state)
        return rounds == self.genotype.rounds

    def _describe(self, source: Source, train: np.ndarray, seed: int, state: int) -> None:
        rng = seeds.stream(seed, "descriptions")
        rows = np.sort(rng.permutation(train)[:FITTED])
        parts = [source.batch(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
        for name, place in self.places.items():
            inputs: list[Any] = [batch.inputs[name] for batch in parts]
            x = torch.cat(inputs)
            if parts[0].present is not None:
                there = torch.cat([b.present[:, place] for b in parts if b.present is not None])
                x = x[there]
            if len(x):
                self._description(name).fit(x, state)

    def _gathered(self, source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tables, targets = [], []
        for begin in range(0, len(rows), CHUNK):
            batch = source.batch(rows[begin : begin + CHUNK])
            inputs: Any = batch.inputs
            tables.append(self.table(self.encode(inputs), batch.present).cpu().numpy())
            assert batch.target is not None
            targets.append(batch.target.cpu().numpy())
        return np.concatenate(tables), np.concatenate(targets)

    def _options(self, rounds: int, state: int) -> dict[str, Any]:
        asked = self.genotype
        return {
            "max_iter": rounds, "learning_rate": asked.lr, "max_leaf_nodes": asked.leaves,
            "max_depth": asked.depth, "min_samples_leaf": asked.least, "max_features": asked.share,
            "early_stopping": True, "n_iter_no_change": PATIENCE, "random_state": state,
        }  # fmt: skip

    def _affordable(self, x: np.ndarray, y: np.ndarray, state: int, deadline: float | None) -> int:
        """As many rounds as there is time for, by a few that are timed; at least one."""
        if deadline is None:
            return self.genotype.rounds
        tried = min(3, self.genotype.rounds)
        options = self._options(tried, state) | {"early_stopping": False}
        begun = time.monotonic()
        numbers = y if y.ndim == 1 else y[:, 0]
        HistGradientBoostingRegressor(**options).fit(x, numbers.astype(np.float64))
        each = (time.monotonic() - begun) / tried * self.sums
        room = 0.8 * (deadline - time.monotonic())
        return max(1, min(self.genotype.rounds, int(room / max(each, 1e-9))))

    def _fit_classes(
        self,
        outputs: list[int],
        x: np.ndarray,
        y: np.ndarray,
        x_val: np.ndarray,
        y_val: np.ndarray,
        rounds: int,
        state: int,
    ) -> None:
        y, y_val = y.astype(np.int64), y_val.astype(np.int64)
        classes = np.unique(y)
        if len(classes) < 2:  # nothing to learn: it is always that one
            only = int(classes[0])
            for k in outputs:
                sign = 1.0 if (only == 1 if len(outputs) == 1 else only == k) else -1.0
                self.trees.load(k, sign * SURE, [])
            return
        known = np.isin(y_val, classes)
        model = HistGradientBoostingClassifier(**self._options(rounds, state))
        held: dict[str, Any] = {"X_val": x_val[known], "y_val": y_val[known]}
        if not known.any():
            held = {"X_val": x, "y_val": y}
        weights = self._weights(outputs, y)
        if weights is not None and known.any():
            held["sample_weight_val"] = self._weights(outputs, y_val[known])
        elif weights is not None:
            held["sample_weight_val"] = weights
        with warnings.catch_warnings():
            # A class that validation rows lack is no reason to stop.
            warnings.simplefilter("ignore", UserWarning)
            model.fit(x, y, weights, **held)
        if len(outputs) == 1:
            self._take(model, outputs)
            return
        for k in outputs:
            self.trees.load(k, -SURE, [])
        # Two classes of several are one sum: the second one's logit against the first one's zero.
        if len(classes) == 2:
            self.trees.load(int(classes[0]), 0.0, [])
        self._take(model, [int(c) for c in (classes[1:] if len(classes) == 2 else classes)])

    def _weights(self, outputs: list[int], y: np.ndarray) -> np.ndarray | None:
        """What rows count, by the target's class weights."""
        if not self.target.weights:
            return None
        weights = np.array(self.target.weights)
        if self.target.task is Task.MULTILABEL:
            return np.where(y > 0, weights[outputs[0]], 1.0)
        return np.asarray(weights[y])

    def _take(self, model: Any, outputs: list[int]) -> None:
        """A fitted model's trees, as far as they lowered the validation loss."""
        best = int(np.argmax(model.validation_score_))
        baseline = np.ravel(model._baseline_prediction)
        for i, k in enumerate(outputs):
            trees = [every[i].nodes for every in model._predictors[:best]]
            self.trees.load(k, float(baseline[i]), trees)


@build.build.register
def _build(genotype: BoostingGenotype, schema: Schema) -> Model:
    return BoostedModel(genotype, schema)


@build.versions.register
def _versions(genotype: BoostingGenotype) -> dict[str, int]:
    blocks = {block.name: description_version(block) for _, block in genotype.descriptions}
    return {"gradient-boosting": VERSION, **blocks}


@build.fit_seconds.register
def _fit_seconds(genotype: BoostingGenotype, schema: Schema, rows: int) -> float:
    model = BoostedModel(genotype.model_copy(update={"rounds": 1}), schema)
    each = model.width * (COLUMN + rows * CELL) * (0.3 + 0.7 * genotype.share)
    return genotype.rounds * model.sums * each + rows * FLOP * _frozen_flops(model, schema)


@torch.no_grad()
def _frozen_flops(model: BoostedModel, schema: Schema) -> int:
    """Of a row's descriptions; nothing where no encoder is among them."""
    if not any(isinstance(module, Frozen) for module in model.modules()):
        return 0
    with FlopCounterMode(display=False) as counter:
        model.encode({name: blank(schema, name) for name in model.encoders})
    return int(counter.get_total_flops())
