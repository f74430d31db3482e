"""`kill -9` at any moment: taken up again, a run comes to the same end."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time

import pytest

from polymix import seeds
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.predictor import Predictor
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
from polymix.testing import toy_dataset

TRIALS = 14


def work(path):
    """Fit, or go on with what is there. Runs in a process of its own."""
    data = toy_dataset(200)
    if (path / "description.json").exists():
        Predictor.resume(path, data)
        return
    strategy = MixMAS(
        encoders={"image": ["mlp-mixer", "mlp"], "series": ["mlp-mixer", "mlp"]},
        networks=["none", "mlp-mixer"], fusions=["concat", "mean"], epochs=3, full_epochs=6,
    )  # fmt: skip
    Predictor(path=path, device="cpu").fit(data, trials=TRIALS, strategy=strategy)


# A server without threads of its own, imports done: a fork of it starts at once and cannot hang.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["polymix.predictor", "polymix.testing.toys"])


def start(path):
    child = FORKS.Process(target=work, args=(path,), daemon=True)
    child.start()
    return child


def finish(child, seconds):
    """Whether the process came to its end by itself within this time; killed otherwise."""
    child.join(seconds)
    ended = child.exitcode is not None
    if not ended:
        child.kill()
        child.join()
    assert not ended or child.exitcode == 0
    child.close()
    return ended


def left_by(path):
    """All that the run left, measured time aside."""
    with Ledger.open(path / "ledger.sqlite") as ledger:
        rows = ledger.rows()
        trials = [
            (r.key, r.role, r.trial.status, r.trial.score, repr(r.trial.curve), r.trial.weights,
             r.trial.cost.steps, ledger.predictions(r.key).tobytes())
            for r in rows
        ]  # fmt: skip
    with RunFolder.open(path) as folder:
        assert folder.status == "finished"
        metrics = json.loads(json.dumps(folder.metrics))
        for finalist in metrics["finalists"]:
            del finalist["cpu_s"]
        genotype = json.loads(folder.genotype_json)
    return trials, genotype, (path / "model.safetensors").read_bytes(), metrics


def test_killed_at_random_moments(tmp_path):
    began = time.monotonic()
    assert finish(start(tmp_path / "whole"), 200)
    took = time.monotonic() - began
    expected = left_by(tmp_path / "whole")
    assert 10 < len(expected[0]) <= TRIALS
    rng, path = seeds.stream(0, "kills"), tmp_path / "killed"
    kills = sessions = 0
    while kills < 10 and sessions < 40:
        sessions += 1
        if finish(start(path), took * rng.uniform(0.02, 0.5)):
            path = tmp_path / f"killed {sessions}"  # too quick for us: again from the start
        else:
            kills += 1
    assert finish(start(path), 200)
    assert left_by(path) == expected
    for other in tmp_path.glob("killed*"):
        if other != path and (other / "model.safetensors").exists():
            assert left_by(other) == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_killed_at_random_moments(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    options = ["-o", "epochs=2", "-o", "full_epochs=2", "-o", "networks=[none]"]
    command = [sys.executable, "-c", "from polymix.cli import main; main()"]

    def run(path, seconds):
        known = (path / "description.json").exists()
        asked = ["resume", str(path)] if known else [
            "search", "demo", "--trials", "16", "--rows", "1000", "--device", "cpu",
            "--run-dir", str(path), *options,
        ]  # fmt: skip
        process = subprocess.Popen(
            [*command, *asked], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return False
        assert process.returncode == 0, said
        return True

    began = time.monotonic()
    assert run(tmp_path / "whole", 1000)
    took = time.monotonic() - began
    rng, kills = seeds.stream(1, "kills"), 0
    while kills < 10:
        ended = run(tmp_path / "killed", 4 + 0.25 * took * rng.random())
        if ended:
            break
        kills += 1
    assert kills >= 3
    assert run(tmp_path / "killed", 1000)
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "whole")
