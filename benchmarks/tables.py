"""polymix on a folder of tables, against what else a person could run for as long.

    python benchmarks/tables.py --tables TABLES --out results.json --time-limit 2m 10m \
        --peer-python AG/bin/python
    python benchmarks/tables.py --tables TABLES --out results.json --time-limit 2m 10m --no-papers \
        --only imdb_genre --systems plain polymix

Each table is a folder with `train.csv` and `test.csv`, whose cells name files relative to it, and
`task.json`, which names the `target` and scikit-learn's `metric` (r2, roc_auc, accuracy). Systems:

    polymix            `Predictor(label, eval_metric).fit(train.csv, time_limit=…)`: what it ships
    member             of that model the member with the best validation score, where it is an
                       ensemble; otherwise what ships (it comes with polymix)
    papers             the best of mixmas, m2-mixer, mfas, bm-nas and mro by validation score, each
                       with the whole time limit; a seed chooses anew (`--no-papers` leaves it out)
    plain              scikit-learn on TF-IDF and frozen features; see `plain_baseline.py`
    autogluon-medium   AutoGluon-Tabular's presets medium_quality and best_quality, by the
    autogluon-best     interpreter that `--peer-python` names; see `autogluon_peer.py`

All get the same rows, metric, time limit and machine, one after another. `--seeds` are of the
search: the split into training and test rows is the table's own. Test rows are predicted when a
model is there, and their targets are read for nothing but the scores told here. **No score of this
benchmark chooses a default of polymix**: defaults are chosen on training rows.

What is told is the mean test score over seeds; polymix's difference to it, paired by test row, with
its 95% interval by a bootstrap of the rows and the spread over seeds (of one seed, that is taken to
be as large as the rows' noise); the rank; and the normalised score: on each table the worst of the
systems compared has 0 and the best 1, so that it depends on whom one compares. A system that failed
on a table is last there, with 0. Means are over the tables for which every system has a result.

Results are added to `--out` one by one, by table, system, seed and limit: what is there is not done
again, what failed is tried again. Another version of anything needs another file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymix import PolymixError
from polymix.errors import UsageError
from polymix.scoring.intervals import Predictions, Referee
from polymix.scoring.metrics import METRICS
from polymix.store.files import write_atomic
from polymix.units import parse_duration, show_duration
from polymix.version import __version__
from standings import means, normalised, ranks
from table_systems import PAPERS, PRESETS, Answer, Table, autogluon, plain, polymix

SYSTEMS = ("polymix", "papers", "plain", *PRESETS)


@dataclass
class Results:
    """All that was answered so far, in one file.

    Attributes:
        path: the file; it is read once, and written at each result.
    """

    path: Path

    def __post_init__(self) -> None:
        there = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.entries: list[dict[str, Any]] = there.get("results", [])

    def find(self, table: str, system: str, seed: int, limit: float) -> dict[str, Any] | None:
        """A result, or none yet."""
        asked = {"table": table, "system": system, "seed": seed, "limit": limit}
        return next((e for e in self.entries if asked.items() <= e.items()), None)

    def add(self, entry: dict[str, Any]) -> None:
        """Keep a result, in place of a failed one."""
        key = {name: entry[name] for name in ("table", "system", "seed", "limit")}
        self.entries = [e for e in self.entries if not key.items() <= e.items()]
        self.entries.append(entry)
        whole = {
            "polymix": __version__,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "results": self.entries,
        }
        write_atomic(self.path, json.dumps(whole).encode())


def answer(table: Table, system: str, seed: int, limit: float, peer: Path | None) -> list[Answer]:
    """One system's answers for one table."""
    if system == "plain":
        return plain(table, limit, seed)
    if system in PRESETS:
        assert peer is not None
        return autogluon(table, system, limit, seed, peer)
    return polymix(table, system, limit, seed)


def run(table: Table, system: str, seed: int, limit: float, results: Results, peer: Any) -> None:
    """Do what is not done yet, and keep it, whether it answered or failed."""
    known = results.find(table.name, system, seed, limit)
    if known is not None and known.get("error") is None:
        return
    key = {"table": table.name, "seed": seed, "limit": limit}
    try:
        answers = answer(table, system, seed, limit, peer)
    except Exception as error:
        # Whatever a system raises is its result: the others' are still wanted.
        told = f"{type(error).__name__}: {error}"
        print(f"{table.name} {system} seed {seed} failed: {told}", file=sys.stderr, flush=True)
        for name in ("polymix", "member") if system == "polymix" else (system,):
            results.add({**key, "system": name, "error": told})
        return
    # What counts as done is written last.
    for one in reversed(answers):
        entry = {
            **key,
            "system": one.system,
            "score": table.score(one.predictions),
            "score_val": one.score_val,
            "what": one.what,
            "seconds": round(one.seconds, 1),
            "predictions": one.predictions.tolist(),
        }
        results.add(entry)
        print(
            f"{table.name} {one.system} seed {seed}: {table.metric} {entry['score']:.4f} in "
            f"{one.seconds:.0f}s, {one.what[:100]}",
            flush=True,
        )


