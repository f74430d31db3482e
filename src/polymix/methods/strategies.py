"""A search method by its name, with options."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from polymix.errors import UsageError, describe, did_you_mean
from polymix.search.protocol import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "make_strategy"]


def make_strategy(name: str, options: dict[str, Any] | None = None) -> Strategy:
    """A strategy by name, with its options.

    Raises:
        UsageError: no such strategy or option, or a value that is not one; all problems at once.
    """
    if name not in STRATEGIES:
        raise UsageError(STRATEGIES.unknown(name))
    cls = STRATEGIES[name]
    known = list(cls.model_fields)
    problems = [
        f"{name} has no option '{key}': {did_you_mean(key, known)}"
        for key in options or {}
        if key not in known
    ]
    if problems:
        raise UsageError(problems)
    try:
        return cls.model_validate(options or {})
    except ValidationError as error:
        raise UsageError([f"-o {describe(dict(p))}" for p in error.errors()]) from None
