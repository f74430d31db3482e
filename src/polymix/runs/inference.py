"""Predictions of trained models on any rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

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
from polymix.train.loop import validate
from polymix.train.objective import Objective

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
    schema = Schema.model_validate(folder.metrics["schema"])
    with torch.random.fork_rng(devices=[]):
        model = build(genotype, schema)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    check_weights(model, folder.weights(shapes), Path(folder.path) / "model.safetensors")
    return model.eval(), schema


def served_target(folder: RunFolder) -> Target:
    """What a run's model predicts, and how what it says is decided."""
    assert folder.metrics is not None
    return Schema.model_validate(folder.metrics["schema"]).target


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
