"""What fusion gained: one number and one sentence, whoever tells it."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cli_support import LEARNS, synthetic
from polymix import Predictor
from polymix.cli.board import show_board
from polymix.cli.reports import show_evaluation, show_explanation
from polymix.data.schema import Task
from polymix.runs.fusion import fusion_line
from polymix.search.standings import Finalist, stand
from search.common import answer, proposal, referee


def table(rows=80):
    """A number that tells the target, and a text that says nothing of it."""
    rng = np.random.default_rng(0)
    number = rng.normal(size=rows)
    words = ["a warm old house", "by the sea", "new and very small", "close to the trains"]
    texts = [f"{words[k]} {words[m]}" for k, m in rng.integers(0, 4, (rows, 2))]
    noise = 0.3 * rng.normal(size=rows)
    return pd.DataFrame({"size": number, "about": texts, "price": number + noise})


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """A run whose finalists were compared out of fold, on a table's file."""
    base = tmp_path_factory.mktemp("folded")
    table().to_csv(base / "houses.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMIX_CACHE", str(base / "cache"))
        yield Predictor("price", path=base / "run", device="cpu").fit(
            base / "houses.csv", trials=16, column_types={"about": "learned_text"},
            table={"test_share": 0.2},
        )  # fmt: skip


@pytest.fixture(scope="module")
def unfolded(tmp_path_factory):
    """A run whose finalists were compared on validation rows."""
    predictor = Predictor(path=tmp_path_factory.mktemp("unfolded") / "run", device="cpu")
    return predictor.fit(synthetic(Task.BINARY), options=LEARNS, strategy="mixmas")


@pytest.mark.parametrize("kind", ["folded", "unfolded"])
def test_all_tell_the_same_gain_in_the_same_words(kind, request):
    predictor = request.getfixturevalue(kind)
    metrics = json.loads((predictor.path / "metrics.json").read_text())
    told = metrics["fusion_gain"]
    board, explained = predictor.leaderboard_json(), predictor.explain()
    evaluated = predictor.evaluate()
    for found in (board, explained, evaluated):
        assert found["fusion_gain"] == told
        assert fusion_line(found) == told["said"]
    shown = {show_board: board, show_explanation: explained, show_evaluation: evaluated}
    for show, found in shown.items():
        console = Console(record=True, width=100, file=io.StringIO())
        show(console, found)
        assert told["said"] in console.export_text().splitlines()
    # It is the difference of the two that it names, as they stand on the board.
    rows = {row["label"]: row for row in board["rows"] if "roles" in row}
    fused, single = told["fused"], told["single"]
    assert told["value"] == pytest.approx(fused["score"] - single["score"], abs=1e-9)
    for side in (fused, single):
        assert rows[side["label"]]["score_val"] == pytest.approx(side["score"], abs=1e-9)
        assert rows[side["label"]]["modalities"] == side["modalities"]
    assert len(single["modalities"]) == 1 < len(fused["modalities"])
    assert told["split"] == ("out-of-fold" if kind == "folded" else "validation")
    # Nothing on one modality stands above the single that fusion is compared with.
    alone = [r["score_val"] for r in rows.values() if len(r["modalities"]) == 1 and r["rank"]]
    assert max(alone) == pytest.approx(single["score"])


def test_a_modality_that_says_nothing_is_no_gain(folded):
    board = folded.leaderboard_json()
    gain = board["fusion_gain"]
    assert gain["single"]["modalities"] == ["tabular"]
    assert gain["verdict"] in ("within the noise", "lost")
    alone = [r for r in board["rows"] if "single" in r.get("roles", ())]
    assert {tuple(r["modalities"]) for r in alone} == {("tabular",), ("about",)}


def test_what_a_folded_run_evaluates_is_what_ships(folded):
    found = folded.evaluate()
    shipped = found["shipped"]
    assert [row["label"] for row in found["finalists"]] == [shipped["label"]]
    assert found["finalists"][0]["shipped"]
    assert found["shipped_minus"] == []
    console = Console(record=True, width=100, file=io.StringIO())
    show_evaluation(console, found)
    text = console.export_text()
    assert f"→ {shipped['why']}" in text
    assert f"the other {len(found['unscored'])} finalists are not scored on test rows" in text


def test_what_an_unfolded_run_evaluates_is_compared_with_what_ships(unfolded):
    found, board = unfolded.evaluate(), unfolded.leaderboard_json()
    chosen = board["chosen"]
    (shipped,) = [row for row in found["finalists"] if row["shipped"]]
    assert shipped["label"] == chosen["label"]
    assert shipped["rank_val"] == chosen["rank"]
    assert chosen["why"].startswith(chosen["label"])
    others = {v["label"]: v["difference"]["value"] for v in found["shipped_minus"]}
    for row in found["finalists"]:
        if not row["shipped"]:
            less = shipped["test"]["value"] - row["test"]["value"]
            assert others[row["label"]] == pytest.approx(less, abs=1e-9)
    console = Console(record=True, width=100, file=io.StringIO())
    show_board(console, board)
    assert f"→ {chosen['why']}" in console.export_text()


def test_why_nothing_is_told():
    single = Finalist(proposal("series"), (), "series alone", [answer(proposal("series"), 0.5)])
    alone = stand([single], referee())
    from polymix.runs.fusion import fusion_json

    missing = "every model that was scored reads one modality alone (series)"
    assert fusion_json(alone, "accuracy") == {"fusion_gain": None, "fusion_missing": missing}
    assert fusion_line({"fusion_missing": missing}) == (
        f"what fusion gained is not known: {missing}"
    )
    assert fusion_line({}) is None
