"""A table and one command, against what a person would write with scikit-learn on the same rows.

    python benchmarks/known_tables.py --only breast_cancer wine diabetes digits --time-limit 60s
    python benchmarks/known_tables.py --only mosi --mosi RAW_FOLDER --time-limit 90s
    python benchmarks/known_tables.py --only avmnist --avmnist RAW_FOLDER --time-limit 10m

Each table is written as a CSV, with files beside it where it has images and sounds, and a column
that names the split; `polymix search TABLE --target y --split-column split` gets no other help.
Against it: gradient boosting (scikit-learn's, on TF-IDF of texts, pixels of images and a log
spectrogram of sounds, and all other columns), stopped and its settings chosen by the validation
rows. Test scores are compared row by row; the interval is that of the rows. What is in `--work` is
not done again: a search that was stopped goes on, a table that was compared is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from PIL import Image
from scipy.signal import spectrogram
from sklearn import datasets as sets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer

from common import report
from polymix import Predictor
from polymix.cli import run
from polymix.datasets.avmnist.builder import VARIANCE, AvMnist, waves
from polymix.datasets.avmnist.pca import LeadingComponents
from polymix.datasets.avmnist.plan import make_plan
from polymix.datasets.avmnist.raw import locate
from polymix.datasets.avmnist.sources import read_sources
from polymix.datasets.builder import silent
from polymix.datasets.digits.spectrogram import RATE
from polymix.datasets.mosi.files import TRANSCRIPTS, read_utterances
from polymix.scoring.intervals import Referee
from polymix.scoring.metrics import METRICS, Metric
from polymix.store.files import write_atomic
from polymix.tables.split import group_codes, random_codes

SKLEARN = {
    "breast_cancer": sets.load_breast_cancer,
    "wine": sets.load_wine,
    "digits": sets.load_digits,
    "diabetes": sets.load_diabetes,
}
NAMES = np.array(["train", "val", "test"])
GRID = [(0.1, 100), (0.05, 300), (0.1, 30)]
"""Learning rate and iterations that a person would try, at most."""

PATIENCE = 20
"""Iterations without a lower loss on the validation rows after which it stops: more of them fit the
training rows alone, and with 1,296 columns and ten classes each takes a second."""


@dataclass(frozen=True)
class Said:
    """What a model says of the test rows."""

    key: str
    predictions: np.ndarray


def write_sklearn(name: str) -> pd.DataFrame:
    """One of scikit-learn's own tables; classes by name."""
    found = SKLEARN[name](as_frame=True)
    y = found.target
    codes = random_codes(y.to_numpy(), 0)
    if hasattr(found, "target_names"):
        y = y.map(lambda code: f"class {found.target_names[code]}")
    frame: pd.DataFrame = found.data.assign(y=y, split=NAMES[codes])
    return frame


def write_mosi(raw: Path) -> pd.DataFrame:
    """CMU-MOSI: transcripts and the published features; validation videos are drawn."""
    found = read_utterances(raw)
    said = pd.read_csv(raw / TRANSCRIPTS, header=None, names=["id", "text", "count", "label"])
    where = pd.concat([pd.read_csv(raw / f"index_{p}.csv", header=None)[0]
                       for p in ("train", "test")])  # fmt: skip
    columns = {"transcript": said["text"].iloc[where].to_numpy()}
    for modality, values in found.features.items():
        columns |= {f"{modality}_{i}": values[:, i] for i in range(values.shape[1])}
    codes = np.full(len(found.label), 2)
    train = np.flatnonzero(~found.test)
    names = [str(video) for video in found.video[train]]
    # Test videos are given; of the others, those that would be test are trained on.
    drawn = group_codes(found.label[train], names, 0)
    codes[train] = np.where(drawn == 1, 1, 0)
    label = np.where(found.label == 1, "positive", "negative")
    return pd.DataFrame({**columns, "y": label, "split": NAMES[codes]})


