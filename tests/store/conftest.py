from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from polymix.genotype import Block, Genotype
from polymix.registry import register
from polymix.store import Ledger


@register
class ToyGenotype(Genotype):
    """A genotype that only these tests know."""

    kind: ClassVar[str] = "store-toy"

    name: str
    blocks: tuple[Block, ...] = ()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, which only a power cut would tell apart."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened
