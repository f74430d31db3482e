"""What the hostile suites share: a tiny run, a command asked of it, and the rule.

The rule: exit 0, or exit 2 with a sentence for each problem; never a traceback, nothing written but
in the run folder and the cache, no connection.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polymix.cli import run
from polymix.store import integrity as seals
from polymix.store.files import sha256, to_json

OPTIONS = (
    "--target", "y", "--strategy", "mixmas", "--trials", "4", "--folds", "0",
    "--column-types", "words=learned_text", "-o", "epochs=1", "-o", "full_epochs=1",
    "-o", "encoders=[mlp]", "-o", "networks=[none]",
)  # fmt: skip
COMMANDS: dict[str, list[str]] = {
    "leaderboard": ["leaderboard", "run"],
    "predict": ["predict", "run", "rows.csv"],
    "evaluate": ["evaluate", "run"],
    "evaluate rows": ["evaluate", "run", "rows.csv"],
    "explain": ["explain", "run"],
    "resume": ["resume", "run"],
}
LONGEST_S = 60


def table(rows: int = 60, seed: int = 0) -> pd.DataFrame:
    """Numbers, categories and texts that tell the label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    return pd.DataFrame(
        {
            "size": np.round(y * 2 + rng.normal(size=rows), 3),
            "colour": np.where(rng.random(rows) < 0.5, "red", "blue"),
            "words": [f"{'good' if v else 'bad'} film x{i % 5}" for i, v in enumerate(y)],
            "y": np.where(y, "yes", "no"),
        }
    )


def make_run(place: Path) -> None:
    """A table, other rows, and a finished run on it; to be called in `place`."""
    table().to_csv(place / "table.csv", index=False)
    table(12, seed=1).to_csv(place / "rows.csv", index=False)
    assert run(["search", "table.csv", *OPTIONS, "--run-dir", "run"]) == 0
    assert run(["evaluate", "run"]) == 0


@dataclass
class Victim:
    """A finished run that is damaged again and again.

    Attributes:
        place: the folder to work in, with `table.csv`, `rows.csv` and `run`.
        whole: a copy of the run as it was.
        tally: how many cases were refused and survived, by what was done.
    """

    place: Path
    whole: Path
    capsys: pytest.CaptureFixture[str]
    tally: Counter[str] = field(default_factory=Counter)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.place / "run"

    def restore(self) -> None:
        """Put the run as it was in place of what is there."""
        if self.run.is_symlink() or not self.run.is_dir():
            self.run.unlink(missing_ok=True)
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.whole, self.run)

    def ask(self, command: str, what: str) -> int:
        """Ask a command of the damaged run, and hold it to the rule; its status."""
        before = outside(self.place)
        self.capsys.readouterr()
        start = time.monotonic()
        status = run(COMMANDS[command])
        said = self.capsys.readouterr()
        case = f"{what}, {command}: {said.err[-2000:]}"
        assert time.monotonic() - start < LONGEST_S, case
        assert status in (0, 2), case
        assert "Traceback" not in said.err, case
        told = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert bool(told) == (status == 2), case
        assert "\x1b" not in said.err + said.out, case
        assert outside(self.place) == before, case
        self.tally["refused" if status else "survived"] += 1
        return status

    def reseal(self, name: str, data: bytes) -> None:
        """Put a file in place of the run's, each digest and the seal made right."""
        (self.run / name).write_bytes(data)
        description = json.loads((self.run / "description.json").read_text())
        if name == "description.json":
            description = json.loads(data)
        else:
            description["files"][name] = sha256(data)
        (self.run / "description.json").write_bytes(seals.sealed(description))


def outside(place: Path) -> dict[str, str]:
    """All that lies in a folder besides its run and the cache, by its content."""
    found = {}
    for folder, names, files in os.walk(place):
        names[:] = [n for n in names if Path(folder, n) not in (place / "run", place / "cache")]
        for name in [*names, *files]:
            path = Path(folder, name)
            plain = path.is_file() and not path.is_symlink()
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else ""
    return found


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of a JSON value's values, containers among them."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for key, inner in inside:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def changed(value: Any, place: tuple[str | int, ...], to: Any) -> Any:
    """A JSON value with another one in a place."""
    made = json.loads(json.dumps(value))
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = to
    return made


def as_json(value: Any) -> bytes:
    """JSON, whatever numbers it has."""
    try:
        return to_json(value)
    except (ValueError, TypeError):
        return json.dumps(value).encode()
