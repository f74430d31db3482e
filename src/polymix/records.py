"""What is written down about a search: frozen, without torch.

A `Proposal` is a question (this genotype, tried this cheaply, trained this way, from these
weights); a `Trial` is the answer. Both are plain data, so that the ledger can keep them and
strategies can be replayed from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import numpy as np

from polymix.errors import UsageError
from polymix.genotype import Genotype

TIE_Z = 1.959963984540054
"""Standard errors on either side of an estimate in its 95% interval."""

Schedule = Literal["constant", "cosine", "plateau"]
Sampler = Literal["random", "balanced", "uncertain"]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How cheaply a genotype is tried.

    Attributes:
        rows: training rows, drawn with `seed`; all of them where it is not less than there are.
        epochs: passes over those rows.
        seed: of the rows drawn, their order, dropout and, with the genotype, initial weights.
        sampler: how rows are drawn: `random` (MixMAS, section III), `balanced` (as many of each
            class as there are), `uncertain` (what a quick forest is unsure of, more often).
        folds: into how many parts training and validation rows are cut, each of them predicted by
            a model that was trained on the others, so that all of them score; 0 trains once, on
            training rows, and scores on validation rows.
    """

    rows: int
    epochs: int
    seed: int = 0
    sampler: Sampler = "random"
    folds: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.epochs < 1 or self.seed < 0:
            raise UsageError(f"rows, epochs >= 1 and seed >= 0 must hold, but got {self}")
        if self.folds < 0 or self.folds == 1:
            raise UsageError(f"folds must be 0, or 2 at least, but got {self}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a genotype is trained, whatever it is.

    Attributes:
        lr: Adam's learning rate at the start.
        batch_size: rows a step.
        weight_decay: Adam's L2 term.
        schedule: `constant`; `cosine`, to a hundredth of `lr` over all steps; `plateau`, times
            `plateau_factor` after `plateau_patience` epochs without a lower validation loss.
        patience: stop after so many epochs without a lower validation loss; 0 never stops.
        modality_dropout: probability that a row's modality is hidden in training (never its last).
        frozen: encoders stay as their initial weights are, and their features come from the bank.
        thaw: epochs at the start in which encoders stay as they are; then all is trained. For new
            heads on trained backbones, which their first gradients would spoil.
        refit: training rows are all of the fidelity's and the validation rows too: nothing is
            left to score by, and the last epoch's weights are kept.
        sealed: of a refit, the sealed rows are trained on, too: what ships is fitted on every row
            there is, once the choice is made.
        balanced: of a multilabel target, a label's positives count as much as its negatives in
            the loss (MFAS, section 4.2).
        shift: in training, spectrograms are moved at random by up to this share of their time,
            and by up to a quarter of it of their frequencies.
    """

    lr: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    plateau_factor: float = 0.1
    plateau_patience: int = 2
    patience: int = 0
    modality_dropout: float = 0.0
    frozen: bool = False
    thaw: int = 0
    refit: bool = False
    sealed: bool = False
    balanced: bool = False
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.batch_size >= 1 and 0 <= self.modality_dropout < 1):
            raise UsageError(
                f"lr > 0, batch_size >= 1 and 0 <= modality_dropout < 1 must hold, but got {self}"
            )
        if self.refit and (self.patience or self.schedule == "plateau"):
            raise UsageError(f"a refit has no validation rows to wait for, but got {self}")
        if self.sealed and not self.refit:
            raise UsageError(f"sealed rows are for a refit alone, but got {self}")
        if not 0 <= self.shift < 1 or (self.shift and self.frozen):
            raise UsageError(f"0 <= shift < 1, and 0 where frozen, must hold, but got {self}")
        if self.thaw < 0 or (self.thaw and self.frozen):
            raise UsageError(f"thaw >= 0, and 0 where frozen, must hold, but got {self}")


class Role(StrEnum):
    """Why a trial was made."""

    SEARCH = "search"
    RANDOM = "random"
    WINNER = "winner"
    SINGLE = "single"
    LATE = "late"
    BOOSTING = "gradient boosting"
    ENSEMBLE = "ensemble"
    REFIT = "refit"

    @property
    def comparator(self) -> bool:
        """Whether it stands beside the strategy's own proposals."""
        return self in (Role.RANDOM, Role.SINGLE, Role.LATE, Role.BOOSTING, Role.ENSEMBLE)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A question to the evaluator.

    Attributes:
        genotype: what to build.
        fidelity: how cheaply to try it.
        recipe: how to train it.
        init: digests of kept weights to start from, applied in order, by name and shape.
        keep: whether the trained weights are kept (and `Trial.weights` names them).
        stage: what the strategy calls this step, for progress and the leaderboard; not in the key.
        share: seconds it may be expected to take; beyond, it is recorded as `skipped: cost`; not
            in the key.
    """

    genotype: Genotype
    fidelity: Fidelity
    recipe: Recipe = field(default_factory=Recipe)
    init: tuple[str, ...] = ()
    keep: bool = False
    stage: str = ""
    share: float = float("inf")

    def at(self, fidelity: Fidelity, *, keep: bool | None = None) -> Proposal:
        """The same question at another fidelity."""
        return replace(self, fidelity=fidelity, keep=self.keep if keep is None else keep)


@dataclass(frozen=True, slots=True)
class Score:
    """Validation, at the epoch that scored best.

    Attributes:
        value: the metric, higher is better.
        loss: the mean validation loss of the fused output.
        epoch: which epoch it was, from 0.
        unimodal: the metric of each modality's own head, where the genotype has them.
    """

    value: float
    loss: float
    epoch: int
    unimodal: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a genotype and its trial cost.

    Attributes:
        params: trainable parameters.
        flops: floating-point operations of one row's forward pass.
        steps: optimizer steps taken.
        cpu_s: CPU seconds of the trial (its share, where several ran in one computation).
        wall_s: seconds on the clock, likewise.
    """

    params: int
    flops: int
    steps: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0


class Status(StrEnum):
    """How a trial ended.

    What is `lost` was no fault of the candidate's: its process was killed, or memory was short. It
    has failed as far as this session goes, and is tried again when the run is resumed.
    """

    DONE = "done"
    FAILED = "failed"
    LOST = "lost: system"
    SKIPPED = "skipped: cost"
    STOPPED = "stopped: time"


@dataclass(frozen=True, slots=True)
class Trial:
    """One genotype at one fidelity, with its score and cost, or why it has none.

    Attributes:
        proposal: the question.
        key: the ledger's key of it.
        status: how it ended; a stopped trial keeps the score of the epochs it finished.
        score: none unless an epoch was finished.
        cost: what it took.
        curve: the validation score after each epoch.
        weights: digest of the kept weights, if any.
        error: what went wrong, for a failed one.
        traceback: where it went wrong, for one that raised an exception; kept by the ledger, and
            read back with `Ledger.traceback`.
        predictions: the fused head's outputs on the rows that score it (validation rows at the
            best epoch, or all rows out of fold), `(N, K)`, probabilities or values; what intervals
            and ties are computed from.
    """

    proposal: Proposal
    key: str
    status: Status
    score: Score | None
    cost: Cost
    curve: tuple[float, ...] = ()
    weights: str | None = None
    error: str | None = None
    traceback: str | None = field(default=None, compare=False, repr=False)
    predictions: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def value(self) -> float:
        """The score, or minus infinity where there is none: what to sort by."""
        return self.score.value if self.score else float("-inf")

    @property
    def failed(self) -> bool:
        """Whether it could not be made, by its own fault or the system's."""
        return self.status in (Status.FAILED, Status.LOST)

    @property
    def usable(self) -> bool:
        """Whether it has a score."""
        return self.score is not None


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend: seconds on the clock, trials, or both; none of them is no limit.

    Attributes:
        seconds: everything after the data is read; resuming subtracts what was used.
        trials: everything that is trained, the finalists included.
    """

    seconds: float | None = None
    trials: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise UsageError(f"a time limit is positive, but got {self.seconds} s")
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"trials >= 1 must hold, but got {self.trials}")


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What a one-shot strategy says of an epoch: numbers by name, kept in the ledger.

    `score` is shown while it runs; `flops`, of the whole epoch, is what random search's share
    is counted from.
    """

    epoch: int
    numbers: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def noise(self) -> bool:
        """Whether zero lies inside: as a difference, a tie."""
        return self.low <= 0.0 <= self.high

    def near(self, errors: float = 1.0) -> bool:
        """Whether zero lies within so many standard errors: as a difference, it may be none."""
        return abs(self.value) * TIE_Z <= errors * (self.high - self.low) / 2

    def within(self, least: float, most: float) -> Interval:
        """The interval as far as it lies between bounds; the estimate is left as it is."""
        return Interval(self.value, max(self.low, least), min(self.high, most))
