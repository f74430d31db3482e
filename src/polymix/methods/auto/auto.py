"""Auto: what to search, and how, by the data and the budget, with the reasons written down.

    what is ready       fitted models on views of every modality, the best guess first: `portfolio`
    what must be        networks, by MixMAS, where a modality has no view that says much of it, or
    learned             where rows and clock are many: `_wants_networks`

    one modality        encoders alone: there is nothing to fuse
    many modalities     fewer candidates of each, so that every one is tried
    few rows            all of them in every probe, probes repeated, all training longer
    few recordings      their spectrograms move at random in training
    a tight time limit  the candidates that are quick

What was scored out of fold is an ensemble's to choose from; see `comparators.ensemble`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from polymix.comparators.tabular import model  # noqa: F401 - builds the portfolio's genotypes
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.portfolio import portfolio
from polymix.data.sample import sample_size
from polymix.data.schema import Kind, Modality
from polymix.genotype import Block
from polymix.methods.auto.portfolio_search import PortfolioSearch
from polymix.methods.mixmas.candidates import CANDIDATES
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.nn import catalog
from polymix.records import Proposal, Trial
from polymix.registry import register
from polymix.search.protocol import SearchTask, Strategy

MAX_FULL_MODALITIES = 4
"""Modalities above which each has fewer candidates."""

SMALL_TABLE_ROWS = 2000
"""Training rows below which a probe takes them all, twice."""

MIN_FULL_STEPS, MIN_PROBE_STEPS = 1500, 500
"""Optimizer steps that the full training, and a probe, should have at least."""

MAX_FULL_EPOCHS, MAX_PROBE_EPOCHS = 200, 50
"""Epochs that they have at most."""

PREFERENCE_Z = 1.0
"""A probe is preferred once it is so many standard errors better: the one-standard-error rule."""

MAX_SHIFTED_ROWS, DEFAULT_SHIFT = 20_000, 0.125
"""Training rows below which spectrograms are moved, and by how much of their time."""

QUICK_ENCODERS = ("mlp", "conv", "mlp-mixer")
MIN_EPOCHS = 3


TABLES = (Kind.TABULAR, Kind.TEXT)
"""Kinds of which fitted models know much, however many rows there are."""

NETWORK_ROWS = 5000
"""Training rows from which networks are searched, whatever views there are."""

SEARCH_SHARE = 0.7
"""Of the budget, where a portfolio is searched: what it found is fitted twice more, and no more."""

MAX_FINALISTS = 5
"""Of the portfolio's members, those that the board shows."""


