"""Trials in several processes: each opens the data itself, and sends back what is done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch

from polymix.data.dataset import Dataset
from polymix.data.split import SealedRows
from polymix.faults import LESS_MEMORY
from polymix.plugins import Imports
from polymix.records import Cost, Status, Trial
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Done, Evaluator
from polymix.train.groups import Group

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
        self.jobs = jobs
        # Unpickled in this order: parts of one's own are known before they are named.
        self._setup = (Imports(), _portable(evaluator), threads, ledger)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> ProcessRunner:
        self._pool = self._make_pool()
        return self

    def _make_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=self._setup,
        )

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
    ) -> Iterator[tuple[Group, list[Done]]]:
        """See `Runner`; epochs are not told across processes.

        A process that dies (out of memory, most often) takes the whole pool with it. What was
        unfinished is then tried one by one, and what breaks the pool again is a lost trial.
        """
        assert self._pool is not None
        unfinished: list[Group] = []
        waiting: dict[Future[list[Done]], Group] = {}
        for group in groups:
            on_start(group)
            try:
                waiting[self._pool.submit(_run, group, deadline)] = group
            except BrokenProcessPool:  # one died while it had nothing to do
                unfinished.append(group)
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except BrokenProcessPool:
                unfinished.append(waiting[future])
        for group in unfinished:
            yield group, self._alone(group, deadline)

    def _alone(self, group: Group, deadline: float | None) -> list[Done]:
        assert self._pool is not None
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._make_pool()
        try:
            return self._pool.submit(_run, group, deadline).result()
        except BrokenProcessPool:
            self._pool = self._make_pool()
            said = f"the process died, twice: killed, or out of memory: {LESS_MEMORY}"
            return [
                (Trial(p, k, Status.LOST, None, Cost(0, 0), error=said), None)
                for p, k in zip(group.proposals, group.keys, strict=True)
            ]


def _portable(evaluator: Evaluator) -> Evaluator:
    """A copy that can be sent to another process; arrays of a folder are opened there anew."""
    dataset = evaluator.dataset
    if dataset.path is not None:
        dataset = replace(dataset, arrays={})
    sealed = replace(dataset.split, test=SealedRows(dataset.split.train[:0]))
    # The ledger stays here: the process opens its own.
    whole = replace(dataset, split=sealed)
    return replace(evaluator, dataset=whole, memory=None, on_features=None)  # type: ignore[arg-type]


def _begin(_: Imports | None, evaluator: Evaluator, threads: int, ledger: Path | str) -> None:
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
