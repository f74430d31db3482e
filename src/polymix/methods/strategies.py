"""The search methods by name. One import and one entry add a method."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from polymix.errors import UsageError, describe, did_you_mean
from polymix.methods.auto.auto import Auto
from polymix.methods.bm_nas.bm_nas import BMNAS
from polymix.methods.m2_mixer.m2_mixer import M2Mixer
from polymix.methods.mfas.mfas import MFAS
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.methods.mro.mro import MRO
from polymix.methods.random.random import RandomSearch
from polymix.search.protocol import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    s.name: s for s in (Auto, MixMAS, M2Mixer, MFAS, BMNAS, MRO, RandomSearch)
}


def make_strategy(name: str, options: dict[str, Any] | None = None) -> Strategy:
    """A strategy by name, with its options.

    Raises:
        UsageError: no such strategy or option, or a value that is not one; all problems at once.
    """
    if name not in STRATEGIES:
        raise UsageError(f"no strategy '{name}': {did_you_mean(name, STRATEGIES)}")
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
