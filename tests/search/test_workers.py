"""Processes make the same trials as one process does, and die with the one that asked."""

from __future__ import annotations

import os
import select
import signal

from polymix.records import Budget, Fidelity
from polymix.search.mixmas import MixMAS
from polymix.search.workers import ProcessRunner
from polymix.store import Ledger
from polymix.testing import ToyAskTell, toy_dataset
from polymix.testing.strategies import record_of
from polymix.train.evaluate import Evaluator
from polymix.train.metrics import metric_for


def run(strategy, data, folder, jobs):
    from polymix.search.bench import LocalRunner
    from polymix.search.driver import Driver

    folder.mkdir()
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, metric_for(data.schema.target.task), ledger, folder / "bank")
        runner = (
            LocalRunner(evaluator) if jobs == 1
            else ProcessRunner(evaluator, jobs, 1, folder / "ledger.sqlite")
        )  # fmt: skip
        driver = Driver(evaluator, runner, ledger, strategy, Budget(trials=16))
        return record_of(ledger, driver.run())


def test_two_processes_make_the_same_trials(tmp_path):
    data = toy_dataset(80, ("series", "table"))  # backbones one by one, candidates in stacks
    made = [run(ToyAskTell(cohorts=1), data, tmp_path / str(jobs), jobs) for jobs in (1, 2)]
    assert made[0] == made[1]


def test_processes_do_not_outlive_the_one_that_asked(tmp_path):
    data = toy_dataset(60, ("series",))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        os.close(reader)
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            evaluator = Evaluator(
                data, metric_for(data.schema.target.task), ledger, tmp_path / "bank"
            )
            with ProcessRunner(evaluator, 1, 1, tmp_path / "ledger.sqlite") as runner:
                strategy = MixMAS(encoders=["mlp"])
                from search.common import task

                strategy.setup(task(data.schema))
                asked = strategy.ask()[0].at(Fidelity(10, 1, 0))
                list(runner.run(evaluator.groups([asked]), None, print, print))
                (worker,) = runner._pool._processes.values()
                os.write(writer, f"{worker.pid}\n".encode())
                signal.pause()
        os._exit(1)
    os.close(writer)
    try:
        assert select.select([reader], [], [], 60)[0]
        worker = os.pidfd_open(int(os.read(reader, 100)))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
    assert select.select([worker], [], [], 30)[0], "the worker lives on"
    os.close(worker)
