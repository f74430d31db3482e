from __future__ import annotations

import shutil
import socket
import sys
from collections import Counter

import pytest

from .cases import Victim, make_run


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever is asked for, nobody is called."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def tally():
    """What became of a module's cases; printed at its end."""
    counted = Counter()
    yield counted
    told = ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))
    print(f"\nhostile cases: {told or 'none'}", file=sys.__stderr__)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table, other rows, a finished run, and a copy of it."""
    place = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("POLYMIX_CACHE", str(place / "cache"))
        patch.setattr("polymix.runs.request.default_threads", lambda jobs: 1)
        make_run(place)
    whole = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(place / "run", whole)
    return place, whole


@pytest.fixture
def victim(place, tally, capsys, monkeypatch):
    """The run, whole again, to be damaged."""
    where, whole = place
    monkeypatch.chdir(where)
    monkeypatch.setenv("POLYMIX_CACHE", str(where / "cache"))
    found = Victim(where, whole, capsys, tally)
    found.restore()
    return found
