"""What every search strategy and every space must keep (see `polymix.search.protocol`).

A run is killed by an exception that nothing in polymix catches, raised by a callback right after
a commit, or within a trial; it is taken up again by a new strategy object on the same ledger.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.split import SealedRows
from polymix.genotype import Genotype, parse_genotype
from polymix.nn.model import Model
from polymix.records import Budget, EpochRecord, Proposal, Role, Status, Trial
from polymix.search import STRATEGIES, make_strategy
from polymix.search.bench import LocalRunner
from polymix.search.callbacks import Callback
from polymix.search.driver import Driver, Outcome
from polymix.search.protocol import AskTell, OneShot, Strategy
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Done, Evaluator
from polymix.train.groups import Group
from polymix.train.metrics import metric_for

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


class Killed(BaseException):
    """Stands for a killed process: nothing in polymix catches it."""


class Watch(Callback):
    """Counts what happens, and kills the run at a commit, or at an epoch's end.

    Args:
        commits: die after so many trials, or epochs of a one-shot search, were written down.
        epochs: die at the end of so many epochs of trials.
    """

    def __init__(self, commits: float = math.inf, epochs: float = math.inf) -> None:
        self._limits = (commits, epochs)
        self.commits, self.epochs = 0, 0
        self.fresh: list[Trial] = []
        self.known: list[Trial] = []
        self.roles: dict[str, Role] = {}
        self.notes: list[str] = []
        self.decisions: list[str] = []
        self._training = False

    def on_trial_start(self, proposal: Proposal, role: Role) -> None:  # noqa: ARG002
        """A trial is about to be trained."""
        self._training = True

    def on_epoch(self, epoch: int, epochs: int, value: float) -> None:  # noqa: ARG002
        """An epoch of a trial, or of a one-shot search."""
        if self._training:
            self.epochs += 1
            if self.epochs >= self._limits[1]:
                raise Killed
        else:
            self._commit()

    def on_trial_end(self, trial: Trial, role: Role, fresh: bool) -> None:
        """A trial is in the ledger."""
        self.roles[trial.key] = role
        (self.fresh if fresh else self.known).append(trial)
        if fresh:
            self._training = False
            self._commit()

    def on_note(self, text: str) -> None:
        """Something worth knowing."""
        self.notes.append(text)

    def on_decision(self, name: str, value: Any) -> None:  # noqa: ARG002
        """Something was decided."""
        self.decisions.append(name)

    def _commit(self) -> None:
        self.commits += 1
        if self.commits >= self._limits[0]:
            raise Killed


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
            if trial["role"] is Role.BOOSTING:
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


class SpaceContract:
    """What a space promises. A subclass defines `make`.

    A space has `__len__`, `__iter__`, `__contains__`, `sample(rng)` and `mutate(genotype, rng)`.
    """

    draws = 200

    def make(self) -> Any:
        """A space of some dozens of genotypes."""
        raise TypeError(f"{type(self).__name__} must define make")

    def test_count(self) -> None:
        """It lists as many as it counts, each once, and all of them its own."""
        space = self.make()
        listed = list(space)
        assert len(listed) == len(space) > 0
        assert len(set(listed)) == len(listed)
        assert len({genotype.digest for genotype in listed}) == len(listed)
        assert all(genotype in space for genotype in listed)

    def test_sample(self) -> None:
        """Samples lie inside, repeat with the seed, and reach everything, about equally."""
        space = self.make()
        drawn = [space.sample(seeds.stream(0, "space", i)) for i in range(self.draws)]
        again = [space.sample(seeds.stream(0, "space", i)) for i in range(self.draws)]
        assert drawn == again
        assert all(genotype in space for genotype in drawn)
        rng = seeds.stream(0, "uniform")
        many = [space.sample(rng) for _ in range(60 * len(space))]
        counts = [many.count(genotype) for genotype in space]
        # 60 expected of each, with a standard deviation of less than 8.
        assert min(counts) > 20
        assert max(counts) < 100

    def test_mutate(self) -> None:
        """A mutation is another genotype of the space; the genotype itself only if it is alone."""
        space, rng = self.make(), seeds.stream(0, "mutate")
        genotype = space.sample(rng)
        for _ in range(self.draws):
            other = space.mutate(genotype, rng)
            assert other in space
            assert (other == genotype) == (len(space) == 1)
            genotype = other

    def test_json(self) -> None:
        """Genotypes come back from their JSON as they were."""
        for genotype in self.make():
            text = genotype.to_json()
            back = parse_genotype(text)
            assert back == genotype
            assert hash(back) == hash(genotype)
            assert back.to_json() == text

    def test_frozen(self) -> None:
        """Genotypes cannot be changed."""
        genotype: Genotype = next(iter(self.make()))
        for name in type(genotype).model_fields:
            try:
                setattr(genotype, name, None)
            except ValueError:
                continue
            raise AssertionError(f"{name} could be set")

    def test_no_torch(self) -> None:
        """Neither the space nor its genotypes need torch."""
        space = self.make()
        modules = {type(space).__module__, type(next(iter(space))).__module__}
        code = f"import sys, {', '.join(sorted(modules))}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
