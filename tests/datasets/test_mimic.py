from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymix.data.schema import Task
from polymix.datasets import open_dataset
from polymix.datasets.mimic import MORTALITY, Mimic, split_codes
from polymix.errors import DataError, UsageError

from .papers import multibench, write_mimic


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_mimic(tmp_path / "raw")


def test_mortality(raw: Path) -> None:
    dataset = open_dataset("mimic", raw=raw)
    source = multibench()
    assert dataset.schema.target.task is Task.MULTICLASS
    assert dataset.schema.target.classes == MORTALITY
    expected = []
    for row in source["adm_labels_all"]:  # MultiBench's own loop
        positive = [k for k in range(1, 6) if row[k] > 0]
        expected.append(positive[0] if positive else 0)
    assert dataset.targets.tolist() == expected
    assert set(expected) == set(range(6))
    series, static = dataset.arrays["series"], dataset.arrays["static"]
    assert series.shape == (200, 24, 12)
    assert static.shape == (200, 5)
    assert series[3, 4, 5] == series[5, 0, 0] == static[0, 1] == static[7, 0] == 0
    clean = np.isfinite(source["ep_tdata"])
    np.testing.assert_array_equal(series[clean], source["ep_tdata"][clean].astype(np.float32))
    assert dataset.path is not None
    assert json.loads((dataset.path / "dataset.json").read_text())["settings"]["not_finite"] == 4


@pytest.mark.parametrize(("task", "column"), [("icd9-1", 1), ("icd9-7", 7)])
def test_diagnoses(raw: Path, task: str, column: int) -> None:
    dataset = open_dataset("mimic", raw=raw, options={"task": task})
    assert dataset.schema.target.task is Task.BINARY
    assert dataset.targets.tolist() == multibench()["y_icd9"][:, column].tolist()


def test_the_split_is_multibenchs(raw: Path) -> None:
    dataset = open_dataset("mimic", raw=raw)
    random.seed(10)
    order = list(range(200))
    random.shuffle(order)
    assert dataset.split.val.tolist() == sorted(order[:20])
    assert dataset.split.test.open().tolist() == sorted(order[20:40])
    assert dataset.split.train.tolist() == sorted(order[40:])
    assert np.bincount(split_codes(36_212)).tolist() == [28_970, 3_621, 3_621]


def test_statistics_are_the_training_rows(raw: Path) -> None:
    dataset = open_dataset("mimic", raw=raw)
    statistics = dataset.schema["static"].statistics
    assert statistics is not None
    train = dataset.arrays["static"][dataset.split.train].astype(np.float64)
    np.testing.assert_allclose(statistics.mean, train.mean(0), rtol=1e-9)
    np.testing.assert_allclose(statistics.std, train.std(0), rtol=1e-6)


Damage = Callable[[dict[str, Any]], Any]
FAULTS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no dict": (lambda d: list(d), ("holds a list",)),
    "nothing": (lambda d: {}, ("no array 'ep_tdata'", "no array 'y_icd9'", "it has nothing")),
    "a missing array": (
        lambda d: {k: v for k, v in d.items() if k != "y_icd9"},
        ("no array 'y_icd9': it has 'ep_tdata'",),
    ),
    "another shape": (
        lambda d: {**d, "ep_tdata": d["ep_tdata"][:, :, :5]},
        ("'ep_tdata' is of shape (200, 24, 5), not (N, 24, 12)",),
    ),
    "other rows": (lambda d: {**d, "y_icd9": d["y_icd9"][:9]}, ("'y_icd9' has 9 rows",)),
    "texts": (lambda d: {**d, "y_icd9": np.full((200, 20), "x")}, ("holds <U1, not numbers",)),
    "few rows": (lambda d: {k: v[:5] for k, v in d.items()}, ("5 rows, too few",)),
    "objects": (lambda d: {**d, "y_icd9": d["y_icd9"].astype(object)}, ("'O8'",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_clear_error(raw: Path, fault: str, cache: Path) -> None:
    damage, says = FAULTS[fault]
    (raw / "im.pk").write_bytes(pickle.dumps(damage(multibench())))
    with pytest.raises(DataError, match=r"im\.pk") as caught:
        open_dataset("mimic", raw=raw)
    for words in says:
        assert words in str(caught.value)
    assert not (cache / "mimic").exists()


def test_a_hostile_file_runs_nothing(raw: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    (raw / "im.pk").write_bytes(pickle.dumps({**multibench(), "x": Hostile()}))
    with pytest.raises(DataError, match=r"system; none of it was run"):
        open_dataset("mimic", raw=raw)
    assert not (tmp_path / "canary").exists()


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'icd9-7'"):
        Mimic(task="icd9-8")
    with pytest.raises(UsageError, match="draws nothing"):
        open_dataset("mimic", raw=tmp_path, seed=1)
    with pytest.raises(DataError, match=r"im\.pk is missing.*PhysioNet"):
        open_dataset("mimic", raw=tmp_path)
    with pytest.raises(UsageError, match="--raw DIR"):
        open_dataset("mimic")
