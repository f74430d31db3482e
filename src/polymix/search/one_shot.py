"""A one-shot strategy's epochs: through the ledger, and within the clock.

    how many, and on how many rows     decided once, by a few steps that are timed and thrown away
    an epoch                           written down with the state that it leaves
    the deadline                       ends an epoch's steps, and the search with that epoch

Without a time limit no clock is asked. With one, all that it decided is in the ledger: the epochs
there will be, the rows of each, until when there are any, and in an epoch's record how far it went.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from polymix.data.batch import RowSource
from polymix.data.sample import draw_sample
from polymix.errors import SearchError
from polymix.records import EpochRecord
from polymix.search.protocol import OneShot
from polymix.search.run import Run
from polymix.train.supernet import Cutoff, RowLoader, SupernetTrainer

NAME = "search"
"""What the ledger calls the epochs and their state."""

CUT = "cut at"
"""In the record of an epoch that the deadline ended: the share of its rows that were trained on."""

LEAST_SHARE = 0.25
"""Of a search, what its supernet has at least, however long backbones took before it."""

LEAST_EPOCHS = 5
"""Where fewer would fit, each has fewer rows: a strategy warms up and derives by epochs."""

PROBE_SHARE = 0.04
"""Of the supernet's time, what the steps of a probe may take."""

PROBE_STEPS = 3
"""What a probe has at least."""

PROBE_ROWS = (1024, 256)
"""Validation rows of two probes: what follows an epoch's steps costs something, and more a row."""


@dataclass(frozen=True)
class Pace:
    """What an epoch takes.

    Attributes:
        row: seconds a training row.
        after: seconds of what follows the steps, whatever the rows.
        val: seconds of that a validation row.
    """

    row: float
    after: float
    val: float

    def tail(self, val: int) -> float:
        """Seconds of what follows an epoch's steps."""
        return self.after + self.val * val

    def epoch(self, train: int, val: int) -> float:
        """Seconds of an epoch."""
        return self.row * train + self.tail(val)


