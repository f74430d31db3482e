"""What `tables.py` compares: each system fits a table's training rows and predicts its test rows.

No system is given the test rows' targets, and none sees a test row before its model is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from plain_baseline import PlainBaseline
from polymix import Predictor
from polymix.comparators.ensemble.model import EnsembleModel
from polymix.errors import UsageError
from polymix.genotype import parse_genotype
from polymix.runs.open_run import OpenRun
from polymix.runs.predict import predict_proba

METRICS = ("r2", "roc_auc", "accuracy")
PAPERS = ("mixmas", "m2-mixer", "mfas", "bm-nas", "mro")
PRESETS = {"autogluon-medium": "medium_quality", "autogluon-best": "best_quality"}
PEER = Path(__file__).with_name("autogluon_peer.py")


@dataclass(frozen=True)
class Table:
    """A folder with `train.csv`, `test.csv` and `task.json`."""

    folder: Path
    target: str
    metric: str

    @classmethod
    def open(cls, folder: Path) -> Table:
        """Read what is asked of a table.

        Raises:
            UsageError: a file, or a field of `task.json`, is missing or unknown.
        """
        lacking = [n for n in ("train.csv", "test.csv", "task.json") if not (folder / n).is_file()]
        if lacking:
            raise UsageError(f"{folder} has no {', '.join(lacking)}")
        task = json.loads((folder / "task.json").read_text())
        if not isinstance(task.get("target"), str) or task.get("metric") not in METRICS:
            raise UsageError(
                f"{folder / 'task.json'} must name a target, and a metric of {', '.join(METRICS)}"
            )
        return cls(folder, task["target"], task["metric"])

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.folder.name

    def train(self) -> pd.DataFrame:
        """The training rows."""
        return pd.read_csv(self.folder / "train.csv")

    def test_inputs(self) -> pd.DataFrame:
        """The test rows without their target."""
        return pd.read_csv(self.folder / "test.csv").drop(columns=self.target)

    def classes(self) -> list[str]:
        """Of the training rows, in order; none for a regression."""
        if self.metric == "r2":
            return []
        return sorted(self.train()[self.target].dropna().astype(str).unique())

    def test_targets(self) -> np.ndarray:
        """Values, or places in `classes`, `(N,)`: for scoring alone, after all is said.

        Raises:
            UsageError: a test row's class is none of the training rows'.
        """
        said = pd.read_csv(self.folder / "test.csv")[self.target]
        if self.metric == "r2":
            return said.to_numpy(float)
        places = {label: place for place, label in enumerate(self.classes())}
        unknown = sorted(set(said.astype(str)) - set(places))
        if unknown:
            raise UsageError(f"{self.folder / 'test.csv'}: no training row is {unknown[0]!r}")
        return said.astype(str).map(places).to_numpy()

    def score(self, predictions: np.ndarray) -> float:
        """scikit-learn's metric of `(N, K)` predictions of the test rows."""
        y = self.test_targets()
        if self.metric == "r2":
            return float(sk.r2_score(y, predictions[:, 0]))
        if self.metric == "accuracy":
            return float(sk.accuracy_score(y, predictions.argmax(1)))
        if predictions.shape[1] == 2:
            return float(sk.roc_auc_score(y, predictions[:, 1]))
        return float(sk.roc_auc_score(y, predictions, multi_class="ovr"))

    def in_order(self, labels: Sequence[object], shares: np.ndarray) -> np.ndarray:
        """Probabilities `(N, K)` of `labels`, their columns in the order of `classes`."""
        places = {str(label): place for place, label in enumerate(labels)}
        blank = np.zeros(len(shares))
        columns = [shares[:, places[c]] if c in places else blank for c in self.classes()]
        return np.stack(columns, 1)

    def said(self, labels: Sequence[object]) -> np.ndarray:
        """Classes said, as `(N, K)` of zeros and ones: not always the likeliest ones."""
        told = np.array([str(label) for label in labels])
        return np.asarray(told[:, None] == np.array(self.classes()), float)


@dataclass(frozen=True)
class Answer:
    """What a system says of a table's test rows.

    Attributes:
        system: its name.
        predictions: `(N, K)`: probabilities, classes said as ones, or values `(N, 1)`.
        score_val: what it scored on rows of its own choosing, by which alone it may be chosen.
        what: the model that answered.
        seconds: that fitting took, reading the table included.
    """

    system: str
    predictions: np.ndarray
    score_val: float | None
    what: str
    seconds: float


