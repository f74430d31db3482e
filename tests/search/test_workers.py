"""Processes make the same trials as one process does, and die with the one that asked."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass, fields, replace

from polymix.genotype import Block
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.records import Budget, Fidelity, Proposal, Status
from polymix.scoring.metrics import metric_for
from polymix.search.workers import ProcessRunner
from polymix.space.mix import MixGenotype
from polymix.store import Ledger
from polymix.testing import ToyAskTell, toy_dataset
from polymix.testing.strategies import record_of
from polymix.train.evaluate import Evaluator


def run(strategy, data, folder, jobs):
    from polymix.comparators.standard import STANDARD
    from polymix.search.driver import Driver
    from polymix.search.trial_runner import LocalRunner

    folder.mkdir()
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, metric_for(data.schema.target.task), ledger, folder / "bank")
        runner = (
            LocalRunner(evaluator) if jobs == 1
            else ProcessRunner(evaluator, jobs, 1, folder / "ledger.sqlite")
        )  # fmt: skip
        driver = Driver(
            evaluator, runner, ledger, strategy, Budget(trials=16), comparators=STANDARD
        )
        return record_of(ledger, driver.run())


def test_two_processes_make_the_same_trials(tmp_path):
    data = toy_dataset(80, ("series", "table"))  # backbones one by one, candidates in stacks
    made = [run(ToyAskTell(cohorts=1), data, tmp_path / str(jobs), jobs) for jobs in (1, 2)]
    # Whoever is done first is written down first; nothing else may differ.
    one, two = (replace(r, trials=tuple(sorted(r.trials, key=lambda t: t["key"]))) for r in made)
    assert one == two


def test_a_process_that_dies_is_a_lost_trial(tmp_path, monkeypatch):
    data = toy_dataset(60, ("series",))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, metric_for(data.schema.target.task), ledger, tmp_path / "bank")
        blocks = [Block.of("mlp"), Block.of("mlp", channels=3)]
        asked = [
            Proposal(MixGenotype.single("series", block), Fidelity(10, 1, 0)) for block in blocks
        ]
        groups = evaluator.groups(asked)
        monkeypatch.setenv("POLYMIX_TEST_DIES", groups[1].keys[0])
        with ProcessRunner(Dying(**vars_of(evaluator)), 1, 1, tmp_path / "ledger.sqlite") as runner:
            ended = {g.keys[0]: d[0][0] for g, d in runner.run(groups, None, print, print)}
    assert ended[groups[0].keys[0]].status is Status.DONE
    dead = ended[groups[1].keys[0]]
    assert dead.status is Status.LOST
    assert dead.failed
    assert "the process died, twice" in dead.error
    assert "batch_size" in dead.error


def test_a_process_that_died_while_it_had_nothing_to_do(tmp_path):
    data = toy_dataset(60, ("series",))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, metric_for(data.schema.target.task), ledger, tmp_path / "bank")
        asked = [
            Proposal(MixGenotype.single("series", Block.of("mlp")), Fidelity(10, 1, seed))
            for seed in (0, 1)
        ]
        first, second = evaluator.groups(asked)
        with ProcessRunner(evaluator, 1, 1, tmp_path / "ledger.sqlite") as runner:
            list(runner.run([first], None, print, print))
            (worker,) = runner._pool._processes.values()
            os.kill(worker.pid, signal.SIGKILL)
            worker.join(60)
            ((_, done),) = runner.run([second], None, print, print)
    assert done[0][0].status is Status.DONE


@dataclass
class Dying(Evaluator):
    """Takes its process down with one of the trials."""

    def run(self, group, deadline=None, on_epoch=None):
        if group.keys[0] == os.environ["POLYMIX_TEST_DIES"]:
            os._exit(9)
        return super().run(group, deadline, on_epoch)


def vars_of(evaluator):
    return {f.name: getattr(evaluator, f.name) for f in fields(evaluator)}


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