@register
class Auto(Strategy):
    """Chooses by the data and the budget; `reasons` says what, and why.

    Attributes:
        portfolio: whether fitted models on views are tried; by the data where not given.
        networks: whether networks are searched; by the data where not given.
        encoders: as MixMAS's; by the data where not given.
        epochs: of a probe; by the rows where not given.
        full_epochs: of the full training, at most; by the rows where not given.
        modality_dropout: chance that a row's modality is hidden, where rows may lack one.
        shift: share of their time by which spectrograms move at random in training; by the rows
            where not given.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "chooses what to search by the data and the budget, and says why"

    portfolio: bool | None = None
    networks: bool | None = None
    encoders: list[str] | dict[str, list[str]] | None = None
    epochs: int | None = Field(default=None, ge=1)
    full_epochs: int | None = Field(default=None, ge=1)
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    shift: float | None = Field(default=None, ge=0, lt=1)

    _task: SearchTask = PrivateAttr()
    _inner: MixMAS | None = PrivateAttr(default=None)
    _reasons: list[str] = PrivateAttr(default_factory=list)
    _fitted: PortfolioSearch | None = PrivateAttr(default=None)
    _asked: bool = PrivateAttr(default=False)

    def setup(self, task: SearchTask) -> None:
        """Choose, and set up what was chosen."""
        self._task, self._reasons = task, []
        members = self._ready()
        self._fitted = PortfolioSearch(members, task) if members else None
        if members:
            kinds = ", ".join(f"{m.name} ({m.kind})" for m in task.schema.modalities)
            scored = f"{task.folds} folds" if task.folds else "validation rows"
            self._reasons.append(
                f"{len(members)} fitted models on views of {kinds}, compared on {scored}"
            )
        if self._wants_networks():
            self._set_up_networks()

    def _ready(self) -> list[TabularGenotype]:
        """The portfolio, where the data are of its kind: rows of a table, or few enough to fold."""
        task = self._task
        known = task.folds > 0 or any(m.kind in TABLES for m in task.schema.modalities)
        wanted = known if self.portfolio is None else self.portfolio
        if not wanted:
            return []
        return portfolio(task.schema, task.most_rows, task.targets)

    def _wants_networks(self) -> bool:
        """Networks are searched where they may find what no view says: many rows, no view."""
        if self.networks is not None or self._fitted is None:
            return self.networks is not False or self._fitted is None
        if self.encoders is not None:
            return True
        return self._task.rows >= NETWORK_ROWS and self._task.seconds is not None

    def _set_up_networks(self) -> None:
        task = self._task
        if self._fitted is not None and task.seconds is not None:
            # The portfolio comes first; half of the search is left to networks.
            task = replace(task, seconds=task.seconds / 2)
        options, reasons = self._by_data(task)
        self._inner = MixMAS(**options)
        self._inner.setup(task)
        cramped = self._cramped(task, self._inner) and self.encoders is None
        if cramped and self._fitted is not None and self.networks is None:
            # Hardly trained networks would take time from what is known to be good.
            self._inner = None
            self._reasons.append("the time limit is too tight for networks beside fitted models")
            return
        self._reasons += reasons
        if cramped:
            quick = {m.name: self._quick(m) for m in task.schema.modalities}
            self._inner = MixMAS(**{**options, "encoders": quick, "seeds": 1})
            self._inner.setup(task)
            self._reasons.append("the time limit is tight: only encoders that are quick")

    def _by_data(self, task: SearchTask) -> tuple[dict[str, Any], list[str]]:
        """MixMAS's options by modalities and rows, and the reason for each that is not usual."""
        modalities = task.schema.modalities
        kinds = ", ".join(f"{m.name} ({m.kind})" for m in modalities)
        reasons = [f"mixmas on {task.rows} training rows of {kinds}"]
        batch = MixMAS.model_fields["batch_size"].default
        usual = MixMAS.model_fields["full_epochs"].default
        needed = math.ceil(MIN_FULL_STEPS / math.ceil(task.rows / batch))
        full = self.full_epochs or min(MAX_FULL_EPOCHS, max(usual, needed))
        brief = MixMAS.model_fields["epochs"].default
        wanted = math.ceil(MIN_PROBE_STEPS / math.ceil(task.rows / batch))
        probe = self.epochs or min(MAX_PROBE_EPOCHS, max(brief, wanted))
        options: dict[str, Any] = {
            "epochs": probe,
            "full_epochs": full,
            "modality_dropout": self.modality_dropout,
            "encoders": self.encoders,
            "tie_z": PREFERENCE_Z,
            "shift": self.shift or 0.0,
        }
        sounds = [m.name for m in modalities if m.kind is Kind.AUDIO]
        if sounds and task.rows < MAX_SHIFTED_ROWS and self.shift is None:
            options["shift"] = DEFAULT_SHIFT
            reasons.append(
                f"fewer than {MAX_SHIFTED_ROWS} rows: {', '.join(sounds)} moved at random in "
                f"training, "
                f"by up to {DEFAULT_SHIFT:.1%} of the time"
            )
        if full > usual and self.full_epochs is None:
            reasons.append(f"few rows make few steps: up to {full} epochs of full training")
        if probe > brief and self.epochs is None:
            reasons.append(f"few rows make few steps: up to {probe} epochs of a probe")
        if len(modalities) == 1:
            reasons.append("one modality: encoders alone are searched, there is nothing to fuse")
        if len(modalities) > MAX_FULL_MODALITIES:
            options |= {"fusions": ["concat", "mean"], "networks": ["none", "mlp-mixer"]}
            if self.encoders is None:
                options["encoders"] = {m.name: self._quick(m) for m in modalities}
            reasons.append(f"{len(modalities)} modalities: fewer candidates of each")
        if task.rows < SMALL_TABLE_ROWS:
            options |= {"sample_rows": task.rows, "seeds": 2}
            reasons.append(
                f"fewer than {SMALL_TABLE_ROWS} rows: every probe sees all of them, not a "
                f"sample of "
                f"{sample_size(task.rows)}, and is made twice"
            )
        return options, reasons

    def _quick(self, modality: Modality) -> list[str]:
        """Candidates that train quickly, and those that come with weights."""
        found = [n for n in CANDIDATES[modality.kind] if n in QUICK_ENCODERS]
        return found + [block.name for block in catalog.pretrained_for(modality)]

    def _cramped(self, task: SearchTask, inner: MixMAS) -> bool:
        """Whether the time is short even for a few epochs of every candidate on half the rows."""
        if task.seconds is None:
            return False
        wanted = min(task.rows, inner.sample_rows or sample_size(task.rows))
        least = min(MIN_EPOCHS, inner.epochs)
        return any(
            p.fidelity.epochs < least or p.fidelity.rows < wanted / 2 for p in inner.expected()
        )

    @property
    def search_share(self) -> float:
        """More than usual where what is found is only fitted once more, to hardly more rows.

        What was fitted on training rows alone is worth fitting on all others, too.
        """
        folded = self._fitted is not None and self._fitted.task.folds > 0
        return SEARCH_SHARE if folded else super().search_share

    @property
    def has_random(self) -> bool:
        """Only networks have a space to draw from."""
        return self._inner is not None

    def reasons(self) -> Sequence[str]:
        """What is searched, and why; in the end, too, why no more was."""
        ended = [] if self._fitted is None else self._fitted.reasons()
        return [*self._reasons, *ended]

    # The search: the portfolio member by member, then the networks, then like the best members.

    def ask(self) -> Sequence[Proposal]:
        """The next fitted model, or the networks' next cohort."""
        fitted = self._fitted
        found = None if fitted is None else fitted.next()
        if found is None and self._inner is not None:
            self._asked = False
            cohort = self._inner.ask()
            if cohort:
                return cohort
        if found is None and fitted is not None:
            found = fitted.vary()
        self._asked = found is not None
        return [] if found is None else [found]

    def tell(self, trials: Sequence[Trial]) -> None:
        """The cohort's trials."""
        if self._asked and self._fitted is not None:
            self._fitted.tell(trials)
        elif self._inner is not None:
            self._inner.tell(trials)

    def derive(self) -> Sequence[Proposal]:
        """The portfolio's best, best first, and the networks' winner."""
        best = [] if self._fitted is None else self._fitted.ranked[:MAX_FINALISTS]
        found = [t.proposal for t in best]
        if not found and self._fitted is not None:  # nothing was scored: the first guess is left
            found = [self._fitted.proposal(self._fitted.first)]
        if self._inner is not None:
            found += self._inner.derive()
        return found

    def chosen_encoders(self) -> Mapping[str, Block]:
        """The encoder of each modality, as the networks' search chose them."""
        return {} if self._inner is None else self._inner.chosen_encoders()

    def random(self, rng: np.random.Generator) -> Proposal | None:
        """A genotype of the networks' space; none where there is but the portfolio."""
        return None if self._inner is None else self._inner.random(rng)

    def in_full(self, tried: Proposal, like: Proposal) -> Proposal:
        """What `random` gave, as it is to be trained in full."""
        if self._inner is None:
            return super().in_full(tried, like)
        own = self._inner.derive()
        return self._inner.in_full(tried, own[0] if own else like)

    def expected(self) -> Sequence[Proposal]:
        """All that will be asked for."""
        networks = [] if self._inner is None else self._inner.expected()
        fitted = self._fitted
        members = [] if fitted is None else [fitted.proposal(one) for one in fitted.waiting]
        return [*members, *networks]

    def size(self) -> int | None:
        """How many genotypes the networks' space holds; the portfolio is a list."""
        return None if self._inner is None else self._inner.size()
