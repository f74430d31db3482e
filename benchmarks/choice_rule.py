"""Which rule takes the better finalist: on training rows alone, split anew.

    python benchmarks/choice_rule.py --only breast_cancer wine diabetes digits --seeds 4
    python benchmarks/choice_rule.py --only mosi --mosi RAW_FOLDER --seeds 4
    python benchmarks/choice_rule.py --simulate 400

The training rows of the tables of `known_tables.py` are split into training, validation and
held-out rows by other seeds; their own validation and test rows have no part in it. Each split is
searched once by the command's own defaults; then each rule takes one of the same finalists:

    tie         of those whose difference to the best has zero in its 95% interval, the fewest FLOPs
    one error   of those within a standard error of the best, the fewest FLOPs
    best        the best mean on validation rows

What is told is the held-out score of what was taken, its mean over seeds of training, and its
difference to what `tie` took, with the 95% interval over splits.

`--simulate` draws finalists whose true accuracy is known instead: five of them, around 0.75, three
seeds each, right on the same rows more often than chance would have it, with costs in any order.
What is told is how much accuracy each rule loses to the best of them, and the share of the dearest
one's cost that it takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from common import report
from known_tables import NAMES, SKLEARN, write_mosi, write_sklearn
from polymix import Predictor
from polymix.records import Interval, Trial
from polymix.scoring.intervals import Referee, spread
from polymix.scoring.metrics import METRICS
from polymix.store.ledger import Ledger
from polymix.tables.split import random_codes

Near = Callable[[Interval], bool]
FINALISTS, SEEDS = 5, 3
SEED_SPREAD, SHARED = 0.01, 0.6
"""How much seeds differ, and how alike finalists' difficulties with a row are."""

RULES: dict[str, Near] = {
    "tie": lambda difference: difference.noise,
    "one error": lambda difference: difference.near(),
    "best": lambda difference: False,  # noqa: ARG005
}


