from __future__ import annotations

import csv
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymix.data.schema import Kind
from polymix.datasets import open_dataset
from polymix.datasets.meld.builder import CLASSES, Meld
from polymix.datasets.meld.files import TABLES, read_tables
from polymix.errors import DataError, UsageError

from .papers import HEADINGS, MOODS, write_meld

SMALL = {"length": 12, "vocabulary": 150}
AUDIO = "audio_embeddings_feature_selection_emotion.pkl"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_meld(tmp_path / "raw")


def test_utterances_and_features(raw: Path) -> None:
    dataset = open_dataset("meld", raw=raw, options=SMALL)
    assert dataset.schema.names == ("text", "glove", "audio")
    assert [m.kind for m in dataset.schema.modalities] == [Kind.TEXT, Kind.FEATURES, Kind.FEATURES]
    assert [m.shape for m in dataset.schema.modalities] == [(12,), (6,), (4,)]
    assert dataset.schema.target.classes == CLASSES["emotion"]
    assert len(CLASSES["emotion"]) == 7
    moods = [CLASSES["emotion"][i] for i in dataset.targets]
    assert moods[:8] == [*MOODS, "neutral"]
    # Dialogues are counted anew in each split: 0_0 is another utterance in each.
    parts = pickle.loads((raw / "text_glove_average_emotion.pkl").read_bytes())
    for begin, part in zip((0, 70, 98), parts, strict=True):
        np.testing.assert_array_equal(dataset.arrays["glove"][begin], part["0_0"].astype("f4"))
        np.testing.assert_array_equal(dataset.arrays["glove"][begin + 6], part["1_1"].astype("f4"))
    silent = np.flatnonzero(~dataset.present[:, 2])
    assert silent.tolist() == [*range(0, 70, 9), *range(70, 98, 9), *range(98, 126, 9)]
    assert dataset.present[:, :2].all()


def test_the_split_is_the_files(raw: Path) -> None:
    split = open_dataset("meld", raw=raw, options=SMALL).split
    assert [len(split.train), len(split.val), len(split.test)] == [70, 28, 28]
    assert split.val[0] == 70
    assert split.test.open()[0] == 98


def test_sentiment(raw: Path) -> None:
    dataset = open_dataset("meld", raw=raw, options={**SMALL, "task": "sentiment"})
    assert [dataset.schema.target.classes[i] for i in dataset.targets[:7]] == list(MOODS.values())


def test_text_alone_where_there_are_no_features(tmp_path: Path) -> None:
    raw = write_meld(tmp_path / "raw", features=False)
    dataset = open_dataset("meld", raw=raw, options=SMALL)
    assert dataset.schema.names == ("text",)
    assert (dataset.arrays["text"] > 0).any(1).all()


def test_features_that_are_named_are_all_that_is_read(raw: Path) -> None:
    (raw / "faces.pkl").write_bytes((raw / AUDIO).read_bytes())
    options = {**SMALL, "features": {"vision": "faces.pkl"}}
    dataset = open_dataset("meld", raw=raw, options=options)
    assert dataset.schema.names == ("text", "vision")
    with pytest.raises(DataError, match=r"none\.pkl cannot be read"):
        open_dataset("meld", raw=raw, options={**SMALL, "features": {"vision": "none.pkl"}})


def damaged(raw: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    content = pickle.loads((raw / AUDIO).read_bytes())
    (raw / AUDIO).write_bytes(pickle.dumps(change(content)))


def with_vector(value: Any) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda parts: [{**parts[0], "0_1": value}, *parts[1:]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda parts: parts[:2], "three dicts were expected"),
        (lambda parts: {"train": parts}, "three dicts were expected"),
        (lambda _: [{}, {}, {}], "has no utterance of the tables, such as '0_0'"),
        (with_vector([1.0, 2.0]), "utterance 0_2 has 4 numbers, where others have 2"),
        (with_vector("loud"), "utterance 0_1 has no vector of numbers"),
        (with_vector([[1.0], [1.0, 2.0]]), "utterance 0_1 has no vector of numbers"),
        (with_vector([1.0, 2.0, 3.0, float("nan")]), "0_1 has a number that is not finite"),
        (with_vector(np.array(["a"], object)), "none of it was run"),
    ],
)
def test_features_that_are_none(raw: Path, change: Any, told: str) -> None:
    damaged(raw, change)
    with pytest.raises(DataError, match="audio_embeddings") as caught:
        open_dataset("meld", raw=raw, options=SMALL)
    assert told in str(caught.value)


def test_a_hostile_file_runs_nothing(raw: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    damaged(raw, lambda parts: [*parts[:2], {"0_0": Hostile()}])
    with pytest.raises(DataError, match=r"system; none of it was run"):
        open_dataset("meld", raw=raw, options=SMALL)
    assert not (tmp_path / "canary").exists()


def test_everything_wrong_with_the_tables_is_told(raw: Path) -> None:
    path = raw / "dev_sent_emo.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    place = {name: HEADINGS.index(name) for name in HEADINGS}
    rows[2][place["Emotion"]] = "angre"
    rows[3][place["Dialogue_ID"]] = "x"
    rows[5][place["Utterance_ID"]] = "0"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (raw / "test_sent_emo.csv").write_text("Utterance,Emotion\nWell,joy\n")
    with pytest.raises(DataError) as caught:
        open_dataset("meld", raw=raw, options=SMALL)
    told = [p.partition(".csv")[2].partition(" Known")[0] for p in caught.value.problems]
    assert told == [
        ", utterance 2: Emotion 'angre' is no class: did you mean 'anger'?",
        ", utterance 3: the ids are numbers, but got 'x', '2'",
        ", utterance 5: dialogue 0 has two utterances 0",
        " has no column Dialogue_ID, Utterance_ID",
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), headed=st.booleans())
def test_any_bytes_are_a_table_or_a_clear_error(raw: Path, content: bytes, headed: bool) -> None:
    head = ",".join(HEADINGS).encode() + b"\n" if headed else b""
    (raw / "train_sent_emo.csv").write_bytes(head + content)
    try:
        spoken = read_tables(raw, "emotion", CLASSES["emotion"])
    except DataError as error:
        told = str(error)
    else:
        told = "train_sent_emo.csv" if {s.code for s in spoken} == set(TABLES.values()) else ""
    assert "train_sent_emo.csv" in told


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Meld(task="emotions", length=0, vocabulary=1, features={"text": "a.pkl", "a": "../b.pkl"})
    assert len(caught.value.problems) == 5
    with pytest.raises(UsageError, match="draws nothing"):
        open_dataset("meld", raw=tmp_path, seed=1)
    with pytest.raises(DataError) as missing:
        open_dataset("meld", raw=tmp_path)
    assert len(missing.value.problems) == 3
    with pytest.raises(UsageError, match="--raw DIR"):
        open_dataset("meld")
