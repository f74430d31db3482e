"""Predictions of trained models on any rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Schema, Target
from polymix.errors import DataError, RunFolderError
from polymix.genotype import parse_genotype
from polymix.nn.build import build
from polymix.nn.encoders.pretrained_files import self_contained
from polymix.nn.model import Model, load_matching
from polymix.store.run_folder import RunFolder
from polymix.train.objective import Objective

CHUNK, LARGEST_CHUNK = 512, 2**27
"""Rows, and numbers of one modality, that are predicted at once."""

_UNBUILT = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What is raised where an option that a genotype names is no size of anything."""


def load_model(folder: RunFolder) -> tuple[Model, Schema]:
    """A run's model and the schema that it was built on.

    Raises:
        RunFolderError: there is none yet, or its files disagree.
    """
    schema = _served_schema(folder)
    genotype = parse_genotype(folder.genotype_json, str(folder.path / "genotype.json"))
    # The shapes that the genotype asks for are compared with the header of the weights before
    # memory is taken for either.
    try:
        with (
            self_contained(), torch.random.fork_rng(devices=[]), bounded(folder),
            torch.device("meta"),
        ):  # fmt: skip
            asked = build(genotype, schema).state_dict()
    except _UNBUILT as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RunFolderError(
            f"{folder.path}: genotype.json cannot be built ({reason}): restore it, or run again"
        ) from None
    shapes = {name: tuple(t.shape) for name, t in asked.items()}
    weights = folder.weights(shapes)
    with self_contained(), torch.random.fork_rng(devices=[]):
        model = build(genotype, schema)
    check_weights(model, weights, Path(folder.path) / "model.safetensors")
    return model.eval(), schema


def served_target(folder: RunFolder) -> Target:
    """What a run's model predicts, and how what it says is decided.

    Raises:
        RunFolderError: there is no model yet.
    """
    return _served_schema(folder).target


def _served_schema(folder: RunFolder) -> Schema:
    """The schema that the model was built on, which `metrics.json` has."""
    if folder.metrics is None:
        raise RunFolderError(
            f"{folder.path} holds no model yet: `polymix resume {folder.path}` goes on with it"
        )
    where = f"{folder.path / 'metrics.json'}: schema"
    try:
        return Schema.from_json(json.dumps(folder.metrics.get("schema")), where)
    except DataError as error:
        raise RunFolderError(error.problems) from None


def check_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load weights that must fit whole.

    Raises:
        RunFolderError: a tensor is missing, too many, of another shape, or holds what is no number.
    """
    own = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    theirs = {name: tuple(t.shape) for name, t in weights.items()}
    if own != theirs:
        wrong = sorted(
            name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name)
        )
        raise RunFolderError(
            f"{path}: the weights are not this genotype's: "
            + ", ".join(f"{n} {theirs.get(n)} for {own.get(n)}" for n in wrong[:3])
        )
    spoilt = sorted(name for name, tensor in weights.items() if tensor.isnan().any())
    if spoilt:
        raise RunFolderError(
            f"{path}: not all weights are numbers ({', '.join(spoilt[:3])}): restore it, or run "
            "again"
        )
    load_matching(model, weights)


@contextmanager
def bounded(folder: RunFolder) -> Iterator[None]:
    """Let a model be built that has about as many tensors as the folder's weights.

    Raises:
        RunFolderError: a model is being built that would have many more.
    """
    kept = folder.tensor_count
    left = 100 + 4 * kept  # what is not kept, or registered anew, counts too

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RunFolderError(
                f"{folder.path}: genotype.json asks for far more tensors than the {kept} that "
                "model.safetensors has: restore them, or run again"
            )

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Served:
    """A run's model, ready to predict.

    Attributes:
        model: in evaluation mode.
        schema: what it was built on.
        device: where it runs.
    """

    model: Model
    schema: Schema
    device: torch.device

    @classmethod
    def of(cls, folder: RunFolder, device: torch.device) -> Self:
        """A run folder's model.

        Raises:
            RunFolderError: there is none yet, or its files disagree.
        """
        model, schema = load_model(folder)
        return cls(model, schema, device)

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that the model reads, in the schema's order."""
        return tuple(name for name in self.schema.names if name in self.model.encoders)

    def predict(self, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
        """Predictions `(N, K)` on rows of a dataset of this schema (see `on_schema`)."""
        return predict_dataset(self.model, dataset, rows, self.device)


def on_schema(dataset: Dataset, schema: Schema) -> Dataset:
    """A dataset's rows, normalised as the model's training rows were.

    Raises:
        DataError: its modalities or its target are not the model's; all problems at once.
    """
    theirs = {m.name: (m.kind, m.shape, m.dtype) for m in dataset.schema.modalities}
    problems = [
        f"modality '{m.name}': {m.kind} of {m.shape} {m.dtype} expected, "
        f"but '{dataset.name}' has {theirs.get(m.name, 'none')}"
        for m in schema.modalities
        if theirs.get(m.name) != (m.kind, m.shape, m.dtype)
    ]
    ours, given = schema.target, dataset.schema.target
    if (ours.task, ours.classes) != (given.task, given.classes):
        problems.append(
            f"target: {ours.task} of {ours.classes} expected, "
            f"but '{dataset.name}' has {given.task} of {given.classes}"
        )
    if problems:
        raise DataError(problems)
    order = [dataset.schema.index(name) for name in schema.names]
    return replace(dataset, schema=schema, present=dataset.present[:, order])


@torch.no_grad()
def predict_dataset(
    model: Model, dataset: Dataset, rows: np.ndarray, device: torch.device
) -> np.ndarray:
    """Predictions `(N, K)` on rows of a dataset, indices `(N,)`: probabilities, or values."""
    # No label is looked at: rows to predict may have none.
    dataset = replace(dataset, targets=np.zeros(len(dataset), np.int64))
    source = RowSource(dataset, device, list(model.encoders))
    objective, parts = Objective(dataset.schema), []
    model = model.to(device).eval()
    # Of large rows fewer at once: a model's own memory grows with what it is given.
    largest = max((math.prod(m.shape) for m in dataset.schema.modalities), default=1)
    chunk = max(1, min(CHUNK, LARGEST_CHUNK // largest))
    for start in range(0, len(rows), chunk):
        batch = source.batch(rows[start : start + chunk])
        parts.append(objective.predict(model(batch.inputs, batch.present).fused).cpu().numpy())
    none = np.zeros((0, dataset.schema.target.outputs), np.float32)
    return np.concatenate(parts) if parts else none
