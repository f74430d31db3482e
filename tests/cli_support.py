"""What the tests of the front doors share: tiny data, tiny options, one finished run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymix import Predictor
from polymix.cli import run
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import stratified_codes
from polymix.search.callbacks import Callback

TINY = {"epochs": 1, "full_epochs": 1, "encoders": ["mlp"], "networks": ["none"]}
LEARNS = TINY | {"full_epochs": 12, "full_lr": 0.02, "batch_size": 16, "fusions": ["concat"]}
OPTIONS = ("--rows", "200", "-o", "epochs=1", "-o", "full_epochs=1", "-o", "encoders=[mlp]")
_runs: dict[str, Path] = {}


def shared_cache(factory: pytest.TempPathFactory) -> Path:
    """Where the demo is built once, for all of a session's processes."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "polymix-cache"


def finished_run(factory: pytest.TempPathFactory, into: Path) -> Path:
    """A copy of a finished run on the demo, made once a process by the command line."""
    if "demo" not in _runs:
        path = factory.mktemp("runs") / "demo"
        assert run(["search", "demo", *OPTIONS, "--run-dir", str(path)]) == 0
        _runs["demo"] = path
    shutil.copytree(_runs["demo"], into)
    return into


class StopAfter(Callback):
    """Presses Ctrl-C after so many trials."""

    def __init__(self, trials: int) -> None:
        self.left = trials

    def on_trial_end(self, trial: Any, role: Any, fresh: bool) -> None:
        self.left -= 1
        if self.left <= 0:
            raise KeyboardInterrupt


def unfinished_run(path: Path, trials: int) -> Path:
    """A run on the demo that was interrupted after so many trials."""
    with pytest.raises(KeyboardInterrupt):
        Predictor(path=path).fit("demo", rows=200, options=TINY, callbacks=[StopAfter(trials)])
    return path


def strict_json(text: str) -> Any:
    """JSON, without the numbers that are none."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


class Canary:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, Sequence[Any]]:
        return Path.touch, (self.path,)

    @property
    def pickled(self) -> bytes:
        return pickle.dumps(self)


TARGETS = {
    Task.BINARY: Target(name="label", task=Task.BINARY, classes=("no", "yes")),
    Task.MULTICLASS: Target(name="label", task=Task.MULTICLASS, classes=("a", "b", "c", "d")),
    Task.MULTILABEL: Target(name="label", task=Task.MULTILABEL, classes=("x", "y")),
    Task.REGRESSION: Target(name="label", task=Task.REGRESSION),
}


def synthetic(task: Task = Task.MULTICLASS, rows: int = 120, lacking: float = 0.0) -> Dataset:
    """A picture that shows one hidden number, a table that shows another; the label needs both.

    Args:
        task: of the target.
        rows: how many.
        lacking: share of the rows without a picture.
    """
    rng = np.random.default_rng(7)
    one, other = rng.normal(size=(2, rows))
    image = rng.normal(size=(rows, 1, 6, 6)).astype(np.float32)
    image[:, 0, :3, :3] += 3 * one[:, None, None]
    table = rng.normal(size=(rows, 4)).astype(np.float32)
    table[:, 2] = 3 * other
    targets: np.ndarray = {
        Task.BINARY: lambda: (one + other > 0).astype(np.int64),
        Task.MULTICLASS: lambda: 2 * (one > 0).astype(np.int64) + (other > 0),
        Task.MULTILABEL: lambda: np.stack([one > 0, other > 0], 1).astype(np.float32),
        Task.REGRESSION: lambda: (1000 + 100 * (one + other)).astype(np.float32),
    }[task]()
    schema = Schema(
        modalities=(
            Modality(name="picture", kind=Kind.IMAGE, shape=(1, 6, 6), dtype="float32"),
            Modality(name="table", kind=Kind.TABULAR, shape=(4,), dtype="float32"),
        ),
        target=TARGETS[task],
    )
    present = np.ones((rows, 2), bool)
    present[:, 0] = rng.random(rows) >= lacking
    codes = stratified_codes(targets, 0.25, 0.25, 0)
    arrays = {"picture": image, "table": table}
    return Dataset.from_arrays("toy", schema, arrays, targets, codes, present)


def rows_of(dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Raw arrays of some rows."""
    return {name: np.asarray(array[rows]) for name, array in dataset.arrays.items()}
