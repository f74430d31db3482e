"""Small files in the formats of the papers' datasets, with something to learn."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from polymix.datasets.mmimdb.builder import GENRES

WORDS = ["a", "detective", "falls", "in", "love", "with", "the", "wrong", "monster", "at", "war"]


def multibench(rows: int = 200) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ill = rng.integers(0, 2, rows)
    series = rng.normal(size=(rows, 24, 12)) + ill[:, None, None]
    static = rng.normal(size=(rows, 5)) - ill[:, None]
    series[3, 4, 5], series[5, 0, 0], static[0, 1], static[7, 0] = np.nan, np.inf, -np.inf, 1e300
    died = rng.integers(0, 7, rows)  # in hospital, within a day, two, three, 30, a year; or not
    labels = (died[:, None] <= np.arange(6)).astype(np.float64)
    icd9 = (rng.random((rows, 20)) < 0.3).astype(np.int64)
    icd9[:, 7] = ill
    return {
        "ep_tdata": series,
        "adm_features_all": static,
        "adm_labels_all": labels,
        "y_icd9": icd9,
        "y_los": rng.random(rows),
    }


def write_mimic(folder: Path, rows: int = 200) -> Path:
    folder.mkdir(parents=True)
    (folder / "im.pk").write_bytes(pickle.dumps(multibench(rows), 4))
    return folder


def write_hdf5(folder: Path, train: int = 60, dev: int = 20, test: int = 20) -> Path:
    """As `make_dataset.py` of its authors, with Fuel's table of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), train + dev + test
    genres = (rng.random((rows, 23)) < 0.3).astype(np.int32)
    hint = rng.normal(size=(23, 300)).astype(np.float32)
    kind = [("split", "S5"), ("source", "S12"), ("start", "<i8"), ("stop", "<i8")]
    kind += [("indices", h5py.ref_dtype), ("available", "?"), ("comment", "S1")]
    ends = {"train": (0, train), "dev": (train, train + dev), "test": (train + dev, rows)}
    table = np.zeros(6, kind)
    for line, (split, source) in enumerate((s, c) for s in ends for c in ("features", "genres")):
        table[line] = (split, source, *ends[split], h5py.Reference(), True, "")
    with h5py.File(folder / "multimodal_imdb.hdf5", "w") as file:
        file["features"] = (genres @ hint + rng.normal(size=(rows, 300))).astype(np.float32)
        file["features"][1] = np.nan
        file["vgg_features"] = rng.random((rows, 4096), np.float32)
        file["images"] = rng.integers(0, 256, (rows, 3, 32, 20)).astype(np.int32)
        file["imdb_ids"] = np.array([f"{k:07d}" for k in range(rows)], "S7")
        file["genres"] = genres
        file["genres"].attrs["target_names"] = json.dumps(GENRES)
        file.attrs["split"] = table
    return folder


def write_films(folder: Path, train: int = 30, dev: int = 10, test: int = 10) -> Path:
    (folder / "dataset").mkdir(parents=True, exist_ok=True)
    rng, count = np.random.default_rng(0), len(GENRES)
    names = [f"{1000 + k:07d}" for k in range(train + dev + test)]
    for k, name in enumerate(names):
        chosen = [GENRES[k % count], GENRES[(5 * k + 1) % count], "Talk-Show"]
        plot = " ".join(rng.choice(WORDS, 20)) + f" {chosen[0]} {chosen[1]}"
        facts = {"plot": ["Short.", plot], "genres": chosen, "year": 1999}
        (folder / "dataset" / f"{name}.json").write_text(json.dumps(facts))
        pixels = rng.integers(0, 256, (60, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "dataset" / f"{name}.jpeg", "JPEG")
    parts = {
        "train": names[:train],
        "dev": names[train : train + dev],
        "test": names[train + dev :],
    }
    (folder / "split.json").write_text(json.dumps(parts))
    return folder


def mosei(emotions: bool = True, rows: tuple[int, int, int] = (60, 20, 20)) -> dict[str, Any]:
    """As MultiBench's: steps padded in front, audio with what is not finite."""
    rng = np.random.default_rng(0)
    content = {}
    for name, count in zip(("train", "valid", "test"), rows, strict=True):
        sentiment = (rng.integers(-9, 10, count) / 3).astype(np.float32)
        part: dict[str, Any] = {}
        for modality, width in (("text", 7), ("audio", 5), ("vision", 4)):
            steps = rng.normal(size=(count, 6, width)) + sentiment[:, None, None]
            steps[::2, :2] = 0
            part[modality] = steps.astype(np.float32 if modality == "text" else np.float64)
        part["audio"][0, 3, 2], part["audio"][0, 4, 1] = -np.inf, np.nan
        part["vision"][1] = 0
        much = np.maximum(rng.normal(size=(count, 6)), 0).clip(0, 3)
        much[::5] = 0
        labels = np.concatenate([sentiment[:, None], much], 1) if emotions else sentiment[:, None]
        part["labels"] = labels[:, None].astype(np.float32)
        part["id"] = np.array([[f"{name}{i}", "0.0", "1.5"] for i in range(count)])
        content[name] = part
    return content


def write_mosei(folder: Path, emotions: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mosei_senti_data.pkl").write_bytes(pickle.dumps(mosei(emotions), 4))
    return folder


HEADINGS = [
    "Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID",
    "Season", "Episode", "StartTime", "EndTime",
]  # fmt: skip
MOODS = {
    "neutral": "neutral", "surprise": "positive", "fear": "negative", "sadness": "negative",
    "joy": "positive", "disgust": "negative", "anger": "negative",
}  # fmt: skip


def write_meld(folder: Path, features: bool = True) -> Path:
    """The three tables; dialogues are counted anew in each, and some utterances have no sound."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    glove: list[dict[str, Any]] = []
    audio: list[dict[str, Any]] = []
    for name, count in (("train", 70), ("dev", 28), ("test", 28)):
        glove.append({})
        audio.append({})
        rows: list[list[Any]] = [HEADINGS]
        for i in range(count):
            place, dialogue, utterance = i % len(MOODS), i // 5, i % 5
            mood = list(MOODS)[place]
            said = f"Oh, {' '.join(rng.choice(WORDS, 4))} \u0092{mood}\u0092!"
            rows.append([i + 1, said, "Ross", mood, MOODS[mood], dialogue, utterance, 8, 21, 0, 1])
            glove[-1][f"{dialogue}_{utterance}"] = rng.normal(size=6) + place
            if i % 9:
                audio[-1][f"{dialogue}_{utterance}"] = (rng.normal(size=4) - place).tolist()
        with (folder / f"{name}_sent_emo.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    kinds = {"text_glove_average": glove, "audio_embeddings_feature_selection": audio}
    for kind, content in kinds.items() if features else ():
        for task in ("emotion", "sentiment"):
            (folder / f"{kind}_{task}.pkl").write_bytes(pickle.dumps(content, 2))
    return folder
