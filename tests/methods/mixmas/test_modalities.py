"""Whole searches over one, two, three and four modalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymix import Predictor
from polymix.testing.toy_data import toy_dataset

NAMES = ("table", "series", "vectors", "image")
SHORT: dict[str, Any] = {"epochs": 1, "full_epochs": 1, "encoders": ["mlp", "hyper-mixer"]}
QUICK: dict[str, dict[str, Any]] = {
    "mixmas": {**SHORT, "networks": ["none", "mlp-mixer"]},
    "m2-mixer": {"epochs": 1},
    "random": {**SHORT, "draws": 2},
}


@pytest.mark.parametrize(
    ("strategy", "k"), [*(("mixmas", k) for k in (1, 2, 3, 4)), ("m2-mixer", 4), ("random", 3)]
)
def test_searched_evaluated_and_predicted(strategy: str, k: int, tmp_path: Path) -> None:
    data = toy_dataset(rows=60, modalities=NAMES[:k])
    predictor = Predictor(path=tmp_path / "run", device="cpu")
    predictor.fit(data, strategy=strategy, options=QUICK[strategy], trials=10)
    rows = predictor.leaderboard_json()["rows"]
    assert rows
    assert {row["status"] for row in rows} == {"done"}
    assert any(row["role"] == "late" for row in rows) == (k > 1)
    assert 0 <= predictor.evaluate()["metrics"]["accuracy"]["value"] <= 1
    shares = predictor.predict_proba(data)
    assert shares.shape == (len(data), 3)
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
