"""A strategy run to its end in a folder, and all that it left there, to compare runs by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polymix.comparators.standard import STANDARD
from polymix.data.dataset import Dataset
from polymix.records import Budget, EpochRecord
from polymix.scoring.metrics import metric_for
from polymix.search.callbacks import Callback
from polymix.search.driver import Driver, Outcome
from polymix.search.protocol import Strategy
from polymix.search.trial_runner import LocalRunner
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator

TIMES = ("cpu_s", "wall_s")


@dataclass(frozen=True)
class Record:
    """What a run left, measured time aside: equal for equal runs, bit by bit.

    Attributes:
        trials: one entry a ledger row, in the ledger's order.
        epochs: of a one-shot search.
        chosen: the key of the trial that is shipped, and the finalists' ranks by label.
        outcome: as the driver returned it; not compared.
    """

    trials: tuple[dict[str, Any], ...]
    epochs: tuple[EpochRecord, ...]
    chosen: tuple[Any, ...]
    outcome: Outcome

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Record)
        return (self.trials, self.epochs, self.chosen) == (other.trials, other.epochs, other.chosen)

    __hash__ = None  # type: ignore[assignment]


def run_strategy(
    strategy: Strategy,
    dataset: Dataset,
    folder: Path,
    *,
    trials: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    reuse: Sequence[Path] = (),
    evaluator: type[Evaluator] = Evaluator,
    checkpoint_after: float = 60.0,
) -> Record:
    """Run a strategy to the end in a folder, or go on with what an earlier call left there.

    Args:
        strategy: a new object each time.
        dataset: the rows.
        folder: where `ledger.sqlite` and the feature bank are, or will be.
        trials: as `--trials`.
        seconds: as `--time-limit`.
        seed: of the run.
        callbacks: watch.
        reuse: folders of earlier calls whose trials may be taken over.
        evaluator: its class.
        checkpoint_after: see `Evaluator`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger.open(folder / "ledger.sqlite", list(reuse)) as ledger:
        made = evaluator(
            dataset=dataset,
            metric=metric_for(dataset.schema.target.task),
            memory=ledger,
            bank=folder / "bank",
            checkpoint_after=checkpoint_after,
        )
        outcome = Driver(
            evaluator=made,
            runner=LocalRunner(made),
            ledger=ledger,
            strategy=strategy,
            budget=Budget(seconds, trials),
            seed=seed,
            comparators=STANDARD,
            callbacks=callbacks,
        ).run()
        return record_of(ledger, outcome)


def record_of(ledger: Ledger, outcome: Outcome) -> Record:
    """What a finished run left."""
    chosen = outcome.standings.chosen
    standings = tuple((r.finalist.label, r.rank, r.score) for r in outcome.standings.rows)
    entries = []
    for row in ledger.rows():
        predictions = ledger.predictions(row.key)
        trial = row.trial
        entries.append(
            {
                "key": row.key,
                "role": row.role,
                "genotype": trial.proposal.genotype,
                "fidelity": trial.proposal.fidelity,
                "recipe": trial.proposal.recipe,
                "init": trial.proposal.init,
                "status": trial.status,
                "score": trial.score,
                "curve": tuple(map(repr, trial.curve)),
                "cost": {n: v for n, v in asdict(trial.cost).items() if n not in TIMES},
                "weights": trial.weights,
                "error": trial.error,
                "predictions": None if predictions is None else predictions.tobytes(),
            }
        )
    return Record(
        tuple(entries),
        tuple(ledger.epochs("search")),
        (None if chosen is None else chosen.key, standings),
        outcome,
    )