class OneShotSearch:
    """Runs a one-shot strategy's epochs, from where the ledger has them.

    Args:
        run: whose budget they spend.
        strategy: what trains a supernet.
        share: of the limit, what the strategy's own search may take.
    """

    def __init__(self, run: Run, strategy: OneShot, share: float) -> None:
        self.state, self.strategy, self._share = run, strategy, share
        evaluator = run.evaluator
        source, split = RowSource(evaluator.dataset, evaluator.device), evaluator.dataset.split
        self._trainer = SupernetTrainer(evaluator, run.seed)
        self._train = RowLoader(source, split.train, run.seed)
        self._val = RowLoader(source, split.val, run.seed)

    def run(self) -> float:
        """Train to the horizon or to the deadline; the FLOPs that all epochs took."""
        ledger, strategy = self.state.ledger, self.strategy
        horizon = self._horizon()
        strategy.start(horizon, self._trainer)
        done = ledger.epochs(NAME)
        if done:
            kept = ledger.load_checkpoint(NAME)
            assert kept is not None
            strategy.load_state(*kept)
        for record in done:
            self._tell(record, horizon, fresh=False)
        while len(done) < horizon and not any(_was_cut(record) for record in done):
            record = self._epoch(len(done))
            tensors, meta = strategy.state()
            ledger.put_epoch(NAME, record, tensors, dict(meta))
            self.state.clock.tick()
            self._tell(record, horizon, fresh=True)
            done.append(record)
        self._note(done, horizon)
        return sum(dict(record.numbers).get("flops", 0.0) for record in done)

    def _epoch(self, number: int) -> EpochRecord:
        cutoff = None if self._until is None else Cutoff(self._moment(self._until))
        record = self.strategy.epoch(self._trainer, replace(self._train, cutoff=cutoff), self._val)
        if record.epoch != number:
            raise SearchError(f"epoch {number} was expected, but the strategy did {record}")
        if cutoff is None or not cutoff.passed:
            return record
        share = cutoff.given / len(self._train)
        numbers = dict(record.numbers) | {CUT: share}
        if "flops" in numbers:
            numbers["flops"] *= share
        return EpochRecord(record.epoch, tuple(numbers.items()))

    # What the clock decides.

    def _moment(self, used: float) -> float:
        """When the run will have used so many seconds, on `time.monotonic`'s clock."""
        return time.monotonic() + used - self.state.clock.used

    def _horizon(self) -> int:
        """Epochs there will be; sets the rows of each, and until when there are any."""
        self._until: float | None = None
        known = self.state.ledger.decision("search: horizon")
        if known is None:
            wanted = self.strategy.start(None, self._trainer)
            known = wanted if self.state.clock.limit is None else self._fitting(wanted)
            known = self.state.record_decision("search: horizon", known)
        if self.state.clock.limit is not None:
            self._until = self._decided("search: until", self.state.clock.used + self._room())
            self._cut(*self._decided("search: rows", [len(self._train), len(self._val)]))
        return int(known)

    def _decided(self, name: str, otherwise: Any) -> Any:
        known = self.state.ledger.decision(name)
        return self.state.record_decision(name, otherwise) if known is None else known

    def _room(self) -> float:
        """Seconds that the supernet may take from now on."""
        clock = self.state.clock
        assert clock.limit is not None
        own = self._share * clock.limit
        return max(own - clock.used, LEAST_SHARE * own)

    def _fitting(self, wanted: int) -> int:
        """Epochs that fit, on as many rows as fit where few epochs would; all is recorded."""
        room, begun = self._room(), time.monotonic()
        train, val = len(self._train), len(self._val)
        pace = self._measured(room)
        left = room - (time.monotonic() - begun)
        epochs = min(wanted, int(left / pace.epoch(train, val)))
        if epochs < min(wanted, LEAST_EPOCHS):
            epochs = min(wanted, LEAST_EPOCHS)
            share = (left / epochs - pace.after) / (pace.epoch(train, val) - pace.after)
            self._cut(*(max(min(n, PROBE_ROWS[1]), int(share * n)) for n in (train, val)))
            # Steps on fewer rows need not cost the same: a strategy may take some in any case.
            pace = self._measured(room)
            left = room - (time.monotonic() - begun)
            fit = int(left / pace.epoch(len(self._train), len(self._val)))
            epochs = max(1, min(epochs, fit))
        self.state.record_decision("search: rows", [len(self._train), len(self._val)])
        until = self.state.clock.used + left - pace.tail(len(self._val))
        self.state.record_decision("search: until", until)
        return epochs

    def _measured(self, room: float) -> Pace:
        """Time a few steps, and what follows them on few validation rows."""
        told = [self._probe(rows, PROBE_SHARE * room) for rows in PROBE_ROWS]
        (many, long, first), (few, short, second) = told
        val = max(0.0, long - short) / (many - few) if many > few else 0.0
        # Other work on the machine only ever adds.
        return Pace(max(min(first, second), 1e-9), max(0.0, short - val * few), val)

    def _probe(self, rows: int, seconds: float) -> tuple[int, float, float]:
        """Validation rows, seconds of what followed the steps, seconds a training row."""
        few = self._val.rows[:: max(1, len(self._val.rows) // rows)][:rows]
        cutoff = Cutoff(time.monotonic() + seconds, PROBE_STEPS)
        self.strategy.epoch(
            self._trainer,
            replace(self._train, cutoff=cutoff),
            replace(self._val, rows=few, pace=len(self._val)),
        )
        return len(few), time.monotonic() - cutoff.ended, cutoff.seconds_per_row

    def _cut(self, train: int, val: int) -> None:
        """Give each epoch so many training rows, other ones in each, and the same validation rows.

        Scores of one search are compared over its epochs: they are of the same rows.
        """
        self._train = replace(self._train, most=train)
        if val < len(self._val):
            targets, rows = self.state.evaluator.dataset.targets, self._val.rows
            drawn = draw_sample(targets, rows, val, self.state.seed).rows
            self._val = replace(self._val, rows=drawn)

    # What is told.

    def _tell(self, record: EpochRecord, horizon: int, *, fresh: bool) -> None:
        clock = self.state.clock
        for callback in self.state.callbacks:
            callback.on_record(record, horizon, fresh)
            if fresh:
                score = dict(record.numbers).get("score", math.nan)
                callback.on_epoch(record.epoch, horizon, score)
                callback.on_clock(clock.used, clock.remaining)

    def _note(self, records: list[EpochRecord], horizon: int) -> None:
        """What a person should know of how the supernet was trained."""
        rows = len(self.state.evaluator.dataset.split.train)
        if len(self._train) < rows:
            self.state.note(
                f"the supernet saw {len(self._train):,} of the {rows:,} training rows an epoch: "
                "--time-limit left no time for more"
            )
        if any(_was_cut(record) for record in records):
            self.state.note(
                f"--time-limit ended the supernet's training in epoch {len(records)} of {horizon}"
            )
        lost = [r.epoch for r in records if not math.isfinite(dict(r.numbers).get("score", 0.0))]
        if lost:
            self.state.note(
                f"the supernet's score was not finite in {len(lost)} of {horizon} epochs, first in "
                f"epoch {lost[0] + 1}: what it chose may be no better than a guess; try a lower lr"
            )


def _was_cut(record: EpochRecord) -> bool:
    """Whether the deadline ended the epoch's steps."""
    return CUT in dict(record.numbers)
