"""Predictions of trained models on any rows."""

from __future__ import annotations

import json
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

from polymix.data.batch import RowSource, new_rows
from polymix.data.dataset import Dataset
from polymix.data.schema import Schema, Target
from polymix.errors import DataError, RunFolderError, did_you_mean
from polymix.genotype import parse_genotype
from polymix.nn.build import build
from polymix.nn.model import Model
from polymix.runs.session import check_weights
from polymix.store.run_folder import RunFolder
from polymix.train.learner import SingleLearner
from polymix.train.objective import Objective
from polymix.train.validate import validate

CHUNK = 512


def load_model(folder: RunFolder) -> tuple[Model, Schema]:
    """A run's model and the schema that it was built on.

    Raises:
        RunFolderError: there is none yet, or its files disagree.
    """
    if not folder.has_model or folder.metrics is None:
        raise RunFolderError(
            f"{folder.path} holds no model yet: `polymix resume {folder.path}` goes on with it"
        )
    genotype = parse_genotype(folder.genotype_json, str(folder.path / "genotype.json"))
    schema = _served_schema(folder)
    # The shapes that the genotype asks for are compared with the header of the weights before
    # memory is taken for either.
    try:
        with torch.random.fork_rng(devices=[]), bounded(folder), torch.device("meta"):
            asked = build(genotype, schema).state_dict()
    except (RuntimeError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0][:200]
        raise RunFolderError(
            f"{folder.path}: genotype.json cannot be built ({reason}): restore it, or run again"
        ) from None
    shapes = {name: tuple(t.shape) for name, t in asked.items()}
    weights = folder.weights(shapes)
    with torch.random.fork_rng(devices=[]):
        model = build(genotype, schema)
    check_weights(model, weights, Path(folder.path) / "model.safetensors")
    return model.eval(), schema


def served_target(folder: RunFolder) -> Target:
    """What a run's model predicts, and how what it says is decided."""
    return _served_schema(folder).target


def _served_schema(folder: RunFolder) -> Schema:
    """The schema that the model was built on, which `metrics.json` has."""
    assert folder.metrics is not None
    where = f"{folder.path / 'metrics.json'}: schema"
    try:
        return Schema.from_json(json.dumps(folder.metrics.get("schema")), where)
    except DataError as error:
        raise RunFolderError(error.problems) from None


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


def predict_dataset(
    model: Model, dataset: Dataset, rows: np.ndarray, device: torch.device
) -> np.ndarray:
    """Predictions `(N, K)` on a dataset's rows: probabilities, or values."""
    # Rows to predict may have no label, and a loss of what is no label is an error.
    dataset = replace(dataset, targets=np.zeros_like(dataset.targets))
    source = RowSource(dataset, device, list(model.encoders))
    learner = SingleLearner(model.to(device), frozen=False)
    predictions, _, _ = validate(learner, source, rows, Objective(dataset.schema))
    found: np.ndarray = predictions[0]
    return found


@torch.no_grad()
def predict_arrays(
    model: Model,
    schema: Schema,
    arrays: Mapping[str, np.ndarray | None],
    present: Mapping[str, np.ndarray] | None,
    device: torch.device,
) -> np.ndarray:
    """Predictions `(N, K)` on raw rows; a modality that is left out is absent.

    Raises:
        DataError: unknown modalities, or arrays that do not fit the schema; all at once.
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    problems = [
        f"no modality '{name}': {did_you_mean(name, schema.names)}"
        for name in [*given, *(present or {})]
        if name not in schema.names
    ]
    sizes = {len(a) for a in given.values()} | {len(m) for m in (present or {}).values()}
    if len(sizes) != 1:
        problems.append(f"every modality must have as many rows, but got {sorted(sizes)}")
    for modality in schema.modalities:
        array = given.get(modality.name)
        if array is not None and (
            array.shape[1:] != modality.shape or array.dtype != np.dtype(modality.dtype)
        ):
            problems.append(
                f"modality '{modality.name}': rows of {modality.shape} {modality.dtype} expected, "
                f"but got {array.shape[1:]} {array.dtype}"
            )
    if problems:
        raise DataError(problems)
    count = sizes.pop()
    mask = np.zeros((count, len(schema.names)), bool)
    filled: dict[str, np.ndarray] = {}
    for column, modality in enumerate(schema.modalities):
        array = given.get(modality.name)
        if array is None:
            array = np.zeros((count, *modality.shape), modality.dtype)
        else:
            mask[:, column] = True if present is None else present.get(modality.name, True)
        filled[modality.name] = array
    objective, parts = Objective(schema), []
    model = model.to(device).eval()
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        batch = new_rows(schema, {n: a[part] for n, a in filled.items()}, mask[part], device)
        parts.append(objective.predict(model(batch.inputs, batch.present).fused).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, schema.target.outputs), np.float32)