def split_anew(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The training rows, split by another seed."""
    rows = frame[frame["split"] == "train"].reset_index(drop=True)
    known = rows["y"]
    targets = known if pd.api.types.is_numeric_dtype(known) else pd.factorize(known)[0]
    return rows.assign(split=NAMES[random_codes(np.asarray(targets), 1000 + seed)])


def searched(frame: pd.DataFrame, folder: Path, limit: str, ensemble: bool) -> dict[str, Any]:
    """One search, and what each rule would take of it."""
    table, runs = folder / "table.csv", folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    if not table.exists():
        frame.to_csv(table, index=False)
    if runs.exists():
        predictor = Predictor.resume(runs)
    else:
        predictor = Predictor("y", path=runs, device="cpu").fit(
            table, time_limit=limit, table={"split": "split"}, ensemble=ensemble
        )
    board = predictor.leaderboard_json()
    held = {f["rank_val"]: f["test"]["value"] for f in predictor.evaluate()["finalists"]}
    finalists = [row for row in board["rows"] if row.get("rank")]
    with Ledger.open(runs / "ledger.sqlite", read_only=True) as ledger:
        known = {t.key: t.proposal for t in ledger.trials()}
        made: dict[int, list[Trial]] = {}
        whole = all(any(t["status"] == "done" for t in f["trials"]) for f in finalists)
        for f in finalists:
            # As the run itself compares: where one was never finished, first seeds as they stand.
            done = [t["key"] for t in f["trials"] if t["status"] == "done" or not whole]
            found = [ledger.get(key, known[key]) for key in done[: f["seeds"]]]
            made[f["rank"]] = [t for t in found if t is not None]
    regression = pd.api.types.is_numeric_dtype(frame["y"])
    y = frame["y"].to_numpy(float) if regression else np.unique(frame["y"], return_inverse=True)[1]
    referee = Referee(METRICS[board["metric"]], y[frame["split"] == "val"])
    chosen: dict[str, Any] = {}
    for rule, near in RULES.items():
        within = [
            f for f in finalists
            if f["rank"] == 1 or near(referee.difference(made[1], made[f["rank"]]))
        ]  # fmt: skip
        taken = min(within, key=lambda f: (f["flops"], f["rank"]))
        chosen[rule] = {"what": taken["label"], "held_out": held[taken["rank"]]}
    return chosen


@dataclass(frozen=True)
class Drawn:
    """What a simulated model says of the validation rows."""

    key: str
    predictions: np.ndarray


def simulated(draws: int, rows: int, apart: float) -> dict[str, dict[str, float]]:
    """What each rule loses, where true accuracies are `apart` by that standard deviation."""
    rng = np.random.default_rng(0)
    lost: dict[str, list[tuple[float, float]]] = {rule: [] for rule in RULES}
    for _ in range(draws):
        true = np.clip(rng.normal(0.75, apart, FINALISTS), 0.5, 0.99)
        costs = rng.permutation(FINALISTS) + 1.0
        referee = Referee(METRICS["accuracy"], np.zeros(rows, np.int64))
        hard = rng.standard_normal(rows)
        made: list[list[Drawn]] = []
        for k, accuracy in enumerate(true):
            made.append([])
            for seed in range(SEEDS):
                here = np.clip(accuracy + rng.normal(0, SEED_SPREAD), 0.01, 0.99)
                own = np.sqrt(SHARED) * hard + np.sqrt(1 - SHARED) * rng.standard_normal(rows)
                said = np.eye(2)[(own > stats.norm.ppf(here)).astype(int)]
                made[-1].append(Drawn(f"{k}, {seed}", said))
        scores = [referee.score(each).value for each in made]
        best = int(np.argmax(scores))
        for rule, near in RULES.items():
            within = [
                k for k in range(FINALISTS)
                if k == best or near(referee.difference(made[best], made[k]))
            ]  # fmt: skip
            taken = min(within, key=lambda k: costs[k])
            lost[rule].append((float(true.max() - true[taken]), costs[taken] / FINALISTS))
    return {
        rule: {"lost": float(np.mean(found, 0)[0]), "cost": float(np.mean(found, 0)[1])}
        for rule, found in lost.items()
    }


def simulate(draws: int) -> dict[str, Any]:
    """A line for each number of rows and each spread."""
    found = {}
    for rows in (80, 300, 1000):
        for apart in (0.0, 0.02, 0.05):
            one = found[f"{rows} rows, {apart}"] = simulated(draws, rows, apart)
            told = "  ".join(f"{r}: -{v['lost']:.4f} at {v['cost']:.2f}" for r, v in one.items())
            print(f"{rows:>5} rows, apart by {apart:.2f}  {told}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*SKLEARN, "mosi"], default=list(SKLEARN))
    parser.add_argument("--simulate", type=int, help="so many draws, in place of tables")
    parser.add_argument("--mosi", type=Path, help="folder of CMU-MOSI's raw files")
    parser.add_argument("--seeds", type=int, default=4, help="splits of each table")
    parser.add_argument("--time-limit", default="30s")
    parser.add_argument("--ensemble", action="store_true", help="as `polymix search --ensemble`")
    parser.add_argument("--work", type=Path, default=Path("runs/choice_rule"))
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    if arguments.simulate:
        report(simulate(arguments.simulate), arguments.out)
        return
    if "mosi" in arguments.only and arguments.mosi is None:
        parser.error("name the raw files: --mosi FOLDER")
    found: dict[str, list[dict[str, Any]]] = {}
    apart: dict[str, list[float]] = {rule: [] for rule in RULES}
    for name in arguments.only:
        frame = write_mosi(arguments.mosi) if name == "mosi" else write_sklearn(name)
        for seed in range(arguments.seeds):
            folder = arguments.work / f"{name}-{seed}"
            one = searched(
                split_anew(frame, seed), folder, arguments.time_limit, arguments.ensemble
            )
            found.setdefault(name, []).append(one)
            for rule, taken in one.items():
                apart[rule].append(taken["held_out"] - one["tie"]["held_out"])
            told = "  ".join(f"{r}: {t['held_out']:.4f} ({t['what']})" for r, t in one.items())
            print(f"{name} {seed}  {told}", flush=True)
    for name, splits in found.items():
        means = {r: float(np.mean([one[r]["held_out"] for one in splits])) for r in RULES}
        print(f"{name:<14} " + "  ".join(f"{rule} {mean:.4f}" for rule, mean in means.items()))
    for rule, values in apart.items():
        half = spread([values]) if len(values) > 1 else float("nan")
        mean = float(np.mean(values))
        print(f"{rule} minus tie: {mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]")
    report(found, arguments.out)


if __name__ == "__main__":
    main()
