from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymix.data.schema import Task
from polymix.datasets import open_dataset
from polymix.datasets.mosei import CLASSES, FILE, Mosei
from polymix.errors import DataError, UsageError

from .papers import mosei, write_mosei


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_mosei(tmp_path / "raw")


def together(name: str) -> np.ndarray:
    return np.concatenate([part[name] for part in mosei().values()])


def test_sentiment(raw: Path) -> None:
    dataset = open_dataset("mosei", raw=raw)
    assert dataset.schema.target.task is Task.REGRESSION
    assert [m.shape for m in dataset.schema.modalities] == [(6, 8), (6, 6), (6, 5)]
    np.testing.assert_array_equal(dataset.targets, together("labels")[:, 0, 0])
    np.testing.assert_array_equal(dataset.arrays["text"][..., 1:], together("text"))
    audio, source = dataset.arrays["audio"][..., 1:], together("audio").astype(np.float32)
    assert audio[0, 3, 2] == audio[0, 4, 1] == 0
    finite = np.isfinite(source)
    np.testing.assert_array_equal(audio[finite], source[finite])


def test_steps_of_zeros_are_padding_and_rows_of_them_absent(raw: Path) -> None:
    dataset = open_dataset("mosei", raw=raw)
    for name in ("text", "audio"):
        there = dataset.arrays[name][..., 0]
        np.testing.assert_array_equal(there, (together(name) != 0).any(-1))
    assert not dataset.arrays["text"][0, :2, 0].any()
    absent = ~dataset.present[:, 2]
    assert np.flatnonzero(absent).tolist() == [1, 61, 81]
    assert dataset.present[:, :2].all()
    assert dataset.schema["vision"].optional
    assert not dataset.schema["text"].optional


def test_emotions(raw: Path) -> None:
    dataset = open_dataset("mosei", raw=raw, options={"task": "emotion"})
    assert dataset.schema.target.classes == CLASSES
    assert len(CLASSES) == 7
    expected = [
        "neutral" if not row.any() else CLASSES[1:][int(row.argmax())]
        for row in together("labels")[:, 0, 1:]
    ]
    assert [CLASSES[i] for i in dataset.targets] == expected
    assert {"neutral"} < set(expected)


def test_the_split_is_the_files(raw: Path) -> None:
    split = open_dataset("mosei", raw=raw).split
    assert split.train.tolist() == list(range(60))
    assert split.val.tolist() == list(range(60, 80))
    assert split.test.open().tolist() == list(range(80, 100))


def test_sentiment_alone_gives_no_emotions(tmp_path: Path) -> None:
    raw = write_mosei(tmp_path / "raw", emotions=False)
    assert len(open_dataset("mosei", raw=raw)) == 100
    with pytest.raises(DataError, match="labels hold sentiment alone; task 'emotion'"):
        open_dataset("mosei", raw=raw, options={"task": "emotion"})


Damage = Callable[[dict[str, Any]], Any]


def changed(split: str, name: str, value: Callable[[np.ndarray], Any]) -> Damage:
    def damage(content: dict[str, Any]) -> Any:
        return {**content, split: {**content[split], name: value(content[split][name])}}

    return damage


def raised(row: int, to: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(labels: np.ndarray) -> np.ndarray:
        labels = labels.copy()
        labels[row] = to
        return labels

    return change


FAULTS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no dict": (lambda c: list(c), ("holds a list, not a dict of splits",)),
    "a split is missing": (
        lambda c: {k: v for k, v in c.items() if k != "valid"},
        ("'valid': a dict of arrays was expected, but got it is missing",),
    ),
    "arrays are missing": (
        lambda c: {**c, "test": {"text": c["test"]["text"]}},
        ("'test': 'audio' is to be an array of numbers: it is missing", "'labels'"),
    ),
    "texts": (
        changed("train", "vision", lambda x: np.full(x.shape, "x")),
        ("'vision' is to be an array of numbers: an array of <U1",),
    ),
    "no steps": (changed("train", "text", lambda x: x[:, 0]), ("shape (N, T, D), but is (60, 7)",)),
    "other widths": (
        changed("test", "audio", lambda x: x[..., 1:]),
        ("audio is of shape (20, 6, 4), that of 'train' (60, 6, 5)",),
    ),
    "other rows": (changed("valid", "text", lambda x: x[1:]), ("as many rows", "'text': 19")),
    "labels of three": (
        changed("train", "labels", lambda x: x[..., :3]),
        ("(N, 1, 1) or (N, 1, 7), but is (60, 1, 3)",),
    ),
    "too glad": (
        changed("train", "labels", raised(7, 3.5)),
        ("the label of row 7 lies between -3 and 3, but is 3.5",),
    ),
    "not a number": (changed("train", "labels", raised(8, np.nan)), ("row 8", "is nan")),
    "objects": (
        changed("train", "text", lambda x: np.array([None] * len(x))),
        ("none of it was run",),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_clear_error(raw: Path, fault: str, cache: Path) -> None:
    damage, says = FAULTS[fault]
    (raw / FILE).write_bytes(pickle.dumps(damage(mosei())))
    with pytest.raises(DataError, match="mosei_senti_data") as caught:
        open_dataset("mosei", raw=raw)
    for words in says:
        assert words in str(caught.value)
    assert not (cache / "mosei").exists()


def test_a_hostile_file_runs_nothing(raw: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    (raw / FILE).write_bytes(pickle.dumps({**mosei(), "x": Hostile()}))
    with pytest.raises(DataError, match=r"system; none of it was run"):
        open_dataset("mosei", raw=raw)
    assert not (tmp_path / "canary").exists()


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'emotion'"):
        Mosei(task="emotions")
    with pytest.raises(UsageError, match="draws nothing"):
        open_dataset("mosei", raw=tmp_path, seed=1)
    with pytest.raises(DataError, match=r"mosei_senti_data\.pkl is missing: put the file there"):
        open_dataset("mosei", raw=tmp_path)
    with pytest.raises(UsageError, match="--raw DIR"):
        open_dataset("mosei")
