"""Options as Python has them: keywords with texts, and messages that name them as such."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from polymix.errors import PolymixError, UsageError, did_you_mean
from polymix.runs.options import FitOptions, RunOptions, flag_of, spelling

_FLAG = re.compile(r"`[^`]*`|polymix [a-z][^:;,`]*|(?<![\w-])(?:--[a-z][a-z-]*|-[od] (?=\w))")
_OTHERS = {"--run-dir": "path", "--onnx": "path", "--split-column": "table split",
           "--valid": "tuning_data", "--test": "test_data"}  # fmt: skip


def check_keywords(names: Iterable[str]) -> None:
    """Make sure that `Predictor.fit` has these options.

    Raises:
        UsageError: it lacks some; all of them are told.
    """
    known = FitOptions.__annotations__
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError([f"fit has no option '{n}': {did_you_mean(n, known)}" for n in unknown])


def describe_keywords(function: Callable[..., Any]) -> None:
    """Give a function, in place of its `**options`, those of `FitOptions`, for `help`."""
    lines, added = [], []
    for name, field in RunOptions.model_fields.items():
        if name in FitOptions.__annotations__:
            default = None if field.default_factory else field.default
            kind = FitOptions.__annotations__[name].__forward_arg__
            added.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
                )
            )
            lines.append(f"    {name}: {field.description}")
    given = inspect.signature(function)
    plain = [p for p in given.parameters.values() if p.kind is not p.VAR_KEYWORD]
    signature = given.replace(parameters=[*plain, *added])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = (inspect.getdoc(function) or "") + "\n" + "\n".join(lines)


def in_python(problem: str) -> str:
    """A message that names flags, with the arguments' names; command lines in it stay.

    >>> in_python("--time-limit 'soon' is not a duration; see `polymix search --help`")
    "time_limit 'soon' is not a duration; see `polymix search --help`"
    """
    return _FLAG.sub(_argument, problem)


def _argument(match: re.Match[str]) -> str:
    """What stands for a flag; what is no flag stays."""
    said = match.group()
    if not said.startswith("-"):
        return said
    for name, field in RunOptions.model_fields.items():
        if said.strip() in (flag_of(name, field), spelling(field).flag):
            dot = "." if said.endswith(" ") else ""  # `-o epochs` is `options.epochs`
            return (spelling(field).argument or name) + dot
    return _OTHERS.get(said, said[2:].replace("-", "_"))


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Errors raised within name the arguments of Python, not the command line's flags."""
    try:
        yield
    except PolymixError as error:
        error.problems = tuple(in_python(problem) for problem in error.problems)
        error.args = ("\n".join(error.problems),)
        raise
