"""What a dataset is to polymix before it is built: a name, its settings, a way to build it.

Beside it are the checks of settings that several builders share, and the digits' schema.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from polymix import built_in
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.errors import did_you_mean
from polymix.registry import Parts, lacking


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


def unseeded(builder: Builder, seed: int) -> list[str]:
    """What is wrong with the seed of a builder that draws nothing."""
    return [f"dataset '{builder.NAME}' draws nothing: leave its seed out"] if seed != 0 else []


def one_of(builder: Builder, name: str, known: Iterable[str]) -> list[str]:
    """What is wrong with a setting that is one of some words."""
    value, words = getattr(builder, name), list(known)
    if value in words:
        return []
    hint = did_you_mean(str(value), words)
    return [f"dataset '{builder.NAME}' has no {name} {value!r}: {hint}"]


def between(builder: Builder, limits: Mapping[str, tuple[int, int]]) -> list[str]:
    """What is wrong with settings that are whole numbers, the limits among them."""
    return [
        f"{least} <= {name} <= {most} must hold, but got {value!r}"
        for name, (least, most) in limits.items()
        if not isinstance(value := getattr(builder, name), int) or not least <= value <= most
    ]


def digits_schema(size: int) -> Schema:
    """A digit seen, 28 x 28, and heard, a spectrogram of `size` x `size`."""
    return Schema(
        modalities=(
            Modality(name="image", kind=Kind.IMAGE, shape=(1, 28, 28), dtype="uint8"),
            Modality(name="audio", kind=Kind.AUDIO, shape=(1, size, size), dtype="uint8"),
        ),
        target=Target(
            name="digit", task=Task.MULTICLASS, classes=tuple(str(digit) for digit in range(10))
        ),
    )


def _is_builder(part: Any) -> bool:
    # A dataset has no base class: its name in capitals and its `build` give it away.
    return inspect.isclass(part) and hasattr(part, "NAME") and hasattr(part, "build")


def _lacks(cls: type[Builder]) -> Iterator[str]:
    meaning = {
        "SUMMARY": "one line for its users",
        "MODALITIES": "the modalities' names, in the schema's order",
        "VERSION": "a whole number, raised when the same settings give other bytes",
        "NEEDS_RAW": "whether the user must bring raw files",
    }
    yield from lacking(cls, Builder, meaning, ["settings", "fingerprint", "build"])
    if not dataclasses.is_dataclass(cls):
        yield "no dataclass: its fields are the settings"


DATASETS: Parts[type[Builder]] = Parts(
    "a dataset",
    "a class with NAME and build; see polymix.datasets.builder.Builder",
    _is_builder,
    _lacks,
    name="NAME",
    modules=built_in.DATASETS,
)
