"""What a dataset is to polymix before it is built: a name, its settings, a way to build it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol


class Progress(Protocol):
    """Told how far a build is: `done` of `total` steps of `what`."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Hear of a step."""


class Builder(Protocol):
    """One way to build a dataset: a frozen dataclass whose fields are the settings.

    Attributes:
        NAME: what the user calls it.
        SUMMARY: one line.
        MODALITIES: their names, in the schema's order.
        NEEDS_RAW: whether the user must bring raw files.
        VERSION: raised whenever the same settings would give other bytes.
    """

    NAME: ClassVar[str]
    SUMMARY: ClassVar[str]
    MODALITIES: ClassVar[tuple[str, ...]]
    NEEDS_RAW: ClassVar[bool]
    VERSION: ClassVar[int]

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the raw files; JSON values."""

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the raw files' bytes.

        Raises:
            DataError: raw files are missing; all of them are listed.
            MissingExtraError: a package that they come with is not installed.
        """

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; a failure leaves nothing.

        Raises:
            DataError: the raw files cannot be used; every problem is listed.
            MissingExtraError: a package that the build needs is not installed.
        """


def silent(done: int, total: int, what: str) -> None:
    """The progress of a build that nobody watches."""
