"""What every search strategy must keep (see `polymix.search.protocol`).

A run that is killed (see `polymix.testing.watch`) is taken up again by a new strategy object on the
same ledger.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.split import SealedRows
from polymix.methods.strategies import STRATEGIES, make_strategy
from polymix.nn.build import fit_seconds
from polymix.nn.model import Model
from polymix.records import Proposal, Status
from polymix.search.protocol import AskTell, OneShot, Strategy
from polymix.testing.recorded import Record, record_of, run_strategy
from polymix.testing.watch import Killed, Watch
from polymix.train.evaluate import Done, Evaluator
from polymix.train.groups import Group


class _Opened(SealedRows):
    def open(self) -> np.ndarray:
        raise AssertionError("the test rows were opened")


def _counting(trained: list[str]) -> type[Evaluator]:
    """An evaluator that lists what it trained."""

    class Counting(Evaluator):
        def run(self, group: Group, *rest: Any) -> list[Done]:
            done = super().run(group, *rest)
            trained.extend(trial.key for trial, _ in done)
            return done

    return Counting


_whole: dict[tuple[type, str], tuple[Record, Watch]] = {}


class StrategyContract:
    """What a strategy promises. A subclass defines `make` and a fixture `dataset`, a small one.

    Attributes:
        trials: the budget of every run here.
        kills: the runs are killed after every so many commits.
    """

    trials = 14
    kills: tuple[int, ...] = (1, 3, 4)

    def make(self) -> Strategy:
        """A new strategy object, always of the same options."""
        raise TypeError(f"{type(self).__name__} must define make")

    def left_alone(self, dataset: Dataset, folder: Path) -> tuple[Record, Watch]:
        """The undisturbed run, made once."""
        where = (type(self), dataset.fingerprint)
        if where not in _whole:
            watch = Watch()
            record = run_strategy(
                self.make(), dataset, folder, trials=self.trials, callbacks=[watch]
            )
            _whole[where] = record, watch
        return _whole[where]

    def test_it_is_of_a_kind(self) -> None:
        """It asks, or it trains by itself, or both."""
        assert isinstance(self.make(), AskTell | OneShot)

    def test_options(self) -> None:
        """Options survive the run folder's configuration."""
        strategy = self.make()
        options = strategy.model_dump(mode="json")
        if strategy.name in STRATEGIES:
            assert make_strategy(strategy.name, options) == strategy
        assert type(strategy).model_validate(options).model_dump(mode="json") == options

    def test_seed(self, dataset: Dataset, tmp_path: Path) -> None:
        """The same seed gives the same trials, bit by bit, and another one others."""
        one, _ = self.left_alone(dataset, tmp_path / "a")
        again = run_strategy(self.make(), dataset, tmp_path / "b", trials=self.trials)
        other = run_strategy(self.make(), dataset, tmp_path / "c", trials=self.trials, seed=1)
        assert one == again
        assert not {t["key"] for t in one.trials[:1]} & {t["key"] for t in other.trials[:1]}
        assert [t["predictions"] for t in one.trials] != [t["predictions"] for t in other.trials]

    def test_costs(self, dataset: Dataset, tmp_path: Path) -> None:
        """Trials stay within the budget, and a finished one took the steps that it should."""
        record, _ = self.left_alone(dataset, tmp_path)
        assert 0 < len(record.trials) <= self.trials
        assert record.outcome.standings.chosen is not None
        for trial in record.trials:
            assert trial["status"] is Status.DONE, trial["error"]
            rows = min(trial["fidelity"].rows, len(dataset.split.train))
            rows += trial["recipe"].refit * len(dataset.split.val)
            recipe, epochs = trial["recipe"], len(trial["curve"])
            if fit_seconds(trial["genotype"], dataset.schema, rows) is not None:
                assert (epochs, trial["cost"]["steps"]) == (1, 0)  # it takes no gradient steps
                continue
            assert epochs == trial["fidelity"].epochs or recipe.patience
            assert trial["cost"]["steps"] == epochs * math.ceil(rows / recipe.batch_size)

    def test_killed_after_commits(self, dataset: Dataset, tmp_path: Path) -> None:
        """Killed over and over, it comes to the same end, and trains no finished trial twice."""
        left_alone, watch = self.left_alone(dataset, tmp_path / "whole")
        for every in self.kills:
            trained: list[str] = []
            record, sessions = None, 0
            while record is None:
                killer = Watch(commits=every)
                with suppress(Killed):
                    record = run_strategy(
                        self.make(), dataset, tmp_path / str(every), trials=self.trials,
                        callbacks=[killer], evaluator=_counting(trained),
                    )  # fmt: skip
                sessions += 1
                assert sessions <= watch.commits + 1, "it does not get any further"
            assert sorted(trained) == sorted(trial["key"] for trial in left_alone.trials)
            assert record == left_alone

    def test_killed_within_trials(self, dataset: Dataset, tmp_path: Path) -> None:
        """Killed in the middle of a trial, it goes on from that trial's last epoch."""
        left_alone, watch = self.left_alone(dataset, tmp_path / "whole")
        rng = seeds.stream(0, "kills")
        for moment in sorted(rng.choice(watch.epochs, min(3, watch.epochs), replace=False) + 1):
            killer, rest = Watch(epochs=moment), Watch()
            for callback in (killer, rest):
                with suppress(Killed):
                    record = run_strategy(
                        self.make(), dataset, tmp_path / str(moment), trials=self.trials,
                        callbacks=[callback], checkpoint_after=0.0,
                    )  # fmt: skip
            assert record == left_alone
            # The epoch that was being told of is the only one made twice.
            assert killer.epochs + rest.epochs == watch.epochs + 1

    def test_failing_trial(self, dataset: Dataset, tmp_path: Path) -> None:
        """A trial that fails is written down, and the rest goes on."""
        first = self.left_alone(dataset, tmp_path / "whole")[0].trials[0]

        class Flawed(Evaluator):
            def model(self, proposal: Proposal) -> Model:
                if self.key(proposal) == first["key"]:
                    raise RuntimeError("out of memory, as it were")
                return super().model(proposal)

        watch = Watch()
        record = run_strategy(
            self.make(), dataset, tmp_path / "flawed", trials=self.trials, evaluator=Flawed,
            callbacks=[watch],
        )  # fmt: skip
        failed = [trial for trial in record.trials if trial["status"] is Status.FAILED]
        assert [trial["key"] for trial in failed] == [first["key"]]
        assert failed[0]["error"] == "RuntimeError: out of memory, as it were"
        assert failed[0]["score"] is None
        assert record.outcome.standings.chosen is not None
        assert record.outcome.standings.chosen.key != first["key"]

    def test_sealed_rows(self, dataset: Dataset, tmp_path: Path) -> None:
        """The test rows have no influence."""
        rows = dataset.split.test.open()
        assert len(rows)
        arrays = {}
        for name, array in dataset.arrays.items():
            arrays[name] = array.copy()
            arrays[name][rows] = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max
        targets, present = dataset.targets.copy(), dataset.present.copy()
        targets[rows] = targets.max() + 1
        present[rows] = False
        split = replace(dataset.split, test=_Opened(rows))
        spoilt = replace(dataset, arrays=arrays, targets=targets, present=present, split=split)
        left_alone, _ = self.left_alone(dataset, tmp_path / "whole")
        assert run_strategy(self.make(), spoilt, tmp_path / "x", trials=self.trials) == left_alone


__all__ = ["Killed", "Record", "StrategyContract", "Watch", "record_of", "run_strategy"]
