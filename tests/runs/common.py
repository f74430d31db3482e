"""Models that nobody trained, on rows of every kind: quick to make, and right as any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.genotype import Genotype
from polymix.nn.build import build_seeded
from polymix.runs.config import RunConfig, SourceConfig
from polymix.runs.inference import Served
from polymix.runs.session import describe_run
from polymix.store.run_folder import RunFolder

CPU = torch.device("cpu")

MODALITIES = {
    "photo": Modality(name="photo", kind=Kind.IMAGE, shape=(1, 8, 8), dtype="uint8"),
    "sound": Modality(name="sound", kind=Kind.AUDIO, shape=(1, 8, 16), dtype="float32"),
    "series": Modality(name="series", kind=Kind.TIMESERIES, shape=(4, 3), dtype="float64"),
    "words": Modality(name="words", kind=Kind.TEXT, shape=(5,), dtype="int32", vocabulary=9),
    "columns": Modality(name="columns", kind=Kind.TABULAR, shape=(3,), dtype="float32"),
    "vectors": Modality(name="vectors", kind=Kind.FEATURES, shape=(6, 3), dtype="float32",
                        padded=True),
}  # fmt: skip


def dataset(*names: str, rows: int = 24, task: Task = Task.MULTICLASS, seed: int = 0) -> Dataset:
    """Random rows; a fifth of the cells is absent, and holds what must not be looked at."""
    rng = seeds.stream(seed, "rows", *names)
    modalities = tuple(MODALITIES[name] for name in names or MODALITIES)
    present = rng.random((rows, len(modalities))) > 0.2
    present[0], present[1] = True, False
    arrays = {}
    for column, modality in enumerate(modalities):
        shape, dtype = (rows, *modality.shape), np.dtype(modality.dtype)
        if modality.vocabulary is not None:
            cells = rng.integers(0, modality.vocabulary, shape)
        elif dtype.kind == "u":
            cells = rng.integers(0, 256, shape)
        else:
            cells = 5 + 3 * rng.standard_normal(shape)
            if modality.padded:
                cells[..., 0] = np.arange(modality.shape[0]) < rng.integers(1, 6, (rows, 1))
            cells[~present[:, column]] = np.nan
        arrays[modality.name] = cells.astype(dtype)
    classes = () if task is Task.REGRESSION else ("a", "b", "c")
    targets = {
        Task.MULTICLASS: lambda: np.arange(rows) % 3,
        Task.MULTILABEL: lambda: rng.integers(0, 2, (rows, 3)).astype(np.float32),
        Task.REGRESSION: lambda: (100 + rng.standard_normal(rows)).astype(np.float32),
    }[task]()
    schema = Schema(modalities=modalities, target=Target(name="y", task=task, classes=classes))
    codes = (np.arange(rows) // 3 % 3).astype(np.uint8)
    return Dataset.from_arrays("random", schema, arrays, targets, codes, present)


def served(genotype: Genotype, data: Dataset) -> Served:
    """The genotype's model, random, absent-tokens included."""
    model = build_seeded(genotype, data.schema, 0).eval()
    with torch.no_grad(), seeds.torch_stream("cpu", 0, "random"):
        for name, tensor in model.state_dict().items():
            if "absent" in name or name.startswith(("head", "classify")):
                tensor.copy_(torch.randn(tensor.shape))
    return Served(model, data.schema, CPU)


def run_folder(path: Path, genotype: Genotype, data: Dataset) -> Served:
    """A finished run folder with that model, as if it had been searched for."""
    given = served(genotype, data)
    metric = {Task.REGRESSION: "r2", Task.MULTILABEL: "f1_macro"}.get(
        data.schema.target.task, "accuracy"
    )
    config = RunConfig(
        source=SourceConfig(name=data.name, reopen=False),
        strategy="mixmas",
        options={},
        metric=metric,
    )
    metrics = {"schema": data.schema.model_dump(mode="json"), "finalists": [], "metric": metric}
    metrics |= {"chosen": None, "seeds": 0, "ranked": False, "fusion_gain": None, "notes": []}
    described = describe_run(config, data)
    with RunFolder.create(path, config.model_dump(mode="json"), data.schema, described) as folder:
        folder.finish_model(genotype.to_json(), given.model.state_dict(), metrics)
        folder.update_description(status="finished")
    return given


def without(data: Dataset, *names: str) -> Dataset:
    """The same rows without some modalities."""
    shown = np.array([name not in names for name in data.schema.names])
    return replace(data, present=data.present & shown)
