"""The schema: a dataset's modalities and target, and the training rows' statistics; JSON."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from polymix.errors import DataError, describe, did_you_mean


class Kind(StrEnum):
    """What a modality's cells are, and so which shape a batch of them has.

    | kind         | one row, raw             | one batch, converted (float unless said)   |
    |--------------|--------------------------|--------------------------------------------|
    | `image`      | `(C, H, W)`              | `(B, C, H, W)`                             |
    | `audio`      | `(C, F, T)` spectrogram  | `(B, C, F, T)`                             |
    | `timeseries` | `(T, C)`                 | `(B, T, C)`                                |
    | `text`       | `(T,)` token ids, 0 pads | `(B, T)` int64                             |
    | `tabular`    | `(D,)`                   | `(B, D)`                                   |
    | `features`   | `(D,)` or `(T, C)`       | `(B, D)` or `(B, T, C)`                    |
    """

    IMAGE = "image"
    AUDIO = "audio"
    TIMESERIES = "timeseries"
    TEXT = "text"
    TABULAR = "tabular"
    FEATURES = "features"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
Size = Annotated[int, Field(ge=1, le=10_000_000)]


LARGEST_ROW = 2**27
"""Numbers that one row of a modality may have: half a gigabyte in float32."""


class Statistics(_Model):
    """Mean and standard deviation over the training rows that have the modality.

    One number for an image or a spectrogram's channel, one a column otherwise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means, {len(self.std)} standard deviations")
        if not all(math.isfinite(v) for v in self.mean):
            raise ValueError("a mean is not finite")
        if not all(math.isfinite(v) and v > 0 for v in self.std):
            raise ValueError("a standard deviation is not finite and positive")
        return self


