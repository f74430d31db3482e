"""The driver: the one loop that runs every strategy.

    ask ─► ledger ─► evaluate what is not there ─► write it down ─► tell        (ask/tell)
    start ─► epoch ─► write it and the state down ─► …                          (one-shot)
    random search beside it ─► finalists over seeds ─► standings ─► best so far, published

Resuming is replaying: the same seed asks the same questions, and the ledger answers those that
were answered before. Whatever the clock decided is in the ledger too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from polymix import seeds
from polymix.data.batch import RowSource
from polymix.errors import SearchError
from polymix.records import Budget, Cost, EpochRecord, Proposal, Role, Status, Trial
from polymix.search.callbacks import Callback
from polymix.search.finalists import COST_MARGIN, Combiner, Comparator, FinalistRounds
from polymix.search.protocol import AskTell, OneShot, SearchTask, Strategy
from polymix.search.run import Run
from polymix.search.shipping import Shipping
from polymix.search.standings import Finalist, Standings, stand
from polymix.search.trial_runner import Runner
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.supernet import RowLoader, SupernetTrainer

SUPERNET_SHARE = 0.25
"""Of a search, what its supernet has at least, however long backbones took before it."""

RANDOM_SHARE = {"fifth": 0.2, "full": 0.5}
"""Of the search, by how random search is compared."""

Compare = Literal["fifth", "full"]


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        standings: the finalists'.
        trials: the strategy's own, in the order asked.
        random: random search's.
        notes: what a person should know before trusting it.
        refitted: the chosen one, trained on more rows than it was chosen by; compared with
            nothing.
        development: the chosen one, fitted on all rows but the sealed ones, where the choice was
            made out of fold: what `evaluate` scores.
    """

    standings: Standings
    trials: tuple[Trial, ...]
    random: tuple[Trial, ...]
    notes: tuple[str, ...]
    refitted: Trial | None = None
    development: Trial | None = None


