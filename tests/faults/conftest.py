"""An undisturbed run of each strategy, made once a process, for others to equal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faults.common import Command, begun, left_by, search, write_table


class Whole(NamedTuple):
    """An undisturbed run.

    Attributes:
        left: all that it left.
        seconds: what it took, once it had a folder.
    """

    left: tuple[Any, ...]
    seconds: float


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def table(place: Path) -> Path:
    return write_table(place / "table.csv")


@pytest.fixture(autouse=True)
def _cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMIX_CACHE", str(place / "cache"))


@pytest.fixture(scope="session")
def whole(place: Path, table: Path) -> Callable[..., Whole]:
    made: dict[tuple[str, ...], Whole] = {}

    def of(strategy: str, *more: str) -> Whole:
        if (strategy, *more) not in made:
            path = place / " ".join(["whole", strategy, *more])
            command = Command(search(strategy, table, path, *more), place)
            begun(command, path)
            began = time.monotonic()
            assert command.status == 0, command.output
            made[strategy, *more] = Whole(left_by(path), time.monotonic() - began)
        return made[strategy, *more]

    return of
