"""The same command line on the papers' datasets, on small files in their formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polymix import Predictor
from polymix.cli import run
from polymix.errors import UsageError

from .papers import write_films, write_hdf5, write_meld, write_mimic, write_mosei

QUICK = [
    "-o", "epochs=1", "-o", "full_epochs=1", "-o", "networks=[none]", "-o", "fusions=[concat]",
    "-o", "encoders=[mlp-mixer, mlp]", "-o", "sample_rows=16", "--device", "cpu",
    "--trials", "6",
]  # fmt: skip


def searched(name: str, raw: Path, folder: Path, *settings: str) -> dict[str, Any]:
    """Search, evaluate, and what `evaluate` said."""
    chosen = [part for setting in settings for part in ("-d", setting)]
    command = ["search", name, "--raw", str(raw), "--run-dir", str(folder), *chosen, *QUICK]
    assert run(command) == 0
    assert run(["evaluate", str(folder)]) == 0
    result: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return result


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are others' business, and most of the time."""
    monkeypatch.setattr("polymix.scoring.intervals.DRAWS", 20)


CASES = {
    "mimic": (lambda folder: write_mimic(folder, 400), [], "accuracy"),
    "mimic icd9-7": (write_mimic, ["task=icd9-7"], "accuracy"),
    "mmimdb": (write_hdf5, [], "f1_weighted"),
    "mmimdb folder": (
        lambda folder: write_films(folder, 40, 23, 46),
        ["form=folder", "height=16", "width=16", "length=16", "vocabulary=150"],
        "f1_weighted",
    ),
    "mosei": (write_mosei, [], "neg_mean_absolute_error"),
    "mosei emotion": (write_mosei, ["task=emotion"], "accuracy"),
    "meld": (write_meld, ["length=16", "vocabulary=150"], "accuracy"),
}


@pytest.mark.parametrize("case", CASES)
def test_searched_from_the_command_line(case: str, tmp_path: Path) -> None:
    write, settings, metric = CASES[case]
    raw, folder = write(tmp_path / "raw"), tmp_path / "run"
    result = searched(case.split()[0], raw, folder, *settings)
    assert result["split"] == "test"
    assert metric.startswith("neg") or 0 <= result["metrics"][metric]["value"] <= 1
    if case == "mosei":
        assert {"pearson_r", "accuracy_2", "accuracy_7"} <= set(result["metrics"])
    source = yaml.safe_load((folder / "config.yaml").read_text())["source"]
    assert source["options"] == dict(
        yaml.safe_load(s.replace("=", ": ")).popitem() for s in settings
    )


def test_resuming_and_evaluating_reopen_the_same_data(tmp_path: Path) -> None:
    raw, folder = write_mimic(tmp_path / "raw"), tmp_path / "run"

    class Stop:
        def on_trial_start(self, *_: object) -> None:
            self.count = getattr(self, "count", 0) + 1
            if self.count == 2:
                raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            if name.startswith("on_"):
                return lambda *_, **__: None
            raise AttributeError(name)

    quick = {"epochs": 1, "full_epochs": 1, "networks": ["none"], "fusions": ["concat"]}
    predictor = Predictor(path=folder, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        predictor.fit(
            "mimic", raw=raw, data_options={"task": "icd9-7"}, options=quick, trials=6,
            callbacks=[Stop()],  # type: ignore[list-item]
        )  # fmt: skip
    again = Predictor.resume(folder)
    assert again.label == "respiratory"
    assert set(again.evaluate()["metrics"]) >= {"accuracy"}


def test_settings_that_cannot_be_used(tmp_path: Path, capsys: Any) -> None:
    raw = write_mimic(tmp_path / "raw")
    base = ["search", "mimic", "--raw", str(raw), "--run-dir", str(tmp_path / "run")]
    assert run([*base, "-d", "tsk=icd9-7"]) == 2
    assert "did you mean 'task'" in capsys.readouterr().err
    assert run([*base, "-d", "task"]) == 2
    assert "-d 'task': write key=value" in capsys.readouterr().err
    assert run([*base, "-d", "task=icd"]) == 2
    assert "no task 'icd'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    from polymix.datasets import open_dataset

    with pytest.raises(UsageError, match=r"^data_options is for datasets given by name: omit it$"):
        Predictor(path=tmp_path / "run").fit(
            open_dataset("mimic", raw=raw), data_options={"task": "mortality"}
        )
