from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from polymix.data.batch import RowSource
from polymix.data.schema import Task
from polymix.data.split import TEST, VAL
from polymix.datasets import open_dataset
from polymix.datasets.mosi.builder import Mosi, neighbours
from polymix.datasets.mosi.files import CALLED, FILES, WIDTHS
from polymix.errors import DataError, UsageError

VIDEOS = {"a_b": 12, "c": 3, "d": 1, "e": 4, "f": 5}  # e and f are test videos


def write_mosi(folder: Path) -> Path:
    """Small files in the format; feature 0 is the line in the transcripts."""
    folder.mkdir(parents=True)
    names = sorted(f"{v}_{i}" for v, count in VIDEOS.items() for i in range(1, count + 1))
    labels = np.random.default_rng(0).integers(0, 2, len(names))
    write(
        folder / "transcripts.csv",
        [[n, "WELL, YES", 9, y] for n, y in zip(names, labels, strict=True)],
    )
    for part in ("train", "test"):
        lines = [i for i, n in enumerate(names) if (n[0] in "ef") == (part == "test")]
        write(folder / f"index_{part}.csv", [[i] for i in lines])
        for name, called in CALLED.items():
            tail = [0.5] * (WIDTHS[name] - 1)
            write(folder / f"{called}_{part}.csv", [[i, *tail, labels[i]] for i in lines])
    return folder


def write(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_mosi(tmp_path / "raw")


@pytest.fixture(scope="session")
def real() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "mosi"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def test_a_row_s_tokens_are_its_neighbours_in_the_order_spoken(raw: Path) -> None:
    dataset = open_dataset("mosi", raw=raw)
    assert dataset.schema.target.task is Task.BINARY
    assert dataset.schema.names == ("text", "audio", "vision")
    names = [row[0] for row in read(raw / "transcripts.csv")]
    place = {name: i for i, name in enumerate(names)}
    for name, array in dataset.arrays.items():
        assert array.shape == (25, 5, 1 + WIDTHS[name])
        assert set(np.unique(array[..., 0])) == {0, 1}
        for tokens in array:
            video, _, number = names[int(tokens[2, 1])].rpartition("_")
            for step, token in zip(range(-2, 3), tokens, strict=True):
                there = 1 <= int(number) + step <= VIDEOS[video]
                assert token[0] == there
                if there:
                    assert token[1] == place[f"{video}_{int(number) + step}"]
                else:
                    assert not token.any()


def test_padding_is_zeros_and_no_part_of_the_statistics(raw: Path) -> None:
    dataset = open_dataset("mosi", raw=raw, options={"context": 1})
    assert {m.focus for m in dataset.schema.modalities} == {1}
    train = dataset.split.train
    tokens = np.asarray(dataset.arrays["text"][train])
    there = tokens[..., 0] == 1
    statistics = dataset.schema["text"].statistics
    assert statistics is not None
    assert statistics.mean[:2] == pytest.approx((0, tokens[there][:, 1].mean()))
    assert statistics.std[:2] == pytest.approx((1, tokens[there][:, 1].std()))
    batch = RowSource(dataset, torch.device("cpu")).batch(train)
    x = batch.inputs["text"]
    assert isinstance(x, torch.Tensor)
    assert torch.equal(x[..., 0], torch.from_numpy(there).float())
    assert not x[~torch.from_numpy(there)].any()


def test_no_video_is_on_two_sides(raw: Path) -> None:
    sides: dict[str, set[int]] = {}
    names = [row[0] for row in read(raw / "transcripts.csv")]
    for seed in range(5):
        dataset = open_dataset("mosi", raw=raw, seed=seed)
        codes = np.zeros(len(dataset), int)
        codes[dataset.split.val] = VAL
        codes[dataset.split.test.open()] = TEST
        sides = {}
        for line, code in zip(dataset.arrays["text"][:, 2, 1], codes, strict=True):
            sides.setdefault(names[int(line)].rpartition("_")[0], set()).add(int(code))
        assert all(len(found) == 1 for found in sides.values())
        assert {video for video, found in sides.items() if found == {TEST}} == {"e", "f"}
        assert len(dataset.split.train)
        assert len(dataset.split.val)


def test_no_context() -> None:
    video, number = np.array(["a", "b", "a"]), np.array([10, 1, 2])
    assert neighbours(video, number, 0).tolist() == [[0], [1], [2]]
    assert neighbours(video, number, 1).tolist() == [[2, 0, -1], [-1, 1, -1], [-1, 2, 0]]


def test_everything_wrong_is_told_at_once(raw: Path) -> None:
    rows = read(raw / "text_train.csv")
    rows[1] = rows[1][:-1]
    write(raw / "text_train.csv", rows)
    rows = read(raw / "audio_test.csv")
    rows[2][3] = "nan"
    write(raw / "audio_test.csv", rows)
    write(raw / "index_test.csv", [["99"]])
    with pytest.raises(DataError) as caught:
        open_dataset("mosi", raw=raw)
    told = str(caught.value)
    assert "text_train.csv, line 1: 101 columns were expected, but got 100" in told
    assert "audio_test.csv, line 2: 'nan' is not a finite number" in told
    assert "index_test.csv, line 0: a line below 25 was expected, but got ['99']" in told


def test_labels_that_disagree(raw: Path) -> None:
    rows = read(raw / "video_train.csv")
    rows[3][-1] = str(1 - int(rows[3][-1]))
    write(raw / "video_train.csv", rows)
    with pytest.raises(DataError, match=r"vision's label of row 3 is ., but line 3"):
        open_dataset("mosi", raw=raw)


def test_a_video_on_two_sides_is_refused(raw: Path) -> None:
    names = read(raw / "transcripts.csv")
    names[-1][0] = "a_b_99"
    write(raw / "transcripts.csv", names)
    with pytest.raises(DataError, match="videos with training and test rows: a_b"):
        open_dataset("mosi", raw=raw)


def test_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--raw DIR"):
        open_dataset("mosi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        open_dataset("mosi", raw=tmp_path / "empty")
    assert len(caught.value.problems) == len(FILES) == 9


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UsageError) as caught:
        Mosi(context=-1, val=1.0)
    assert len(caught.value.problems) == 2


def test_the_real_files(real: Path) -> None:
    dataset = open_dataset("mosi", raw=real)
    assert len(dataset) == 2199
    assert len(dataset.split.test) == 752
    assert 0.19 < len(dataset.split.val) / 1447 < 0.25
    assert (dataset.arrays["text"][:, 2, 0] == 1).all()
    padded = [int((array[..., 0] == 0).sum()) for array in dataset.arrays.values()]
    assert padded[0] == padded[1] == padded[2] == 93 * 6
