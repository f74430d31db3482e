"""Errors that are collected, so that a person is told all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polymix.errors import PolymixError, UsageError


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
