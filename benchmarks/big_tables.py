"""polymix on two large tables, within a time limit: seconds, memory, and score.

    python benchmarks/big_tables.py --folder TABLES --time-limit 5m
    python benchmarks/big_tables.py --folder TABLES --time-limit 60s --only mixed --rows 20000

    mixed   20,000 rows of 50 columns: 25 numbers, 15 categories, 10 short texts; two classes
    texts   100,000 rows of a title, a review and six numbers; a number

Both are made by a seed, and their targets are known functions of the columns with noise: `ceiling`
is what one who knew that function would score. A tenth as many rows are the test table. polymix
runs as a person runs it, by the command line in a process of its own and with an empty cache;
`reading` is what it takes before its clock starts and after it stops, `used` what its clock counts,
`overrun` `used` over the limit. `peak` is the largest resident set of any of its processes, mapped
files included (RUSAGE_CHILDREN), `held` what they hold together without those (see `memory.py`).

`ridge` (logistic regression for classes) on TF-IDF of words, one-hot levels and scaled numbers, and
`boosting` (histogram gradient boosting) on numbers, ordinal levels and 32 directions of the texts
are scikit-learn as one would write it, without a search, on the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from memory import peak as watched  # isort: skip
from common import report  # isort: skip

from polymix.units import parse_duration

WORDS = 4000
LEVELS = 40
SEED = 0


@dataclass(frozen=True)
class Table:
    """Training and test rows.

    Attributes:
        name: of the table.
        train: rows to fit.
        test: rows to score.
        texts: columns of words.
        levels: columns of categories.
        metric: scikit-learn's name: roc_auc or r2.
        ceiling: the score of the function that made the target.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    texts: tuple[str, ...]
    levels: tuple[str, ...]
    metric: str
    ceiling: float

    def score(self, said: np.ndarray) -> float:
        """The score of values, or chances of the second class, for the test rows."""
        of = roc_auc_score if self.metric == "roc_auc" else r2_score
        return float(of(self.test["target"], said))


def words(rng: np.random.Generator) -> np.ndarray:
    """English words in some order: those of Python's own help, `(WORDS,)` at most."""
    every = sorted(set(re.findall(r"[a-z]{2,}", " ".join(topics.values()).lower())))
    return rng.permutation(np.array(every))[:WORDS]


