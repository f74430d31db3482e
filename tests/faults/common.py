"""The smallest searches of every strategy, in processes of their own that can be hurt."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polymix import seeds
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder

TRIALS = "4"
FULL = ("full_epochs=1",)
CASES: dict[str, tuple[str, ...]] = {
    "mixmas": ("epochs=1", "encoders=[mlp]", "networks=[none]", *FULL),
    "random": ("epochs=1", "encoders=[mlp]", "networks=[none]", "draws=3", *FULL),
    "m2-mixer": ("epochs=1",),
    "mfas": (
        "backbone_epochs=1", "epochs=1", "length=1", "iterations=1", "top=1", "full_width=8", *FULL,
    ),
    "bm-nas": ("backbone_epochs=1", "horizon=2", "steps=1", "channels=8", *FULL),
    "mro": ("horizon=2", "dim=8", "heads=2", "masks=2", *FULL),
    "auto": (),
}  # fmt: skip
"""Every strategy, on two modalities, with the least there is to do."""

ENDED = "POLYMIX_TEST_FAULTS"
"""In the environment of a command and of all that it starts: whoever has it is still there."""

# A server without threads of its own, imports done: a fork of it starts at once and cannot hang.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["polymix.cli", "polymix.runs.search", "polymix.predictor"])

Before = Callable[[], None]


def write_table(path: Path) -> Path:
    """Rows with two numbers, and a text, that tell a class."""
    rng = seeds.stream(0, "faults")
    words = ["red", "blue", "green", "round", "flat", "old", "new", "small"]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["one", "two", "said", "label"])
        for _ in range(90):
            one, two = rng.normal(size=2)
            said = " ".join(rng.choice(words, 6)) + (" sun" if one > 0 else " moon")
            rows.writerow([round(one, 3), round(two, 3), said, "yes" if one + two > 0 else "no"])
    return path


def _work(arguments: Sequence[str], mark: str, said: Path, before: Before | None) -> None:
    """The command line, as a process has it: its streams, its signals and its status."""
    os.environ |= {ENDED: mark, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    os.setsid()
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["polymix", *arguments]
    # A fork of the server handles Ctrl-C as the server does: not at all.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from polymix.cli import main

    if before is not None:
        before()
    main()


@dataclass
class Command:
    """A polymix command in a process of its own.

    Attributes:
        arguments: of the command line.
        folder: where what it said is kept.
        before: what is done in its process before it begins.
    """

    arguments: Sequence[str]
    folder: Path
    before: Before | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.said = self.folder / f"said {self.mark}.txt"
        given = (self.arguments, self.mark, self.said, self.before)
        self.process = FORKS.Process(target=_work, args=given, daemon=False)
        self.process.start()

    def ends_within(self, seconds: float) -> bool:
        """Whether it came to its end by itself within this time."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def send(self, number: int) -> None:
        """A signal to it; nothing where it has ended."""
        if self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid or 0, number)

    @property
    def status(self) -> int:
        """Its exit status, once it has ended, and nothing of it is left."""
        self.process.join(120)
        assert self.process.exitcode is not None, f"it goes on: {self.output}"
        self.no_one_is_left()
        return self.process.exitcode

    @property
    def output(self) -> str:
        """What it said on both streams."""
        return self.said.read_text(errors="replace") if self.said.exists() else ""

    def others(self) -> list[int]:
        """Processes that it started and that are still there."""
        return [pid for pid in _marked(self.mark) if pid != self.process.pid]

    def no_one_is_left(self) -> None:
        """Processes that it started end soon after it.

        Raises:
            AssertionError: some live on.
        """
        until = time.monotonic() + 30
        while (left := self.others()) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left, f"{left} live on: {self.output}"


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{ENDED}={mark}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            gone = b"\nState:\tZ" in (place / "status").read_bytes()
            if not gone and wanted in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


def search(strategy: str, table: Path, path: Path, *more: str) -> list[str]:
    """The command that searches, or goes on with what is there."""
    if (path / "description.json").exists():
        return ["resume", str(path)]
    options = [part for option in CASES[strategy] for part in ("-o", option)]
    return [
        "search", str(table), "--target", "label", "--trials", TRIALS, "--device", "cpu",
        "--strategy", strategy, *options, "--run-dir", str(path), *more,
    ]  # fmt: skip


def begun(command: Command, path: Path, seconds: float = 0.0) -> None:
    """Wait until there is something to lose: the run folder, and some of the work."""
    until = time.monotonic() + 60
    while not (path / "description.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
        assert command.process.exitcode in (None, 0), command.output
    command.ends_within(seconds)


def left_by(path: Path) -> tuple[Any, ...]:
    """All that a finished run left, measured time and the order of its rows aside."""
    with Ledger.open(path / "ledger.sqlite", read_only=True) as ledger:
        trials = {}
        for row in ledger.rows():
            predictions = ledger.predictions(row.key)
            trials[row.key] = (
                row.role, row.trial.status, row.trial.score, repr(row.trial.curve),
                row.trial.weights, row.trial.cost.steps, row.trial.error,
                None if predictions is None else predictions.tobytes(),
            )  # fmt: skip
        epochs = ledger.epochs("search")
    with RunFolder.open(path) as folder:
        assert folder.status == "finished"
        metrics = json.loads(json.dumps(folder.metrics))
        for finalist in metrics["finalists"]:
            del finalist["cpu_s"]
        genotype = json.loads(folder.genotype_json)
    return trials, epochs, genotype, (path / "model.safetensors").read_bytes(), metrics
