"""A trial as a row of the ledger, and back, exactly."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping

from polymix.errors import LedgerError, PolymixError
from polymix.genotype import parse_genotype
from polymix.records import Cost, Fidelity, Proposal, Recipe, Role, Score, Status, Trial

OWN = "own"
REUSED = "reused"

COVERED = (
    "key", "kind", "genotype", "genotype_digest", "rows", "epochs", "seed", "sampler", "recipe",
    "init", "status", "best_epoch", "unimodal", "curve", "params", "flops", "steps", "error",
    "weights", "predictions",
)  # fmt: skip
"""The columns that a trial's digest stands for, besides `exact` and `keep`."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A trial and how it came into the ledger.

    Attributes:
        order: grows with each trial written down.
        key: the trial's key.
        role: what the trial was first made for.
        origin: `own`, or `reused` from another run's ledger.
        created_at: when it was first written down (UTC, ISO 8601).
        trial: the trial, without its predictions.
    """

    order: int
    key: str
    role: Role
    origin: str
    created_at: str
    trial: Trial


def now() -> str:
    """The time as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def clean(text: str) -> str:
    """Text that any database takes: NUL and lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def with_digest(text: str, covered: str) -> str:
    """A text of the ledger, and behind it, on a line of its own, what stands for all it covers."""
    return f"{text}\n{_digest(covered)}"


def without_digest(text: str, covered: Callable[[str], str]) -> str:
    """The text that `with_digest` was given; one that has no digest is older, and taken as it is.

    Args:
        text: of the ledger.
        covered: what the digest stands for, of the text without it.

    Raises:
        ValueError: it is not what was written.
    """
    plain, mark, digest = text.partition("\n")
    if mark and digest != _digest(covered(plain)):
        raise ValueError("it was changed after it was written")
    return plain


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _covered(row: Mapping[str, Any] | RowMapping, exact: str) -> str:
    """What a trial's digest stands for: all but what another run's ledger says of it anew."""
    told = {name: row[name] for name in COVERED} | {"exact": exact, "keep": bool(row["keep"])}
    return json.dumps(told, sort_keys=True, default=float)


def to_row(trial: Trial, role: Role, predictions: str | None) -> dict[str, Any]:
    """The trial's columns, all but its order.

    Args:
        trial: the trial.
        role: what it was made for.
        predictions: the digest of its predictions, if any.
    """
    proposal, score, cost = trial.proposal, trial.score, trial.cost
    reals = {"cpu_s": cost.cpu_s, "wall_s": cost.wall_s}
    if score:
        reals |= {"score": score.value, "loss": score.loss}
    exact = dump_pairs(sorted(reals.items()))
    row: dict[str, Any] = {
        "key": trial.key,
        "origin": OWN,
        "role": role.value,
        "created_at": now(),
        "kind": proposal.genotype.kind,
        "genotype": proposal.genotype.to_json(),
        "genotype_digest": proposal.genotype.digest,
        "stage": clean(proposal.stage),
        "rows": int(proposal.fidelity.rows),
        "epochs": int(proposal.fidelity.epochs),
        "seed": int(proposal.fidelity.seed),
        "sampler": proposal.fidelity.sampler,
        "recipe": json.dumps(_how(proposal), sort_keys=True),
        "init": json.dumps(list(proposal.init)),
        "keep": bool(proposal.keep),
        "status": trial.status.value,
        **{name: _real(reals.get(name)) for name in ("score", "loss", "cpu_s", "wall_s")},
        "best_epoch": int(score.epoch) if score else None,
        "unimodal": dump_pairs(score.unimodal if score else ()),
        "curve": json.dumps([_plain(value) for value in trial.curve]),
        "params": int(cost.params),
        "flops": int(cost.flops),
        "steps": int(cost.steps),
        "error": None if trial.error is None else clean(trial.error),
        "weights": trial.weights,
        "predictions": predictions,
    }
    return row | {"exact": with_digest(exact, _covered(row, exact))}


def from_row(row: RowMapping, proposal: Proposal | None = None) -> Trial:
    """The trial of a row, without its predictions.

    Args:
        row: the columns.
        proposal: the question as it was asked; read from the row if not given.

    Raises:
        LedgerError: the row is not a trial's.
    """
    try:
        exact = without_digest(row["exact"], lambda plain: _covered(row, plain))
        reals = dict(load_pairs(exact))
        score = None
        if row["best_epoch"] is not None:
            score = Score(
                reals["score"],
                reals["loss"],
                int(row["best_epoch"]),
                load_pairs(row["unimodal"]),
            )
        return Trial(
            proposal=proposal or _proposal(row),
            key=row["key"],
            status=Status(row["status"]),
            score=score,
            cost=Cost(
                int(row["params"]),
                int(row["flops"]),
                int(row["steps"]),
                reals["cpu_s"],
                reals["wall_s"],
            ),
            curve=tuple(float(value) for value in json.loads(row["curve"])),
            weights=row["weights"],
            error=row["error"],
        )
    except (
        PolymixError,
        LookupError,
        ValueError,
        TypeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise LedgerError(f"ledger: trial {row['key']!r} cannot be read: {error}") from error


def to_ledger_row(row: RowMapping) -> LedgerRow:
    """The row with its trial.

    Raises:
        LedgerError: the row is not a trial's.
    """
    trial = from_row(row)
    try:
        role = Role(row["role"])
    except ValueError as error:
        raise LedgerError(f"ledger: trial {row['key']!r} cannot be read: {error}") from None
    return LedgerRow(row["id"], row["key"], role, row["origin"], row["created_at"], trial)


def _how(proposal: Proposal) -> dict[str, Any]:
    """The recipe, and the folds beside it: ledgers had no column for those when they came."""
    folds = {"folds": proposal.fidelity.folds} if proposal.fidelity.folds else {}
    return asdict(proposal.recipe) | folds


def _proposal(row: RowMapping) -> Proposal:
    recipe = json.loads(row["recipe"])
    folds = int(recipe.pop("folds", 0))
    return Proposal(
        genotype=parse_genotype(row["genotype"]),
        fidelity=Fidelity(row["rows"], row["epochs"], row["seed"], row["sampler"], folds),
        recipe=Recipe(**recipe),
        init=tuple(str(name) for name in json.loads(row["init"])),
        keep=bool(row["keep"]),
        stage=row["stage"],
    )


def dump_pairs(pairs: Iterable[tuple[str, float]]) -> str:
    """Numbers by name as JSON."""
    return json.dumps([[name, _plain(value)] for name, value in pairs])


def load_pairs(text: str) -> tuple[tuple[str, float], ...]:
    """Numbers by name from JSON."""
    return tuple((str(name), float(value)) for name, value in json.loads(text))


def _plain(value: float) -> float | str:
    """A number for JSON, which has no word for those that are not finite."""
    return float(value) if math.isfinite(value) else str(float(value))


def _real(value: float | None) -> float | None:
    """A number for a column of reals, to search by."""
    return None if value is None or math.isnan(value) else float(value)