def collect(
    table: Table, system: str, seeds: int, limit: float, results: Results
) -> list[dict[str, Any]] | None:
    """One system's results over seeds, those that failed left out; none before all are there."""
    found = []
    for seed in range(seeds):
        names = PAPERS if system == "papers" else (system,)
        entries = [results.find(table.name, name, seed, limit) for name in names]
        known = [e for e in entries if e is not None]
        if len(known) < len(names):
            return None
        usable = [e for e in known if e.get("error") is None]
        if usable:
            # Of the papers' strategies the validation score chooses, never the test rows.
            found.append(max(usable, key=lambda e: (e["score_val"] is not None, e["score_val"])))
    return found


def tell(
    table: Table, systems: list[str], seeds: int, limit: float, results: Results
) -> dict[str, float | None] | None:
    """Print one table's standings; its scores by system, or none where something is missing."""
    found = {s: collect(table, s, seeds, limit, results) for s in systems}
    there = {s: entries for s, entries in found.items() if entries is not None}
    scores: dict[str, float | None] = {
        s: float(np.mean([e["score"] for e in entries])) if entries else None
        for s, entries in there.items()
    }
    referee = Referee(METRICS[table.metric], table.test_targets())
    said = {
        s: [Predictions(f"{s}, {e['seed']}", np.array(e["predictions"])) for e in entries]
        for s, entries in there.items()
    }
    print(f"\n{table.name}: {table.metric} on {len(referee.targets)} test rows, "
          f"{show_duration(limit)}, {seeds} seed{'s' * (seeds > 1)}")  # fmt: skip
    places, shares = ranks(scores), normalised(scores)
    print(f"  {'system':<17} {'score':>7}  {'polymix minus it, 95%':<27} normalised  rank")
    for s in sorted(there, key=lambda name: places[name]):
        value = scores[s]
        told, gap = "failed" if value is None else f"{value:.4f}", ""
        if s != "polymix" and value is not None and said.get("polymix"):
            apart = referee.difference(said["polymix"], said[s])
            gap = f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"
        lost = seeds - len(there[s])
        note = f"  {lost} of {seeds} seeds failed" if lost and value is not None else ""
        print(f"  {s:<17} {told:>7}  {gap:<27} {shares[s]:>10.3f}  {places[s]:>4.1f}{note}")
    waiting = [s for s in systems if s not in there]
    if waiting:
        print(f"  not there yet: {', '.join(waiting)}")
    return None if waiting else scores


def chosen_tables(folder: Path, only: list[str] | None) -> list[Table]:
    """The tables of a folder, by name.

    Raises:
        UsageError: there is none, or one cannot be used; all problems at once.
    """
    named = only or sorted(p.parent.name for p in folder.glob("*/task.json"))
    if not named:
        raise UsageError(f"--tables {folder} has no table: a folder with a task.json")
    found: list[Table] = []
    problems: list[str] = []
    for name in named:
        try:
            found.append(Table.open(folder / name))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder with a folder a table")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="tables; all where not given")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="all where not given")
    parser.add_argument("--no-papers", action="store_true", help="leave the papers' strategies out")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has AutoGluon")
    parser.add_argument("--time-limit", nargs="+", default=["2m", "10m"], help="of each fit")
    parser.add_argument("--seeds", type=int, default=3, help="of the search")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="kept and added to")
    arguments = parser.parse_args()
    systems = list(arguments.systems or SYSTEMS)
    if arguments.peer_python is None:
        if set(systems) & set(PRESETS) and arguments.systems:
            parser.error("AutoGluon needs --peer-python PATH: see benchmarks/autogluon_peer.py")
        systems = [s for s in systems if s not in PRESETS]
    if arguments.no_papers:
        systems = [s for s in systems if s != "papers"]
    if arguments.seeds < 1:
        parser.error(f"--seeds must be at least 1, but got {arguments.seeds}")
    try:
        limits = [parse_duration(text) for text in arguments.time_limit]
        tables = chosen_tables(arguments.tables, arguments.only)
    except PolymixError as error:
        parser.error(str(error))
    results = Results(arguments.out)
    peer = arguments.peer_python
    # Not resolved: an environment's interpreter is a link to one that lacks its libraries.
    peer = peer.absolute() if peer else None
    doers = [name for s in systems for name in (PAPERS if s == "papers" else (s,))]
    for seed in range(arguments.seeds):
        for limit in limits:
            for table in tables:
                for doer in doers:
                    run(table, doer, seed, limit, results, peer)
    shown = [name for s in systems for name in (("polymix", "member") if s == "polymix" else (s,))]
    for limit in limits:
        told = {t.name: tell(t, shown, arguments.seeds, limit, results) for t in tables}
        whole = {name: scores for name, scores in told.items() if scores is not None}
        print(f"\nmeans over {len(whole)} of {len(tables)} tables, {show_duration(limit)}")
        print("rank, and normalised score: on each table the worst compared has 0, the best 1")
        for s, (rank, share) in sorted(means(whole).items(), key=lambda one: one[1][0]):
            print(f"  {s:<17} {rank:.2f}  {share:.3f}")


if __name__ == "__main__":
    main()