def polymix(table: Table, strategy: str, seconds: float, seed: int) -> list[Answer]:
    """`Predictor(label).fit(train.csv)`: what ships, and of `auto` its best member alone.

    Raises:
        RuntimeError: the time limit left no model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        run, test = Path(scratch) / "run", table.folder / "test.csv"
        # None is `auto`, as whoever names no strategy gets it.
        named = {} if strategy == "polymix" else {"strategy": strategy}
        began = time.perf_counter()
        # A number of few values would else be taken for classes.
        problem = "regression" if table.metric == "r2" else None
        predictor = Predictor(table.target, problem, table.metric, run)
        predictor.fit(table.folder / "train.csv", time_limit=seconds, seed=seed, **named)  # type: ignore[arg-type]
        taken = time.perf_counter() - began
        board = predictor.leaderboard_json()
        if board.get("chosen") is None:
            raise RuntimeError(f"no model within {seconds:g} seconds")
        chosen = next(r for r in board["rows"] if r.get("rank") == board["chosen"]["rank"])
        if table.metric == "accuracy":
            said = table.said(predictor.predict(test).tolist())
        elif table.metric == "roc_auc":
            said = table.in_order(predictor.classes_.tolist(), predictor.predict_proba(test))
        else:
            said = predictor.predict_proba(test)
        shipped = Answer(strategy, said, chosen["score_val"], chosen["architecture"], taken)
        if strategy != "polymix":
            return [shipped]
        return [shipped, _best_member(table, run, shipped, predictor)]


def _best_member(table: Table, path: Path, shipped: Answer, predictor: Predictor) -> Answer:
    """The member with the best validation score, fitted as the ensemble's; what ships, if one."""
    run = OpenRun.open(path)
    model = run.served.model
    if not isinstance(model, EnsembleModel):
        return Answer(
            "member", shipped.predictions, shipped.score_val, shipped.what, shipped.seconds
        )
    asked = parse_genotype(run.folder.genotype_json, str(path))
    with run.ledger() as ledger:
        scored = [t for t in ledger.trials() if t.usable and t.score is not None]
    values = [
        max((t.value for t in scored if t.proposal.genotype == part), default=float("-inf"))
        for part in asked.parts()
    ]
    best = int(np.argmax(values))
    model.weights = [float(place == best) for place in range(len(values))]
    alone = predict_proba(run, table.folder / "test.csv")
    if table.metric != "r2":
        alone = table.in_order(predictor.classes_.tolist(), alone)
    return Answer("member", alone, values[best], str(asked.parts()[best]), shipped.seconds)


def plain(table: Table, seconds: float, seed: int) -> list[Answer]:
    """See `plain_baseline`."""
    began = time.perf_counter()
    model = PlainBaseline(table.folder, table.target, table.metric, seconds, seed)
    model.fit(table.train())
    taken = time.perf_counter() - began
    labels, said = model.predict(table.test_inputs())
    said = table.in_order(labels, said) if labels else said
    return [Answer("plain", said, model.score_val, model.what, taken)]


def autogluon(table: Table, system: str, seconds: float, seed: int, peer: Path) -> list[Answer]:
    """See `autogluon_peer`.

    Raises:
        RuntimeError: it failed; the last lines that it wrote.
    """
    # Its own libraries, not those that polymix was started with.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "said.csv"
        done = subprocess.run(
            [peer, PEER, "--folder", table.folder.resolve(), "--preset", PRESETS[system],
             "--time-limit", str(seconds), "--seed", str(seed), "--out", out],
            cwd=scratch, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError("\n".join(done.stderr.splitlines()[-3:]))
        found = pd.read_csv(out)
        about = json.loads(out.with_suffix(".json").read_text())
    if table.metric == "r2":
        said = found[["said"]].to_numpy(float)
    elif table.metric == "accuracy":
        said = table.said(found["said"].tolist())
    else:
        shares = found.filter(regex="^p:")
        said = table.in_order([str(c).removeprefix("p:") for c in shares], shares.to_numpy())
    return [Answer(system, said, about["score_val"], about["what"], about["seconds"])]
