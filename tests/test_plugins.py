"""Parts of one's own: imported by name, by a file, by an installed package; or refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_support import shared_cache

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_parts.py"
RUN = [sys.executable, "-c", "from polymix.cli import main; main()"]
SEARCH = [
    "search", "demo", "--rows", "200", "--trials", "16", "--device", "cpu", "--strategy", "halves",
    "--metric", "geometric", "-o", "encoders=[strips]", "-o", "fusions=[product]",
    "-o", "full_epochs=2", "--run-dir", "run",
]  # fmt: skip


@pytest.fixture
def polymix(tmp_path, tmp_path_factory):
    """Runs a command line in an empty folder, in a process of its own."""

    def run(*arguments: str, path: str = "", kill: float | None = None):
        inherited = os.environ.get("PYTHONPATH", "")
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
            "POLYMIX_CACHE": str(shared_cache(tmp_path_factory)),
            "PYTHONPATH": os.pathsep.join(p for p in (path, inherited) if p),
        }  # fmt: skip
        process = subprocess.Popen(
            [*RUN, *arguments], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if kill is not None:
            ledger = tmp_path / "run" / "ledger.sqlite"
            while process.poll() is None and not ledger.exists():
                time.sleep(0.02)
            time.sleep(kill)
            process.kill()
        out, err = process.communicate(timeout=200)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


def mine(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text())


def test_a_run_with_parts_of_one_s_own_survives_kill_9(polymix, tmp_path):
    mine(tmp_path)
    killed = polymix(*SEARCH, "--import", "mine", kill=0.3)
    assert killed.returncode == -9
    refused = polymix("resume", "run")
    assert refused.returncode == 2
    *_, said = refused.stderr.splitlines()
    assert said == (
        "error: run was made with parts of its own: if you trust them, add --import mine"
    )
    done = polymix("resume", "run", "--import", "mine")
    assert done.returncode == 0, done.stderr
    assert "polymix evaluate run --import mine" in done.stdout
    assert "imports:\n- mine" in (tmp_path / "run" / "config.yaml").read_text()
    board = json.loads(polymix("leaderboard", "run", "--json").stdout)
    assert board["metric"] == "geometric"
    won = json.loads((tmp_path / "run" / "genotype.json").read_text())
    assert "strips" in json.dumps(board)
    assert "product" in json.dumps(board)
    assert won["kind"] == "mix"
    scored = polymix("evaluate", "run", "--json", "--import", "mine.py")
    assert scored.returncode == 0, scored.stderr
    assert "geometric" in json.loads(scored.stdout)["metrics"]
    assert polymix("evaluate", "run").returncode == 2


def test_an_installed_package_s_parts_are_there(polymix, tmp_path):
    site = tmp_path / "site"
    for name, point in {"parts": "mine = mine", "broken": "broken = nowhere.to_be_found"}.items():
        about = site / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[polymix]\n{point}\n")
    mine(site)
    done = polymix(*SEARCH, "--jobs", "2", path=str(site))
    assert done.returncode == 0, done.stderr
    (warned,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warned == (
        "warning: entry point 'broken' of broken was left out: importing nowhere.to_be_found "
        "failed with ModuleNotFoundError: No module named 'nowhere'"
    )
    assert "imports: []" in (tmp_path / "run" / "config.yaml").read_text()
    assert polymix("evaluate", "run", path=str(site)).returncode == 0


def test_what_cannot_be_imported_is_told_at_once(polymix, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "poor.py").write_text(
        "from polymix import Encoder, register\n\n\n@register\nclass Poor(Encoder):\n    pass\n"
    )
    names = ["broken", "poor", "missing.py", "nowhere"]
    said = polymix("search", "demo", *(word for name in names for word in ("--import", name)))
    assert said.returncode == 2
    assert said.stderr.splitlines() == [
        "error: --import broken: ZeroDivisionError: division by zero",
        "error: --import poor: Poor is no encoder yet: no name: an encoder is known by its 'name'",
        "error: --import poor: Poor is no encoder yet: no VERSION: a whole number, raised when "
        "outputs change for the same weights",
        "error: --import poor: Poor is no encoder yet: no kinds: a frozenset of the kinds of "
        "modality it takes",
        "error: --import poor: Poor is no encoder yet: no method features",
        "error: --import poor: Poor is no encoder yet: no presets: options by preset, such as "
        "{'small': {}}",
        "error: --import missing.py: there is no such file",
        "error: --import nowhere: ModuleNotFoundError: No module named 'nowhere'",
    ]
    assert not (tmp_path / "runs").exists()


def test_another_process_knows_the_same_parts(tmp_path):
    mine(tmp_path)
    send = (
        "import pickle, sys\n"
        "from polymix import plugins\n"
        "plugins.load([sys.argv[1]])\n"
        "from polymix.scoring.metrics import METRICS\n"
        "sys.stdout.buffer.write(pickle.dumps((plugins.Imports(), METRICS['geometric'])))\n"
    )
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[1].name)"
    sent = subprocess.run(
        [sys.executable, "-c", send, str(tmp_path / "mine.py")], capture_output=True, check=True
    )
    found = subprocess.run(
        [sys.executable, "-c", code], input=sent.stdout, capture_output=True, check=True
    )
    assert found.stdout.decode().strip() == "geometric"
