"""Settings that builders check alike, and one schema that two of them have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.datasets.builder import Builder
from polymix.errors import did_you_mean


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
