"""Trials in several processes: each opens the data itself, and sends trials back in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch

from polymix.data.dataset import Dataset
from polymix.data.split import SealedRows
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Done, Evaluator, Group

_worker: Evaluator | None = None


class ProcessRunner(AbstractContextManager["ProcessRunner"]):
    """Runs groups in `jobs` processes.

    Args:
        evaluator: what each process gets a copy of.
        jobs: how many processes.
        threads: of each.
        ledger: where each reads weights and keeps checkpoints.
    """

    def __init__(self, evaluator: Evaluator, jobs: int, threads: int, ledger: Path | str) -> None:
        self._setup = (_portable(evaluator), threads, ledger)
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> ProcessRunner:
        self._pool = ProcessPoolExecutor(
            self._jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=self._setup,
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            if error[0] is not None:
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(
        self,
        groups: Sequence[Group],
        deadline: float | None,
        on_epoch: Callable[[int, float], None],  # noqa: ARG002
        on_start: Callable[[Group], None],
    ) -> Iterator[list[Done]]:
        """See `Runner`; epochs are not told across processes."""
        assert self._pool is not None
        waiting: list[tuple[Group, Future[list[Done]]]] = [
            (group, self._pool.submit(_run, group, deadline)) for group in groups
        ]
        for group, future in waiting:
            on_start(group)
            yield future.result()


def _portable(evaluator: Evaluator) -> Evaluator:
    """A copy that can be sent to another process; arrays of a folder are opened there anew."""
    dataset = evaluator.dataset
    if dataset.path is not None:
        dataset = replace(dataset, arrays={})
    sealed = replace(dataset.split, test=SealedRows(dataset.split.train[:0]))
    # The ledger stays here: the process opens its own.
    whole = replace(dataset, split=sealed)
    return replace(evaluator, dataset=whole, memory=None, on_features=None)  # type: ignore[arg-type]


def _begin(evaluator: Evaluator, threads: int, ledger: Path | str) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    dataset = evaluator.dataset
    if dataset.path is not None:
        dataset = replace(dataset, arrays=Dataset.open(dataset.path).arrays)
    _worker = replace(evaluator, dataset=dataset, memory=Ledger.open(ledger))


def _follow() -> None:
    """Die with the process that asked: one that was killed could not say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(group: Group, deadline: float | None) -> list[Done]:
    assert _worker is not None
    return _worker.run(group, deadline)
