"""The project's own files: what they show is run, what they promise is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import polymix
from cli_support import shared_cache

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def python(*arguments: str | Path, here: Path, **variables: str) -> str:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=here, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_examples_of_contributing_keep_their_contracts(tmp_path):
    for block in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    parts = ("strips", "gate", "product", "widths", "widest", "geometric", "slowest", "coins")
    names = {f"{prefix}{part}.py" for part in parts for prefix in ("", "test_")}
    assert {path.name for path in tmp_path.iterdir()} == names
    out = python(
        "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
        here=tmp_path,
        PYTHONPATH=os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(":")]),
    )  # fmt: skip
    assert re.search(r"\d+ passed", out)
    assert "skipped" not in out


@pytest.mark.slow
def test_the_examples_of_the_readme_run(tmp_path, tmp_path_factory):
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert blocks
    for number, block in enumerate(blocks):
        quick = re.sub(r"time_limit=\S+?([,)])", r"time_limit=20\1", block)
        (tmp_path / f"block{number}.py").write_text(quick)
        cache = str(shared_cache(tmp_path_factory))
        python(f"block{number}.py", here=tmp_path, POLYMIX_CACHE=cache)


@pytest.mark.slow
def test_the_example_script_runs(tmp_path, tmp_path_factory):
    out = python(
        ROOT / "examples/own_encoder.py", "--time-limit", "20s",
        here=tmp_path, POLYMIX_CACHE=str(shared_cache(tmp_path_factory)),
    )  # fmt: skip
    assert "strips" in out
    assert "on 750 test rows" in out
    assert (tmp_path / "runs/demo/evaluation.json").is_file()


def test_every_public_name_is_shown():
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {name for page in pages for block in BLOCK.findall(page.read_text())
             for name in re.findall(r"\w+", block)}  # fmt: skip
    for path in (ROOT / "examples").glob("*.py"):
        shown |= set(re.findall(r"\w+", path.read_text()))
    assert set(polymix.__all__) - {"__version__"} <= shown
    for name in polymix.__all__:
        assert getattr(polymix, name) is not None
    assert set(polymix.__all__) <= set(dir(polymix))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_commands_that_pages_show_exist():
    from polymix.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    for page in PAGES:
        shown = re.findall(r"^ {4}(?:\$ )?polymix ([a-z]+)", page.read_text(), re.MULTILINE)
        assert set(shown) <= known, page.name


def test_the_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == polymix.__version__
    assert f"## {polymix.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_everything_that_is_installed_is_pinned():
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    asked = {re.sub(r"[-_.]+", "-", re.split(r"[\s;\[<>=!~]", line)[0]).lower() for line in lines}
    assert asked - {"polymix"} <= pinned


def test_sources_are_not_ignored():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    sources = [str(path) for path in (ROOT / "src").rglob("*.py")]
    done = subprocess.run(
        ["git", "check-ignore", *sources], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_the_license_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_make_says_what_it_can_do():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "test-slow", "lint", "format", "docs", "clean", "help"):
        assert f"make {target} " in done.stdout


def test_a_python_that_is_too_old_is_told(tmp_path):
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        (tmp_path / name).write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.1\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(ROOT), "demo", f"VENV={tmp_path / 'venv'}"],
        env=os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin", "MAKEFLAGS": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "polymix needs Python 3.11 or later" in done.stderr
    assert "found: Python 3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()