def texts(
    rng: np.random.Generator, vocabulary: np.ndarray, rows: int, length: int, weights: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Texts of about `length` words, frequent ones more often, and the mean weight of each."""
    share = 1.0 / (np.arange(len(vocabulary)) + 10.0)
    sizes = np.maximum(1, rng.poisson(length, rows))
    drawn = rng.choice(len(vocabulary), int(sizes.sum()), p=share / share.sum())
    ends = np.cumsum(sizes)
    parts = np.split(vocabulary[drawn], ends[:-1])
    means = np.add.reduceat(weights[drawn], ends - sizes) / np.sqrt(sizes)
    return [" ".join(part) for part in parts], means


def mixed(rows: int, seed: int) -> Table:
    """Two classes by numbers, categories and words, where some cells are empty."""
    rng = np.random.default_rng([seed, 1])
    every = rows + rows // 10
    vocabulary = words(rng)
    columns: dict[str, Any] = {}
    numbers = rng.normal(size=(every, 25))
    total = 0.9 * numbers[:, 0] * numbers[:, 1] + np.sin(2 * numbers[:, 2]) + 0.5 * numbers[:, 3]
    total += np.where(numbers[:, 4] > 0.5, numbers[:, 5], -0.5)
    for i in range(25):
        cells = np.exp(numbers[:, i]) if i % 5 == 4 else numbers[:, i]
        columns[f"number {i}"] = np.where(rng.random(every) < 0.03, np.nan, cells.round(4))
    for i in range(15):
        count = 3 + LEVELS * (i % 3)
        codes = np.minimum(rng.geometric(2.5 / count, every) - 1, count - 1)
        total += 0.4 * rng.normal(size=count)[codes] if i < 8 else 0.0
        columns[f"kind {i}"] = np.array([f"level {c}" for c in range(count)], object)[codes]
    for i in range(10):
        written, means = texts(rng, vocabulary, every, 5, rng.normal(size=len(vocabulary)))
        total += 0.6 * means if i < 4 else 0.0
        columns[f"text {i}"] = written
    chance = 1 / (1 + np.exp(-1.5 * (total - np.median(total))))
    columns["target"] = np.where(rng.random(every) < chance, 1, 0)
    frame = pd.DataFrame(columns)
    ceiling = float(roc_auc_score(frame["target"][rows:], chance[rows:]))
    words_of, levels = (tuple(n for n in columns if n.startswith(k)) for k in ("text ", "kind "))
    return Table("mixed", frame[:rows], frame[rows:], words_of, levels, "roc_auc", ceiling)


def texts_and_numbers(rows: int, seed: int) -> Table:
    """A number by the words of a title and a review, and by six numbers."""
    rng = np.random.default_rng([seed, 2])
    every = rows + rows // 10
    vocabulary = words(rng)
    weights = rng.normal(size=len(vocabulary)) * (rng.random(len(vocabulary)) < 0.3)
    title, first = texts(rng, vocabulary, every, 6, rng.normal(size=len(vocabulary)))
    review, second = texts(rng, vocabulary, every, 40, weights)
    numbers = rng.normal(size=(every, 6))
    signal = 0.6 * first + 1.2 * second + np.abs(numbers[:, 0]) + 0.7 * numbers[:, 1]
    signal += np.where(numbers[:, 2] > 0, numbers[:, 3], -numbers[:, 3])
    target = 10 + 3 * (signal + 0.8 * rng.normal(size=every))
    columns: dict[str, Any] = {"title": title, "review": review}
    columns |= {f"number {i}": numbers[:, i].round(4) for i in range(6)}
    frame = pd.DataFrame({**columns, "target": target.round(3)})
    ceiling = float(r2_score(target[rows:], 10 + 3 * signal[rows:]))
    return Table("texts", frame[:rows], frame[rows:], ("title", "review"), (), "r2", ceiling)


TABLES: dict[str, tuple[Callable[[int, int], Table], int]] = {
    "mixed": (mixed, 20_000),
    "texts": (texts_and_numbers, 100_000),
}


def plain(table: Table) -> dict[str, dict[str, float]]:
    """The baselines' scores and seconds."""
    inputs = table.train.drop(columns="target")
    numbers = [c for c in inputs if c not in table.texts + table.levels]
    classes = table.metric == "roc_auc"
    found = {}
    for name in ("ridge", "boosting"):
        began = time.perf_counter()
        parts: list[tuple[str, Any, Any]] = []
        for column in table.texts:
            steps: list[Any] = [TfidfVectorizer(min_df=2, sublinear_tf=True)]
            if name == "boosting":
                steps.append(TruncatedSVD(32 if len(table.texts) < 4 else 8, random_state=SEED))
            parts.append((column, make_pipeline(*steps), column))
        if name == "ridge":
            parts += [
                ("levels", OneHotEncoder(handle_unknown="ignore"), list(table.levels)),
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ]
            model: Any = LogisticRegression(max_iter=300) if classes else Ridge(1.0)
        else:
            codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
            parts += [("levels", codes, list(table.levels)), ("numbers", "passthrough", numbers)]
            of = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
            model = of(max_iter=300, random_state=SEED, early_stopping=True)
        line = make_pipeline(
            ColumnTransformer(parts, sparse_threshold=1.0 if name == "ridge" else 0.0), model
        )
        line.fit(inputs, table.train["target"])
        rows = table.test.drop(columns="target")
        said = line.predict_proba(rows)[:, 1] if classes else line.predict(rows)
        found[name] = {"score": table.score(said), "seconds": time.perf_counter() - began}
    return found


def searched(table: Table, folder: Path, limit: str, more: list[str]) -> dict[str, Any]:
    """What the command line does with the table, in a process of its own."""
    for part in ("train", "test"):
        getattr(table, part).to_csv(folder / f"{part}.csv", index=False)
    run = folder / "run"
    for left in (run, folder / "cache"):
        shutil.rmtree(left, ignore_errors=True)
    os.environ["POLYMIX_CACHE"] = str(folder / "cache")
    polymix = [sys.executable, "-m", "polymix"]
    asked = [str(folder / "train.csv"), "--target", "target", "--metric", table.metric]
    status, held, wall = watched(
        [*polymix, "search", *asked, "--time-limit", limit, "--run-dir", str(run), *more]
    )
    if status:
        raise SystemExit(f"{table.name}: polymix search ended with {status}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    used = float(json.loads((run / "description.json").read_text())["used_seconds"])
    began = time.perf_counter()
    told = subprocess.run(
        [*polymix, "evaluate", str(run), str(folder / "test.csv"), "--json"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    board = json.loads((run / "metrics.json").read_text())
    return {
        "wall_s": wall,
        "used_s": used,
        "reading_s": wall - used,
        "overrun": used / parse_duration(limit),
        "peak_gb": peak / 1e9,
        "held_gb": held / 1e9,
        "evaluate_s": time.perf_counter() - began,
        "score": json.loads(told)["metrics"][table.metric]["value"],
        "chosen": board["chosen"],
        "notes": board["notes"],
    }


def main() -> None:
    """Make the tables, run polymix and the baselines on them, and say what came of it."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--folder", type=Path, required=True, help="where tables and runs go")
    options.add_argument("--time-limit", default="5m")
    options.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    options.add_argument("--rows", type=int, help="training rows; the table's own where not given")
    options.add_argument("--seed", type=int, default=SEED, help="of the tables")
    options.add_argument("--no-baselines", action="store_true")
    options.add_argument("--out", type=Path)
    options.add_argument("more", nargs="*", help="further options of search, after --")
    arguments = options.parse_args()
    found = {}
    for name in arguments.only:
        make, rows = TABLES[name]
        table = make(arguments.rows or rows, arguments.seed)
        folder = arguments.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        told = {"rows": len(table.train), "metric": table.metric, "ceiling": table.ceiling}
        told["polymix"] = searched(table, folder, arguments.time_limit, arguments.more)
        print(json.dumps({name: told}, indent=1), flush=True)
        if not arguments.no_baselines:
            told |= plain(table)
        found[name] = told
    report({"benchmark": "big tables", "time_limit": arguments.time_limit, **found}, arguments.out)


if __name__ == "__main__":
    main()