class Modality(_Model):
    """One input of a row.

    Attributes:
        name: how it is called everywhere.
        kind: what its cells are.
        shape: one row's shape, without the batch.
        dtype: the dtype in which its rows are kept.
        optional: whether some training row lacks it.
        vocabulary: number of token ids (`text` only).
        statistics: of the training rows; none for `text`.
        padded: whether a row may have fewer tokens than T: the first of its columns is then 1 for
            a token that is there and 0 for padding, which a batch holds as zeros throughout.
        gaps: whether some of its C channels have steps that nobody measured: a row is then
            `(T, 3C)`, or `(T, 1 + 3C)` if padded, as `polymix.data.gaps.carry_forward` makes it.
        focus: which of its T tokens the row is about, the others being its context; none where it
            is about all of them.
        scaled: whether its numbers were scaled when they were read, so that no statistics are
            fitted and a batch holds them as they are.
        categories: spans (first column, width) of a table's columns that are one category, one
            column a level: levels by frequency, then a missing one where there is one, then the
            unseen.
    """

    name: Name
    kind: Kind
    shape: tuple[Size, ...] = Field(min_length=1, max_length=3)
    dtype: Literal["uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
    optional: bool = False
    vocabulary: Size | None = None
    statistics: Statistics | None = None
    padded: bool = Field(default=False, exclude_if=lambda padded: not padded)
    gaps: bool = Field(default=False, exclude_if=lambda gaps: not gaps)
    focus: int | None = Field(default=None, ge=0, exclude_if=lambda focus: focus is None)
    scaled: bool = Field(default=False, exclude_if=lambda scaled: not scaled)
    categories: tuple[tuple[int, int], ...] = Field(
        default=(), exclude_if=lambda categories: not categories
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ranks = {
            Kind.IMAGE: (3,),
            Kind.AUDIO: (3,),
            Kind.TIMESERIES: (2,),
            Kind.TEXT: (1,),
            Kind.TABULAR: (1,),
            Kind.FEATURES: (1, 2),
        }[self.kind]
        if len(self.shape) not in ranks:
            raise ValueError(
                f"modality '{self.name}': kind {self.kind} takes a shape of "
                f"{' or '.join(map(str, ranks))} axes, but got {self.shape}"
            )
        if (self.kind is Kind.TEXT) != (self.vocabulary is not None):
            raise ValueError(f"modality '{self.name}': a vocabulary goes with kind text alone")
        if math.prod(self.shape) > LARGEST_ROW:
            raise ValueError(
                f"modality '{self.name}': a row of {self.shape} has {math.prod(self.shape):,} "
                f"numbers, and {LARGEST_ROW:,} are the most"
            )
        sequence = self.kind in (Kind.TIMESERIES, Kind.FEATURES) and len(self.shape) == 2
        if self.padded and not (sequence and self.shape[1] > 1):
            raise ValueError(
                f"modality '{self.name}': padding is for tokens (T, 1 + C) of kind timeseries or "
                f"features, but got kind {self.kind} of shape {self.shape}"
            )
        if self.gaps and (self.kind is not Kind.TIMESERIES or (self.shape[1] - self.padded) % 3):
            raise ValueError(
                f"modality '{self.name}': gaps are for kind timeseries of shape (T, 3C), or "
                f"(T, 1 + 3C) if padded, but got kind {self.kind} of shape {self.shape}"
            )
        if self.focus is not None and not (sequence and self.focus < self.shape[0]):
            raise ValueError(
                f"modality '{self.name}': focus is one of the tokens (T, C) of kind timeseries or "
                f"features, but got {self.focus} for kind {self.kind} of shape {self.shape}"
            )
        last = 0
        for first, width in self.categories:
            if self.kind is not Kind.TABULAR or first < last or width < 1:
                last = self.shape[-1] + 1
                break
            last = first + width
        if self.categories and last > self.shape[-1]:
            raise ValueError(
                f"modality '{self.name}': categories are spans of a table's columns, in order, "
                f"but got {self.categories} for kind {self.kind} of shape {self.shape}"
            )
        if self.statistics and self.scaled:
            raise ValueError(f"modality '{self.name}': what is scaled has no statistics")
        if self.statistics and len(self.statistics.mean) not in (1, self.channels):
            raise ValueError(
                f"modality '{self.name}': {len(self.statistics.mean)} statistics "
                f"for {self.channels} channels"
            )
        return self

    @property
    def channels(self) -> int:
        """Number of channels (image, audio) or columns (the others; 1 for text)."""
        if self.kind in (Kind.IMAGE, Kind.AUDIO):
            return self.shape[0]
        return 1 if self.kind is Kind.TEXT else self.shape[-1]


class Task(StrEnum):
    """What is predicted."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"


class Decision(_Model):
    """How a trained model's outputs become what it says; fitted on validation rows.

    Attributes:
        temperature: logits are divided by it.
        thresholds: the probability above which each label is said; one half where there are none.
    """

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()


class Target(_Model):
    """What is predicted.

    Attributes:
        name: the column.
        task: what kind of prediction it is.
        classes: of a binary or multiclass target, or the labels of a multilabel one.
        statistics: of a regression target's training rows; models predict in these units.
        weights: what a row of each class counts in the loss, or a row that has the label against
            one that has not; none where all count the same.
        decision: of the trained model that a schema is served with; none before there is one.
    """

    name: Name
    task: Task
    classes: tuple[str, ...] = ()
    statistics: Statistics | None = None
    weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(), exclude_if=lambda weights: not weights
    )
    decision: Decision | None = Field(default=None, exclude_if=lambda decision: decision is None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        least = {Task.BINARY: 2, Task.MULTICLASS: 2, Task.MULTILABEL: 1, Task.REGRESSION: 0}
        if self.task is Task.REGRESSION and self.classes:
            raise ValueError("a regression target has no classes")
        if self.task is Task.BINARY and len(self.classes) != 2:
            raise ValueError(f"a binary target has two classes, but got {self.classes}")
        if len(self.classes) < least[self.task]:
            raise ValueError(f"a {self.task} target needs classes, but got {self.classes}")
        if self.weights and len(self.weights) != len(self.classes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.classes)} classes")
        thresholds = self.decision.thresholds if self.decision else ()
        wanted = len(self.classes) if self.task is Task.MULTILABEL else 0
        if thresholds and len(thresholds) != wanted:
            raise ValueError(f"{len(thresholds)} thresholds for {wanted} labels")
        return self

    @property
    def outputs(self) -> int:
        """Width K of a model's output: classes (two for binary), labels, or 1."""
        return len(self.classes) if self.classes else 1


class Schema(_Model):
    """The ordered modalities and the target."""

    modalities: tuple[Modality, ...] = Field(min_length=1)
    target: Target

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [m.name for m in self.modalities]
        if len(set(names)) != len(names):
            raise ValueError(f"modality names must differ, but got {names}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names, in order."""
        return tuple(m.name for m in self.modalities)

    def __getitem__(self, name: str) -> Modality:
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise DataError(f"no modality '{name}': {did_you_mean(name, self.names)}")

    def index(self, name: str) -> int:
        """Where the modality stands: its column in presence masks."""
        return self.names.index(self[name].name)

    def to_json(self) -> str:
        """The schema as JSON text; `Schema.from_json` reads it back."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str, where: str = "schema.json") -> Schema:
        """Read a schema.

        Raises:
            DataError: the text is not a schema; every problem is listed.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise DataError(
                [f"{where}: {describe(problem)}" for problem in error.errors()]
            ) from None

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a schema from a file (see `from_json`)."""
        return cls.from_json(path.read_text(encoding="utf-8"), str(path))
