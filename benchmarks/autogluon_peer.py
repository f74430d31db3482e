"""AutoGluon-Tabular on a table, in an interpreter of its own; `tables.py --peer-python` runs it.

The environment, which shares nothing with polymix's (on a machine without a GPU, take torch from
https://download.pytorch.org/whl/cpu):

    python3 -m venv AG
    AG/bin/pip install torch==2.13.0 "autogluon.tabular[all]"

Where that conflicts with the torch that is there, `"autogluon.tabular[lightgbm,catboost,xgboost]"`
is AutoGluon without its networks; the result says which version ran. By hand:

    AG/bin/python benchmarks/autogluon_peer.py --folder TABLE --preset medium_quality \
        --time-limit 120 --seed 0 --out said.csv

`train.csv` alone is fitted; `test.csv` is predicted, without its target, once the model is there.
Cells that name files stay what they are to AutoGluon-Tabular: names.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="train.csv, test.csv, task.json")
    parser.add_argument("--preset", default="medium_quality")
    parser.add_argument("--time-limit", type=float, required=True, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="CSV of predictions; JSON beside")
    arguments = parser.parse_args()

    # Of the other environment: polymix's does not have it.
    from autogluon.tabular import TabularPredictor, __version__  # type: ignore[import-not-found]

    task = json.loads((arguments.folder / "task.json").read_text())
    train = pd.read_csv(arguments.folder / "train.csv")
    with tempfile.TemporaryDirectory() as scratch:
        predictor = TabularPredictor(
            task["target"],
            # A number of few values would else be taken for classes.
            problem_type="regression" if task["metric"] == "r2" else None,
            eval_metric=task["metric"],
            path=str(Path(scratch) / "model"),
            verbosity=1,
            learner_kwargs={"random_state": arguments.seed},
        )
        began = time.perf_counter()
        predictor.fit(train, time_limit=arguments.time_limit, presets=arguments.preset)
        seconds = time.perf_counter() - began
        rows = pd.read_csv(arguments.folder / "test.csv").drop(columns=task["target"])
        # `said` is the class or the value; a column a class has its probability.
        said: dict[str, Any] = {"said": predictor.predict(rows)}
        if task["metric"] != "r2":
            shares = predictor.predict_proba(rows)
            said |= {f"p:{label}": shares[label] for label in shares.columns}
        best = predictor.leaderboard()
        chosen = best[best["model"] == predictor.model_best].iloc[0]
    pd.DataFrame(said).to_csv(arguments.out, index=False)
    about = {
        "seconds": seconds,
        "score_val": float(chosen["score_val"]),
        "what": f"{chosen['model']}, AutoGluon {__version__}",
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