def write_avmnist(raw: Path, folder: Path, rows: int = 2000) -> pd.DataFrame:
    """AV-MNIST as files: its poor images as PNG, its sounds in noise as WAV."""
    part = int(0.15 * rows)
    sources = read_sources(locate(raw), silent)
    plan = make_plan(sources, (rows - 2 * part, part, part), 0)
    images = plan.images(sources)
    images = LeadingComponents.fit(images[: rows - 2 * part], VARIANCE).reconstruct(images)
    sounds = waves(plan, sources, range(len(plan)), AvMnist.snr_db)
    names: dict[str, list[str]] = {"image": [], "sound": []}
    for row, (image, sound) in enumerate(zip(images, sounds, strict=True)):
        names["image"].append(f"{row}.png")
        names["sound"].append(f"{row}.wav")
        Image.fromarray(image).save(folder / names["image"][-1])
        soundfile.write(folder / names["sound"][-1], sound, RATE, subtype="FLOAT")
    digits = [f"digit {label}" for label in plan.label]
    return pd.DataFrame({**names, "y": digits, "split": NAMES[plan.codes]})


def features(frame: pd.DataFrame, folder: Path, train: np.ndarray) -> np.ndarray:
    """What a person would make of the columns: `(N, D)`; nothing is fitted on other rows."""
    parts = []
    for column in frame.columns.drop(["y", "split"]):
        cells = frame[column]
        if pd.api.types.is_numeric_dtype(cells):
            parts.append(cells.to_numpy(float)[:, None])
        elif column == "image":
            parts.append(np.stack([np.asarray(Image.open(folder / c)).ravel() for c in cells]))
        elif column == "sound":
            parts.append(np.stack([heard(*soundfile.read(folder / c)) for c in cells]))
        else:
            tfidf = TfidfVectorizer(ngram_range=(1, 2), min_df=3, max_features=1000)
            tfidf.fit(cells[train])
            parts.append(tfidf.transform(cells).toarray())
    return np.concatenate(parts, axis=1)


def heard(wave: np.ndarray, rate: int) -> np.ndarray:
    """A log spectrogram of 32 bands and 16 steps."""
    power = spectrogram(wave, rate, nperseg=256, noverlap=128)[2][1:129]
    pooled = [block.mean(1) for block in np.array_split(power, 16, axis=1)]
    bands = np.stack(pooled, 1).reshape(32, 4, 16).mean(1)
    return np.asarray(np.log10(bands + 1e-9)).ravel()


def by_hand(frame: pd.DataFrame, folder: Path, metric: Metric) -> dict[str, Any]:
    """Gradient boosting, its settings chosen on the validation rows; test predictions."""
    began = time.perf_counter()
    sides = {name: np.flatnonzero(frame["split"] == name) for name in NAMES}
    regression = pd.api.types.is_numeric_dtype(frame["y"])
    y = frame["y"].to_numpy(float) if regression else np.unique(frame["y"], return_inverse=True)[1]
    x = features(frame, folder, sides["train"])
    make = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    best: tuple[float, Any, Any] | None = None
    for rate, rounds in GRID:
        model = make(
            learning_rate=rate, max_iter=rounds, random_state=0,
            early_stopping=True, n_iter_no_change=PATIENCE,
        )  # fmt: skip
        val = x[sides["val"]], y[sides["val"]]
        model.fit(x[sides["train"]], y[sides["train"]], X_val=val[0], y_val=val[1])
        score = metric(y[sides["val"]], said_by(model, x[sides["val"]]))
        if best is None or score > best[0]:
            best = score, model, {"learning_rate": rate, "max_iter": rounds}
    assert best is not None
    return {
        "settings": best[2],
        "columns": x.shape[1],
        "score_val": best[0],
        "predictions": said_by(best[1], x[sides["test"]]).tolist(),
        "seconds": time.perf_counter() - began,
    }


def said_by(model: Any, x: np.ndarray) -> np.ndarray:
    """Probabilities `(N, K)`, or values `(N, 1)`."""
    found = model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)[:, None]
    return np.asarray(found, float)