@dataclass
class Driver:
    """Runs a strategy on an evaluator's data, within a budget.

    Attributes:
        evaluator: trains and scores.
        runner: where trials run.
        ledger: remembers.
        strategy: what to try.
        budget: what may be spent.
        seed: of everything.
        compare: random search gets a fifth of the search, or as much as the strategy.
        comparators: who else stands among the finalists.
        combiner: makes one more finalist of those that are trained; none for none.
        callbacks: watch.
        refit: whether what was chosen ships fitted on every row, sealed ones too.
        publish: called with the outcome so far whenever there is a model that can be used.
    """

    evaluator: Evaluator
    runner: Runner
    ledger: Ledger
    strategy: Strategy
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    compare: Compare = "fifth"
    comparators: Sequence[Comparator] = ()
    combiner: Combiner | None = None
    callbacks: Sequence[Callback] = ()
    refit: bool = False
    publish: Callable[[Outcome], None] = lambda _: None

    def run(self) -> Outcome:
        """Search, compare, train the finalists, choose.

        Raises:
            SearchError: nothing could be trained.
        """
        self.prepare()
        with self.runner:
            trials = self._ask_tell() if isinstance(self.strategy, AskTell) else []
            spent = sum(self.state.effort(t.proposal) for t in trials if t.cost.steps)
            if isinstance(self.strategy, OneShot):
                spent += self._one_shot(self.strategy)
            random = self._random(spent)
            outcome = self._finals(trials, random)
        self.state.clock.tick()
        return outcome

    def prepare(self, timed: bool = False) -> None:
        """Start the clock and set up the strategy.

        Args:
            timed: whether to measure this machine even where no time limit asks for it.
        """
        self.state = Run(
            self.evaluator, self.runner, self.ledger, self.strategy, self.budget, self.seed,
            self.callbacks, timed=timed,
        )  # fmt: skip
        self._first: Trial | None = None
        self.strategy.setup(self._task())
        for reason in self.strategy.reasons():
            self.state.note(reason)

    # What the strategy is told.

    def _task(self) -> SearchTask:
        limit = self.state.clock.limit
        return SearchTask(
            schema=self.evaluator.dataset.schema,
            rows=len(self.evaluator.dataset.split.train),
            folds=self.state.folds,
            most_rows=self._most_rows(),
            targets=self.evaluator.dataset.targets[self.evaluator.dataset.split.train],
            seed=self.seed,
            metric=self.evaluator.metric.name,
            seconds=None if limit is None else limit * self._own_share * self.runner.jobs,
            trials=self._own_trials(),
            cost=self.evaluator.cost,
            difference=self.state.difference,
            predict=self.state.predict,
        )

    @property
    def _random_share(self) -> float:
        """Of the search, random search's."""
        return RANDOM_SHARE[self.compare] if self.strategy.has_random else 0.0

    def _most_rows(self) -> int:
        split = self.evaluator.dataset.split
        return len(split.development) + (len(split.test) if self.refit else 0)

    @property
    def _own_share(self) -> float:
        """Of the limit, what the strategy's own search may take."""
        return self.strategy.search_share * (1.0 - self._random_share)

    def _own_trials(self) -> int | None:
        """The strategy's share of `--trials`.

        A half is the finalists', and of the rest a share is random search's: each has one at
        least, as far as there are enough.
        """
        if self.budget.trials is None:
            return None
        search = self._search_trials()
        own = round(search * (1.0 - self._random_share))
        if not self.strategy.has_random:
            return search
        return min(max(1, own), max(1, search - 1), search)

    def _search_trials(self) -> int:
        assert self.budget.trials is not None
        return self.budget.trials - max(1, self.budget.trials // 2)

    # The search.

    def _ask_tell(self) -> list[Trial]:
        strategy = self.strategy
        assert isinstance(strategy, AskTell)
        self.state.phase("search", self._own_trials())
        deadline = self.state.clock.deadline(self._own_share)
        left = self._own_trials()
        trials: list[Trial] = []
        asked = 0
        while True:
            stop = self.ledger.decision("search: last cohort")
            if stop is not None and asked >= stop:
                self.state.note("the search was cut short by --time-limit")
                break
            cohort = list(strategy.ask())
            if not cohort:
                break
            self._check_sample(cohort)
            within = cohort if left is None else cohort[: max(0, left)]
            before = self.state.trial_runner.fresh
            told = self.state.trial_runner.evaluate(within, Role.SEARCH, deadline)
            cut = [
                Trial(p, self.evaluator.key(p), Status.STOPPED, None, Cost(0, 0))
                for p in cohort[len(within) :]
            ]
            strategy.tell([*told, *cut])
            trials += told
            self._publish_first(told)
            asked += 1
            if left is not None:
                left -= len(within)
                if left <= 0:
                    if cut or strategy.ask():
                        self.state.note("the search was cut short by --trials")
                    break
            # What is replayed was in time when it was made: only fresh trials can end the search.
            if self._over(deadline) and self.state.trial_runner.fresh > before and stop is None:
                self.state.record_decision("search: last cohort", asked)
        for reason in strategy.reasons():
            self.state.note(reason)
        if trials and not any(t.usable for t in trials):
            said = sorted({t.error for t in trials if t.error})[:3]
            if said:
                raise SearchError(["no candidate could be trained", *said])
            self.state.note(
                "the budget was too small to try a candidate: what is shipped is a guess"
            )
        return trials

    def _check_sample(self, cohort: Sequence[Proposal]) -> None:
        for fidelity in {replace(p.fidelity, epochs=1) for p in cohort}:
            sample = self.evaluator.sample(fidelity)
            if not sample.accepted:
                self.state.note(
                    f"no sample of {fidelity.rows} rows was within 0.05 of the class proportions: "
                    f"the closest of {sample.draws} draws is off by {sample.distance:.3f}"
                )

    def _one_shot(self, strategy: OneShot) -> float:
        """Run a one-shot strategy's epochs, from where the ledger has them; their FLOPs."""
        self.state.phase("search", None)
        dataset = self.evaluator.dataset
        trainer = SupernetTrainer(self.evaluator, self.seed)
        source = RowSource(dataset, self.evaluator.device)
        train = RowLoader(source, dataset.split.train, self.seed)
        val = RowLoader(source, dataset.split.val, self.seed)
        horizon = self.ledger.decision("search: horizon")
        if horizon is None:
            wanted = strategy.start(None, trainer)
            if self.state.clock.limit is not None:
                begun = time.monotonic()
                strategy.epoch(trainer, train, val)
                taken = time.monotonic() - begun
                own = self._own_share * self.state.clock.limit
                room = max(own - self.state.clock.used, SUPERNET_SHARE * own)
                wanted = max(1, min(wanted, int(room / max(taken, 1e-9))))
            horizon = self.state.record_decision("search: horizon", wanted)
        strategy.start(horizon, trainer)
        done = self.ledger.epochs("search")
        if done:
            kept = self.ledger.load_checkpoint("search")
            assert kept is not None
            strategy.load_state(*kept)
        for record in done:
            self._tell_record(record, horizon, fresh=False)
        for epoch in range(len(done), horizon):
            record = strategy.epoch(trainer, train, val)
            if record.epoch != epoch:
                raise SearchError(f"epoch {epoch} was expected, but the strategy did {record}")
            tensors, meta = strategy.state()
            self.ledger.put_epoch("search", record, tensors, dict(meta))
            self.state.clock.tick()
            self._tell_record(record, horizon, fresh=True)
        records = self.ledger.epochs("search")
        lost = [r.epoch for r in records if not math.isfinite(dict(r.numbers).get("score", 0.0))]
        if lost:
            self.state.note(
                f"the supernet's score was not finite in {len(lost)} of {horizon} epochs, first in "
                f"epoch {lost[0] + 1}: what it chose may be no better than a guess; try a lower lr"
            )
        return sum(dict(record.numbers).get("flops", 0.0) for record in records)

    def _tell_record(self, record: EpochRecord, horizon: int, *, fresh: bool) -> None:
        for callback in self.callbacks:
            callback.on_record(record, horizon, fresh)
            if fresh:
                score = dict(record.numbers).get("score", math.nan)
                callback.on_epoch(record.epoch, horizon, score)
                callback.on_clock(self.state.clock.used, self.state.clock.remaining)

    # The comparators.

    def _random(self, spent_by_strategy: float) -> list[Trial]:
        """Random search in the strategy's space, with its share of the search.

        Args:
            spent_by_strategy: FLOPs.
        """
        rng = seeds.stream(self.seed, "random search")
        if self.strategy.random(rng) is None:
            return []
        rng = seeds.stream(self.seed, "random search")
        share = RANDOM_SHARE[self.compare]
        deadline = self.state.clock.deadline(self.strategy.search_share)
        room = spent_by_strategy * share / (1.0 - share)
        self.state.phase("random search", None)
        found: list[Trial] = []
        seen: set[str] = set()
        spent = 0.0
        for _ in range(10_000):
            stop = self.ledger.decision("random search: trials")
            if stop is not None and len(found) >= stop:
                break
            proposal = self.strategy.random(rng)
            assert proposal is not None
            if proposal.genotype.digest in seen:
                if len(seen) >= (self.strategy.size() or math.inf):
                    break
                continue
            seen.add(proposal.genotype.digest)
            if found and spent + self.state.effort(proposal) > room:
                break
            if self.budget.trials is not None and len(found) >= self._random_trials():
                break
            before = self.state.trial_runner.fresh
            found += self.state.trial_runner.evaluate([proposal], Role.RANDOM, deadline)
            spent += self.state.effort(proposal)
            if self._over(deadline) and self.state.trial_runner.fresh > before and stop is None:
                self.state.record_decision("random search: trials", len(found))
        self.state.note(
            f"random search: {len(found)} trials, {share:.0%} of the search's "
            + ("trials" if self.budget.trials is not None else "computation, by FLOPs")
            + (" or time" if self.state.clock.limit is not None else "")
        )
        return found

    def _over(self, deadline: float | None) -> bool:
        return deadline is not None and time.monotonic() > deadline

    def _random_trials(self) -> int:
        return self._search_trials() - (self._own_trials() or 0)

    def _publish_first(self, told: Sequence[Trial]) -> None:
        """Fit the first model that was scored out of fold: there is something to use from then on.

        Args:
            told: of the last cohort.
        """
        scored = [t for t in told if t.usable and t.proposal.fidelity.folds]
        if not scored or self._first is not None:
            return
        best = max(scored, key=lambda t: t.value)
        self._first = Shipping(self.state, scored).fit(best, sealed=False)
        finalist = Finalist(best.proposal, (Role.WINNER,), self.strategy.name, [best])
        standings = stand([finalist], self.state.referee(self.state.folds))
        notes = tuple(self.state.notes)
        self.publish(Outcome(standings, (best,), (), notes, self._first, self._first))

    def _finals(self, trials: Sequence[Trial], random: Sequence[Trial]) -> Outcome:
        finals = FinalistRounds(self.state, self.comparators, self.combiner, trials, random)

        def outcome(standings: Standings) -> Outcome:
            return Outcome(standings, tuple(trials), tuple(random), tuple(self.state.notes))

        self.state.phase("finalists", finals.expected)
        for standings in finals.rounds():
            self.publish(outcome(standings))
        standings = finals.standings()
        if standings.chosen is None:
            said = sorted({t.error for r in standings.rows for t in r.finalist.trials if t.error})
            raise SearchError(["no finalist could be trained", *said[:3]])
        if not standings.ranked:
            self.state.note(f"not enough seeds to rank: {standings.seeds}, where 3 are needed")
        if standings.chosen.proposal.fidelity.folds or self.refit:
            scored = [*finals.trials, *(t for f in finals.finalists for t in f.trials)]
            return self._shipped(outcome(standings), scored)
        finished = outcome(standings)
        # Trees and ensembles were fitted with the help of validation rows: they stay as they are.
        row = next(row for row in standings.rows if row.rank == standings.chosen_rank)
        fitted = {Role.BOOSTING, Role.ENSEMBLE} & set(row.finalist.roles)
        if not self.strategy.refits or fitted:
            return finished
        used = len(finals.trials) + sum(len(f.trials) for f in finals.finalists)
        return replace(finished, refitted=self._refit(standings.chosen, used))

    def _shipped(self, outcome: Outcome, scored: Sequence[Trial]) -> Outcome:
        """Fit what was chosen: out of fold, on the development rows; then on every row there is.

        Args:
            outcome: of the finalists.
            scored: every trial.
        """
        chosen = outcome.standings.chosen
        assert chosen is not None
        shipping = Shipping(self.state, scored)
        self.state.phase("refit", None)
        folded = chosen.proposal.fidelity.folds > 0
        development = shipping.fit(chosen, sealed=False) if folded else None
        if folded and development is None:
            why = "no time was left to fit what was chosen: what ships is the first model"
            self.state.note(why)
            outcome = replace(outcome, notes=tuple(self.state.notes))
            return outcome if self._first is None else self._first_ships(outcome, scored, why)
        fitted = replace(outcome, refitted=development, development=development)
        left_out = len(self.evaluator.dataset.split.test) or not folded
        if not self.refit or not left_out:
            return fitted
        self.publish(fitted)
        whole = shipping.fit(chosen, sealed=True) if shipping.in_time(chosen) else None
        if whole is None:
            self.state.note("no time was left to fit the sealed rows, too")
            return fitted
        return replace(fitted, refitted=whole, notes=tuple(self.state.notes))

    def _first_ships(self, outcome: Outcome, scored: Sequence[Trial], why: str) -> Outcome:
        """The first model in place of what was chosen, judged by its own trial."""
        first = self._first
        assert first is not None
        genotype = first.proposal.genotype
        trial = next(t for t in scored if t.proposal.genotype == genotype and t.usable)
        standings = outcome.standings.shipping(trial, why)
        return replace(outcome, standings=standings, refitted=first, development=first)

    def _refit(self, chosen: Trial, used: int) -> Trial | None:
        """Train the chosen one again, as it was, on training and validation rows.

        Args:
            chosen: what is shipped otherwise.
            used: trials so far.
        """
        recipe = replace(chosen.proposal.recipe, refit=True)
        proposal = replace(chosen.proposal, recipe=recipe, keep=True, stage="refit")
        known = self.ledger.decision("refit")
        if known is None:
            left = self.state.clock.remaining
            time_left = left is None or self.state.predict(proposal) * COST_MARGIN <= left
            trials_left = self.budget.trials is None or used < self.budget.trials
            known = self.state.record_decision("refit", time_left and trials_left)
        if not known:
            self.state.note(
                "not refitted on validation rows: nothing of the budget was left for it"
            )
            return None
        self.state.phase("refit", 1)
        (trial,) = self.state.trial_runner.evaluate(
            [proposal], Role.REFIT, self.state.clock.deadline(1.0)
        )
        return trial if trial.status is Status.DONE and trial.weights else None
