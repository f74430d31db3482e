"""Everything polymix raises on purpose.

    PolymixError
    ├── UsageError           an option, a name or a value that cannot be used
    ├── DataError            raw files or rows that cannot be read
    ├── RunFolderError       a run folder that cannot be opened, or must not be overwritten
    ├── LedgerError          a ledger that cannot be read or written
    ├── GenotypeError        a description of an architecture that cannot be built
    │   └── CostError        one whose cost cannot be counted: building or running it raised
    ├── MissingExtraError    an optional dependency that is not installed
    └── SearchError          a search that cannot go on

Catch `PolymixError` to catch them all. The command line prints the message and exits with 2.

`PolymixWarning` is what is told while all goes on: cells that were lost, files built again.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

_COMMANDS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)
"""What moves a terminal's cursor, colours it, turns its text around, or cannot be encoded."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Text that a terminal only shows: what would command it stands there as an escape.

    Args:
        text: names and values from people's data, say.
        lines: line breaks and tabs stay.

    >>> printable("a\x1b[31mred")
    'a\\x1b[31mred'
    """
    return _COMMANDS.sub(lambda match: _escape(match.group(), lines), text)


def _escape(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    return ascii(character)[1:-1]


class PolymixError(Exception):
    """Root of all errors; carries every problem found, not only the first.

    Args:
        problems: one message, or several, each naming the place, the value and the cure.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        told = (problems,) if isinstance(problems, str) else problems
        self.problems: tuple[str, ...] = tuple(printable(each, lines=True) for each in told)
        super().__init__("\n".join(self.problems))


class UsageError(PolymixError):
    """An option, a name or a value that cannot be used."""


class DataError(PolymixError):
    """Raw files or rows that cannot be read."""


class RunFolderError(PolymixError):
    """A run folder that cannot be opened, or must not be overwritten."""


class LedgerError(PolymixError):
    """A ledger that cannot be read or written."""


class GenotypeError(PolymixError):
    """A description of an architecture that cannot be built."""


class CostError(GenotypeError):
    """An architecture whose cost cannot be counted; `__cause__` is what it raised."""


class MissingExtraError(PolymixError):
    """An optional dependency that is not installed."""


class SearchError(PolymixError):
    """A search that cannot go on."""


class PolymixWarning(UserWarning):
    """Something went another way than a person may think, and the result depends on it."""


class Problems:
    """Collects errors, so that all of them can be told at once."""

    def __init__(self) -> None:
        self._errors: list[PolymixError] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep what is raised within."""
        try:
            yield
        except PolymixError as error:
            self._errors.append(error)

    def raise_any(self) -> None:
        """Raise what was kept.

        Raises:
            PolymixError: the one that was kept, or a `UsageError` with the problems of all.
        """
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            said = [problem for error in self._errors for problem in error.problems]
            raise UsageError(list(dict.fromkeys(said)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with a mistyped name.

    >>> did_you_mean("mixmass", ["mixmas", "m2-mixer"])
    "did you mean 'mixmas'? Known: m2-mixer, mixmas."
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names)}."


def describe(problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems as one line: where, what, and the value.

    What a validator of the whole says names its values itself.
    """
    if problem.get("type") == "value_error" and not problem.get("loc"):
        return str(problem["msg"]).removeprefix("Value error, ")
    place = ".".join(str(part) for part in problem.get("loc", ())) or "top level"
    value = json.dumps(problem.get("input"), default=str)
    shown = value if len(value) <= 80 else value[:77] + "..."
    return f"{place}: {problem.get('msg')} (got {shown})"
