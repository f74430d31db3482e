"""Candidates that fail, among good ones: what is told, and where the traceback is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polymix import Predictor, cli
from polymix.data.schema import Modality
from polymix.errors import SearchError
from polymix.nn.encoders.mlp import MLPEncoder
from polymix.nn.tokens import Tokens
from polymix.records import Status
from polymix.registry import register
from polymix.store.ledger import Ledger
from polymix.testing.toy_data import toy_dataset


class Unbuilt(MLPEncoder):
    name = "unbuilt"

    def __init__(self, modality: Modality, *, channels: int = 64) -> None:
        raise KeyError(f"no plan for {modality.name} of {channels}")


class Raising(MLPEncoder):
    name = "raising"

    def features(self, x: Tensor) -> list[Tokens]:
        raise ZeroDivisionError(f"a row of {x.shape[-1]}")


class Misshapen(MLPEncoder):
    name = "misshapen"

    def features(self, x: Tensor) -> list[Tokens]:
        return [Tokens(torch.cat([f.x, f.x], -1)) for f in super().features(x)]


class Undefined(MLPEncoder):
    name = "undefined"

    def features(self, x: Tensor) -> list[Tokens]:
        return [Tokens(f.x * float("nan")) for f in super().features(x)]


REASONS: dict[type[MLPEncoder], tuple[type[Exception], str, str | None]] = {
    Unbuilt: (KeyError, "KeyError: 'no plan for ", "in __init__"),
    Raising: (ZeroDivisionError, "ZeroDivisionError: a row of ", "in features"),
    Misshapen: (RuntimeError, "RuntimeError: ", "in run"),  # polymix's own code meets it
    Undefined: (SearchError, "were not finite", None),
}
SHORT: dict[str, Any] = {"epochs": 1, "full_epochs": 1, "networks": ["none"]}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, registrations: None) -> None:
    for encoder in REASONS:
        presets = {"small": {"channels": 8}}
        monkeypatch.setattr(encoder, "presets", presets)
        register(encoder)


def fit(path: Path, encoders: list[str], **options: Any) -> Predictor:
    data = toy_dataset(rows=60, modalities=("table", "series"))
    predictor = Predictor(path=path, device="cpu")
    return predictor.fit(
        data, strategy="mixmas", options={**SHORT, "encoders": encoders}, **options
    )


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("limit", [{"trials": 30}, {"time_limit": "5m"}])
def test_broken_candidates_are_named_and_leave_their_tracebacks(
    limit: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run", ["mlp", *(e.name for e in REASONS)], **limit)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert cli.run(["leaderboard", str(tmp_path / "run"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert cli.run(["leaderboard", str(tmp_path / "run")]) == 0
    board = capsys.readouterr().out
    with Ledger.open(tmp_path / "run" / "ledger.sqlite", read_only=True) as ledger:
        trials = ledger.trials()
        traces = {t.key: ledger.traceback(t.key) for t in trials}
    assert any(t.status is Status.DONE for t in trials)
    assert not any(traces[t.key] for t in trials if t.status is Status.DONE)
    for encoder, (_, reason, place) in REASONS.items():
        others = {e.name for e in REASONS} - {encoder.name}
        failed = [
            r
            for r in rows
            if encoder.name in r["architecture"] and not any(o in r["architecture"] for o in others)
        ]
        assert failed, encoder.name
        assert {r["status"] for r in failed} == {"failed"}
        assert [r["error"] for r in failed if reason not in r["error"]] == []
        assert any(
            line.startswith("failed: ") and encoder.name in line and reason in line
            for line in board.splitlines()
        )
        assert reason in log
        for trace in (traces[row["key"]] for row in failed if place):
            assert trace is not None
            assert trace.startswith("Traceback")
            assert reason in trace.splitlines()[-1]
            assert place
            assert place in trace
            assert trace.rstrip() in log
    assert str(tmp_path / "run" / "log.txt") in board
    assert "Traceback" not in board
    assert not [h for h in logging.getLogger("polymix").handlers if "File" in type(h).__name__]


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("encoder", REASONS)
def test_what_a_candidate_raises_is_raised_where_asked(
    encoder: type[MLPEncoder], tmp_path: Path
) -> None:
    kind, reason, place = REASONS[encoder]
    with pytest.raises(kind) as caught:
        fit(tmp_path / "run", ["mlp", encoder.name], trials=12, raise_errors=True)
    assert type(caught.value) is kind
    assert reason.removeprefix(f"{kind.__name__}: ") in str(caught.value)
    frames = [f"in {entry.name}" for entry in caught.traceback]
    assert place in [*frames, None]


def test_a_run_without_failures_leaves_no_log(tmp_path: Path) -> None:
    predictor = fit(tmp_path / "run", ["mlp"], trials=6)
    assert not (tmp_path / "run" / "log.txt").exists()
    assert {row["error"] for row in predictor.leaderboard_json()["rows"]} == {None}


@pytest.mark.usefixtures("broken")
def test_the_command_line_tells_a_line_and_raises_where_asked(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = ["search", "demo", "--rows", "60", "--trials", "24", "--device", "cpu"]
    options = [f"{key}={json.dumps(value)}" for key, value in SHORT.items()]
    command = [*calls, *(part for o in options for part in ("-o", o))]
    command += ["-o", "encoders=[mlp, raising]"]
    assert cli.run([*command, "--run-dir", "run"]) == 0
    told = capsys.readouterr()
    assert "ZeroDivisionError: a row of" in told.err
    assert "Traceback" not in told.err + told.out
    assert "in features" in (workplace / "run" / "log.txt").read_text()
    with pytest.raises(ZeroDivisionError):
        cli.run([*command, "--run-dir", "other", "--raise-errors"])