def compare(name: str, frame: pd.DataFrame, folder: Path, limit: str) -> dict[str, Any]:
    """One table: search it by the command, and compare on its test rows."""
    table, runs = folder / f"{name}.csv", folder / "run"
    if not table.exists():
        frame.to_csv(table, index=False)
    command = ["search", str(table), "--target", "y", "--split-column", "split",
               "--time-limit", limit, "--run-dir", str(runs)]  # fmt: skip
    began = time.perf_counter()
    if run(["resume", str(runs)] if runs.exists() else command) != 0:
        raise SystemExit(f"{name}: the search failed")
    seconds = time.perf_counter() - began
    predictor = Predictor.load(runs)
    board = predictor.leaderboard_json()
    regression = pd.api.types.is_numeric_dtype(frame["y"])
    metric = METRICS["r2" if regression else "accuracy"]
    test = np.flatnonzero(frame["split"] == "test")
    ours = Said("ours", predictor.predict_proba(table)[test])
    boosted = by_hand(frame, folder, metric)
    theirs = Said("theirs", np.array(boosted.pop("predictions")))
    y = frame["y"].to_numpy(float) if regression else np.unique(frame["y"], return_inverse=True)[1]
    referee = Referee(metric, y[test])
    paired = referee.combined([(1.0, ours), (-1.0, theirs)])
    report = json.loads((runs / "data_report.json").read_text())
    schema = json.loads((runs / "schema.json").read_text())
    chosen = next(r for r in board["rows"] if r.get("rank") == board["chosen"]["rank"])
    finalists = predictor.evaluate()["finalists"]
    return {
        "rows": report["split"],
        "modalities": {m["name"]: f"{m['kind']} {m['shape']}" for m in schema["modalities"]},
        "time_limit": limit,
        "search_seconds": seconds,
        "metric": metric.name,
        "chosen": {"what": chosen["label"], "architecture": chosen["architecture"]},
        "finalists": {f["label"]: f["test"] for f in finalists},
        "why": list(board["notes"]),
        "polymix": referee.value(ours),
        "boosting": referee.value(theirs),
        "boosting_by_hand": boosted,
        "polymix_minus_boosting": {"value": paired.value, "ci": [paired.low, paired.high]},
        "verdict": "better" if paired.low > 0 else "worse" if paired.high < 0 else "no worse",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*SKLEARN, "mosi", "avmnist"]
    parser.add_argument("--only", nargs="+", choices=every, default=list(SKLEARN))
    parser.add_argument("--mosi", type=Path, help="folder of CMU-MOSI's raw files")
    parser.add_argument("--avmnist", type=Path, help="folder of AV-MNIST's raw files")
    parser.add_argument("--rows", type=int, default=2000, help="of AV-MNIST's table")
    parser.add_argument("--time-limit", default="60s")
    parser.add_argument("--work", type=Path, default=Path("runs/tables"))
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    raw = {"mosi": arguments.mosi, "avmnist": arguments.avmnist}
    missing = [f"--{n} FOLDER" for n in arguments.only if n in raw and raw[n] is None]
    if missing:
        parser.error(f"name the raw files: {', '.join(missing)}")
    found = {}
    for name in arguments.only:
        folder = arguments.work / name
        folder.mkdir(parents=True, exist_ok=True)
        kept, table = folder / "compared.json", folder / f"{name}.csv"
        if not kept.exists():
            if table.exists():
                frame = pd.read_csv(table)
            elif name == "mosi":
                frame = write_mosi(arguments.mosi)
            elif name == "avmnist":
                frame = write_avmnist(arguments.avmnist, folder, arguments.rows)
            else:
                frame = write_sklearn(name)
            result = compare(name, frame, folder, arguments.time_limit)
            write_atomic(kept, json.dumps(result, indent=2).encode())
        found[name] = json.loads(kept.read_text())
    for name, one in found.items():
        low, high = one["polymix_minus_boosting"]["ci"]
        print(
            f"{name:<14} {one['metric']:<9} polymix {one['polymix']:.4f} ({one['chosen']['what']}) "
            f"boosting {one['boosting']:.4f} difference "
            f"{one['polymix_minus_boosting']['value']:+.4f} [{low:+.4f}, {high:+.4f}] "
            f"{one['verdict']}"
        )
    report(found, arguments.out)


if __name__ == "__main__":
    main()
