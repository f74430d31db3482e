"""A supernet's epochs within the clock: a few timed steps, a deadline, and what is recorded."""

from __future__ import annotations

import math
import time

import pytest
from pydantic import PrivateAttr

from polymix.search.clock import Clock
from polymix.search.one_shot import CUT, LEAST_EPOCHS, PROBE_ROWS, Pace
from polymix.testing import ToyOneShot, toy_dataset
from polymix.testing.recorded import run_strategy
from polymix.testing.watch import Killed, Watch
from polymix.train.supernet import Cutoff, RowLoader


@pytest.fixture(scope="module")
def data():
    return toy_dataset(400, ("series", "table"))


class Counting(ToyOneShot):
    """Says how many rows each epoch trained on, and takes its time for each step."""

    _rows: list[int] = PrivateAttr(default_factory=list)
    _pause: float = PrivateAttr(default=0.0)

    def epoch(self, trainer, train, val):
        given = []
        step = trainer.step

        def counted(loss, optimizer):
            given.append(1)
            time.sleep(self._pause)
            step(loss, optimizer)

        trainer.step = counted
        try:
            return super().epoch(trainer, train, val)
        finally:
            trainer.step = step
            self._rows.append(len(given))


class Decisions(Watch):
    """Keeps what was decided."""

    def __init__(self, commits=math.inf):
        super().__init__(commits)
        self.values = {}

    def on_decision(self, name, value):
        self.values[name] = value


def test_no_whole_epoch_is_timed_and_thrown_away(data, tmp_path):
    strategy = Counting(horizon=6)
    strategy._rows, strategy._pause = [], 0.01
    decided = Decisions()
    record = run_strategy(strategy, data, tmp_path, seconds=60.0, callbacks=[decided])
    probes, epochs = strategy._rows[:2], strategy._rows[2:]
    assert len(epochs) == len(record.epochs) == decided.values["search: horizon"] == 6
    assert decided.values["search: rows"] == [len(data.split.train), len(data.split.val)]
    assert len(probes) == 2
    assert max(probes) <= max(epochs)


def test_where_few_epochs_fit_each_has_fewer_rows(tmp_path):
    data = toy_dataset(6000, ("series", "table"))
    strategy = Counting(horizon=20, batch_size=16)
    strategy._rows, strategy._pause = [], 0.01
    decided = Decisions()
    began = time.monotonic()
    record = run_strategy(strategy, data, tmp_path, seconds=6.0, callbacks=[decided])
    train, val = decided.values["search: rows"]
    assert PROBE_ROWS[1] <= train < len(data.split.train)
    assert PROBE_ROWS[1] <= val <= len(data.split.val)
    assert 1 <= len(record.epochs) <= decided.values["search: horizon"] <= LEAST_EPOCHS
    assert any("training rows an epoch" in note for note in record.outcome.notes)
    assert time.monotonic() - began < 30


def test_the_deadline_ends_an_epochs_steps_and_the_search(data, tmp_path, monkeypatch):
    """Wherever it is killed then, the epochs that were written down are the same."""
    monkeypatch.setattr("polymix.search.one_shot.Pace.epoch", lambda *_: 1e-3)  # far too hopeful
    strategy = Counting(horizon=50)
    strategy._rows, strategy._pause = [], 0.05
    record = run_strategy(strategy, data, tmp_path, seconds=4.0)
    numbers = [dict(r.numbers) for r in record.epochs]
    assert len(numbers) < 50
    assert [CUT in told for told in numbers] == [False] * (len(numbers) - 1) + [True]
    assert 0 < numbers[-1][CUT] < 1
    assert any("--time-limit ended the supernet's training" in n for n in record.outcome.notes)
    again = Counting(horizon=50)
    again._rows = []
    repeated = run_strategy(again, data, tmp_path, seconds=4.0)
    assert repeated.epochs == record.epochs
    assert again._rows == []


def test_a_search_that_was_killed_keeps_its_deadline(data, tmp_path, monkeypatch):
    first, second = Decisions(2), Decisions()
    with pytest.raises(Killed):
        run_strategy(Counting(horizon=4), data, tmp_path, seconds=60.0, callbacks=[first])
    monkeypatch.setattr(Clock, "used", property(lambda self: 1e6))  # all of it was used
    record = run_strategy(Counting(horizon=4), data, tmp_path, seconds=60.0, callbacks=[second])
    assert not {"search: horizon", "search: rows", "search: until"} & set(second.values)
    assert [CUT in dict(r.numbers) for r in record.epochs] == [False, False, True]


def test_without_a_time_limit_no_clock_is_asked(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Cutoff, "comes", lambda self: pytest.fail("a clock was asked"))
    decided = Decisions()
    record = run_strategy(Counting(horizon=3), data, tmp_path, trials=4, callbacks=[decided])
    assert len(record.epochs) == 3
    assert {n for n in decided.values if n.startswith("search")} == {"search: horizon"}


class Plain:
    """A source whose batches are their rows."""

    def batch(self, rows):
        return list(rows)


def test_a_loader_gives_other_rows_in_each_epoch_and_stops_where_told():
    import numpy as np

    loader = RowLoader(Plain(), np.arange(100), 0, most=30)
    epochs = [[row for batch in loader.shuffled(8, e) for row in batch] for e in (0, 1)]
    assert len(loader) == 30
    assert [len(set(rows)) for rows in epochs] == [30, 30]
    assert set(epochs[0]) != set(epochs[1])
    assert epochs[0] == [row for batch in loader.shuffled(8, 0) for row in batch]
    for least in (1, 3):
        cutoff = Cutoff(-math.inf, least)
        late = RowLoader(Plain(), np.arange(100), 0, cutoff=cutoff)
        assert len(list(late.shuffled(8, 0))) == least
        assert late.stopped
        assert late.over(Plain()).stopped
        assert cutoff.given == 8 * least
    cutoff = Cutoff(math.inf)
    assert len(list(RowLoader(Plain(), np.arange(20), 0, cutoff=cutoff).shuffled(8, 0))) == 3
    assert (cutoff.given, cutoff.passed) == (20, False)


def test_a_pace_is_of_rows_and_of_what_follows_them():
    pace = Pace(row=0.5, after=2.0, val=0.25)
    assert pace.tail(8) == 4.0
    assert pace.epoch(10, 8) == 9.0
