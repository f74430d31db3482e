"""What folds give: scores that hold on sealed rows, narrower intervals, and what they cost.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/folds.py agree --table TABLES/imdb_genre
    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 python benchmarks/folds.py stacked

`agree` searches a table with `--trials` from ten seeds, each of which seals other rows, and sets
the out-of-fold score of what ships against its score on the sealed rows. Both have an interval; the
sealed rows are fewer, so that most of the noise is theirs. It counts on how many splits the sealed
score lies in the out-of-fold interval, and on how many the two differ by no more than both
intervals together allow (√(a² + b²) of their half-widths). Beside it stands the interval's width
where the same table is compared on validation rows (`--folds 0`), as without folds.

`stacked` trains folds x networks x seeds of MFAS's fusion networks on banked features, once in one
computation and once one by one, in one run: CPU seconds, their ratio, the largest difference of
predictions. Rows are generated, backbones are untrained.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import polymix.methods.mfas.model  # noqa: F401 - builds MFAS's genotypes
from common import report
from polymix import Predictor
from polymix.data.dataset import Dataset
from polymix.genotype import Block
from polymix.methods.mfas.space import MFASGenotype
from polymix.records import Fidelity, Proposal, Recipe, Trial
from polymix.scoring.metrics import metric_for
from polymix.store.ledger import Ledger
from polymix.testing import toy_dataset
from polymix.train.evaluate import Evaluator

FOLDS = 5
ACTIVATIONS = ("relu", "sigmoid", "leaky-relu")


def agree(table: Path, seeds: int, trials: int, out: Path | None) -> int:
    """Out-of-fold scores against sealed rows, and interval widths with and without folds."""
    task = json.loads((table / "task.json").read_text())
    found = []
    for seed in range(seeds):
        row = {"seed": seed, **one_split(table, task, seed, trials, FOLDS)}
        row["without_folds"] = one_split(table, task, seed, trials, 0)["width"]
        found.append(row)
        print(
            f"seed {seed}: out of fold {row['val']:.4f} [{row['low']:.4f}, {row['high']:.4f}], "
            f"sealed {row['test']:.4f}; width {row['width']:.4f}, without folds "
            f"{row['without_folds']:.4f}",
            flush=True,
        )
    inside = sum(row["low"] <= row["test"] <= row["high"] for row in found)
    both = sum(abs(row["test"] - row["val"]) <= row["room"] for row in found)
    widths = [float(np.mean([row[k] for row in found])) for k in ("width", "without_folds")]
    print(
        f"{table.name}: in the out-of-fold interval {inside} of {seeds}, within both intervals "
        f"{both} of {seeds}; mean width {widths[0]:.4f}, without folds {widths[1]:.4f}, "
        f"ratio {widths[0] / widths[1]:.2f}"
    )
    report({"table": table.name, "splits": found, "inside": inside, "within_both": both}, out)
    return 0 if both >= 0.9 * seeds else 1


def one_split(
    table: Path, task: dict[str, str], seed: int, trials: int, folds: int
) -> dict[str, float]:
    """What ships from one seed: its score and interval, and that of the sealed rows."""
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(task["target"], path=Path(folder) / "run", eval_metric=task["metric"])
        predictor.fit(
            table / "train.csv",
            trials=trials,
            seed=seed,
            table={"folds": folds, "seed": seed},
            no_refit=True,
        )
        board = predictor.leaderboard_json()
        shipped = next(r for r in board["rows"] if r["rank"] == board["chosen"]["rank"])
        low, high = shipped["ci"]
        test = predictor.evaluate()["metrics"][task["metric"]]
        below, above = test["ci"]
    room = float(np.hypot((high - low) / 2, (above - below) / 2))
    return {"val": shipped["score_val"], "low": low, "high": high, "width": high - low,
            "test": test["value"], "room": room}  # fmt: skip


def stacked(rows: int, networks: int, seeds: int, out: Path | None) -> int:
    """One computation against one by one, CPU seconds of the same trials in the same run."""
    data = toy_dataset(rows, ("image", "series"), classes=2)
    folds = np.arange(len(data.split.development)) % FOLDS
    data = replace(data, split=replace(data.split, folds=folds))
    together, one_by_one = (trained(data, networks, seeds, limit) for limit in (64, 1))
    ratio = together[0] / one_by_one[0]
    apart = max(
        float(np.abs(a.predictions - b.predictions).max())
        for a, b in zip(together[1], one_by_one[1], strict=True)
        if a.predictions is not None and b.predictions is not None
    )
    print(
        f"{FOLDS} folds x {networks} networks x {seeds} seeds, {len(folds)} rows: together "
        f"{together[0]:.2f} CPU s, one by one {one_by_one[0]:.2f} CPU s, ratio {ratio:.2f}, "
        f"largest difference of predictions {apart:.1e}"
    )
    report({"together": together[0], "one_by_one": one_by_one[0], "largest": apart}, out)
    return 0 if ratio <= 0.4 else 1


def trained(data: Dataset, networks: int, seeds: int, limit: int) -> tuple[float, Sequence[Trial]]:
    """CPU seconds of cross-validating networks at seeds, and their trials."""
    rng = np.random.default_rng(0)
    backbones = (("image", Block.of("conv")), ("series", Block.of("conv")))
    drawn = [
        MFASGenotype(
            backbones=backbones,
            layers=tuple(
                ((int(rng.integers(2)), int(rng.integers(2))), ACTIVATIONS[rng.integers(3)])
                for _ in range(2)
            ),
            width=32,
        )
        for _ in range(networks)
    ]
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger") as ledger:
        metric = metric_for(data.schema.target.task)
        evaluator = Evaluator(data, metric, ledger, Path(folder) / "bank", stack_limit=limit)
        model = evaluator.model(Proposal(drawn[0], Fidelity(10, 1)))
        state = model.state_dict().items()
        init = (ledger.keep_weights({n: t for n, t in state if n.startswith("encoders.")}),)
        rows = len(data.split.development)
        asked = [
            Proposal(one, Fidelity(rows, 5, seed, folds=FOLDS), Recipe(frozen=True), init)
            for one in drawn
            for seed in range(seeds)
        ]
        warm = replace(asked[0], fidelity=Fidelity(rows, 1, seeds, folds=FOLDS))
        evaluator.run(evaluator.groups([warm])[0])  # the bank's pass is no part of it
        begun = time.process_time()
        done = [trial for g in evaluator.groups(asked) for trial, _ in evaluator.run(g)]
        return time.process_time() - begun, done


def main() -> int:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="what", required=True)
    first = kinds.add_parser("agree", help="scores out of fold against sealed rows")
    first.add_argument("--table", type=Path, required=True, help="folder with a table")
    first.add_argument("--seeds", type=int, default=10, help="random splits")
    first.add_argument("--trials", type=int, default=4, help="of each search")
    second = kinds.add_parser("stacked", help="folds in one computation against one by one")
    second.add_argument("--rows", type=int, default=900)
    second.add_argument("--networks", type=int, default=4)
    second.add_argument("--seeds", type=int, default=2)
    for one in (first, second):
        one.add_argument("--out", type=Path, default=None, help="write what was found as JSON")
    asked = parser.parse_args()
    if asked.what == "agree":
        return agree(asked.table, asked.seeds, asked.trials, asked.out)
    return stacked(asked.rows, asked.networks, asked.seeds, asked.out)


if __name__ == "__main__":
    sys.exit(main())
