"""How a table's rows become arrays: all that was fitted on its training rows; JSON."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from polymix.data.schema import Kind, Modality, Name, Schema, Target, Task
from polymix.errors import DataError, describe
from polymix.tables.parts import CategoryPart, Frozen, Part


class ColumnType(StrEnum):
    """What a column's cells are."""

    IMAGE = "image_path"
    AUDIO = "audio_path"
    TEXT = "text"
    PRETRAINED_TEXT = "pretrained_text"
    LEARNED_TEXT = "learned_text"
    CATEGORICAL = "categorical"
    NUMERICAL = "numerical"
    TIMESERIES = "timeseries"
    FEATURES = "features"
    DATE = "date"
    IGNORE = "ignore"


Side = Annotated[int, Field(ge=1, le=4096)]


class ImageRecipe(Frozen):
    """A column of paths to images, each made `(channels, height, width)` uint8."""

    kind: Literal["image"] = "image"
    name: Name
    column: str
    channels: Literal[1, 3]
    height: Side
    width: Side

    @property
    def modality(self) -> Modality:
        """What a model sees."""
        shape = (self.channels, self.height, self.width)
        return Modality(name=self.name, kind=Kind.IMAGE, shape=shape, dtype="uint8")


class AudioRecipe(Frozen):
    """A column of paths to sounds, each made a log-mel spectrogram `(1, bins, frames)` uint8.

    Attributes:
        rate: samples a second, after resampling.
        samples: that are looked at, from the start; what is shorter is followed by silence.
        bins: mel frequencies.
        frames: in time.
    """

    kind: Literal["audio"] = "audio"
    name: Name
    column: str
    rate: int = Field(ge=1000, le=96_000)
    samples: int = Field(ge=64, le=10_000_000)
    bins: Side
    frames: Side

    @property
    def modality(self) -> Modality:
        """What a model sees."""
        shape = (1, self.bins, self.frames)
        return Modality(name=self.name, kind=Kind.AUDIO, shape=shape, dtype="uint8")


class TextRecipe(Frozen):
    """A column of texts, each made `(length,)` token ids.

    Attributes:
        vocabulary: number of ids.
        tokenizer: the byte pairs, or a pretrained network's own, in the form of the library
            `tokenizers`.
    """

    kind: Literal["text"] = "text"
    name: Name
    column: str
    length: int = Field(ge=1, le=65_536)
    vocabulary: int = Field(ge=2, le=1_000_000)
    tokenizer: str = Field(repr=False)

    @property
    def modality(self) -> Modality:
        """What a model sees."""
        return Modality(
            name=self.name, kind=Kind.TEXT, shape=(self.length,), dtype="int32",
            vocabulary=self.vocabulary,
        )  # fmt: skip


class SeriesRecipe(Frozen):
    """Arrays in cells, paths to `.npy` files, or a group of columns.

    Attributes:
        columns: one, or a group's, in order.
        grid: steps and channels that a group's columns make.
        length: steps; longer ones are cut, shorter ones padded.
        channels: numbers a step.
        padded: whether lengths differ, so that each step says whether it is there.
        gaps: whether training rows lack values, so that each value says whether it is there.
        features: whether the order of the numbers means nothing.
    """

    kind: Literal["series"] = "series"
    name: Name
    columns: tuple[str, ...] = Field(min_length=1)
    grid: tuple[int, int] | None = None
    length: int = Field(ge=1, le=1_000_000)
    channels: int = Field(ge=1, le=1_000_000)
    padded: bool = False
    gaps: bool = False
    features: bool = False

    @property
    def modality(self) -> Modality:
        """What a model sees: `(length, channels)`, three for one where there are gaps.

        Padded ones have a column before.
        """
        if self.features and self.channels == 1:
            shape: tuple[int, ...] = (self.length,)
        else:
            shape = (self.length, self.channels * (3 if self.gaps else 1) + self.padded)
        kind = Kind.FEATURES if self.features else Kind.TIMESERIES
        return Modality(
            name=self.name, kind=kind, shape=shape, dtype="float32", padded=self.padded,
            gaps=self.gaps,
        )  # fmt: skip


class TabularRecipe(Frozen):
    """Columns of numbers, categories, dates and texts' numbers, side by side `(D,)` float32."""

    kind: Literal["tabular"] = "tabular"
    name: Name
    parts: tuple[Part, ...] = Field(min_length=1)

    @property
    def modality(self) -> Modality:
        """What a model sees."""
        spans, width = [], 0
        for part in self.parts:
            if isinstance(part, CategoryPart):
                spans.append((width, part.width))
            width += part.width
        return Modality(
            name=self.name, kind=Kind.TABULAR, shape=(width,), dtype="float32", scaled=True,
            categories=tuple(spans),
        )  # fmt: skip


class TargetRecipe(Frozen):
    """The target's column.

    Attributes:
        column: its name in the table.
        task: what is predicted.
        classes: as texts; the labels of a multilabel target.
        separator: between a multilabel cell's labels; none for lists.
        dtype: what a class is in the person's own table.
    """

    column: str
    task: Task
    classes: tuple[str, ...] = ()
    separator: str | None = None
    dtype: Literal["str", "int", "float", "bool"] = "str"

    @model_validator(mode="after")
    def _spelled(self) -> Self:
        for name in self.classes:
            self.own(name)
        return self

    def own(self, name: str) -> str | int | float | bool:
        """A class as the person's table has it."""
        if self.dtype == "int":
            return int(name)
        if self.dtype == "float":
            return float(name)
        return name == "True" if self.dtype == "bool" else name


class ColumnNote(Frozen):
    """What a column was taken for, and why.

    Attributes:
        column: its name.
        type: what it was taken for.
        reason: why.
        lost: whether it would have been read, had a training row had anything that can be.
    """

    column: str
    type: ColumnType
    reason: str
    lost: bool = Field(default=False, exclude_if=lambda lost: not lost)


ModalityRecipe = Annotated[
    ImageRecipe | AudioRecipe | TextRecipe | SeriesRecipe | TabularRecipe,
    Field(discriminator="kind"),
]


class TableRecipe(Frozen):
    """All that reading a table like the one a run was made on takes; `table.json`.

    Attributes:
        format: of this file.
        name: the table's.
        notes: each column's type and the reason for it.
        modalities: in the schema's order.
        target: the target's column.
        target_name: what the schema calls it.
    """

    format: Literal[1] = 1
    name: str
    notes: tuple[ColumnNote, ...]
    modalities: tuple[ModalityRecipe, ...] = Field(min_length=1)
    target: TargetRecipe
    target_name: Name

    @model_validator(mode="after")
    def _usable(self) -> Self:
        # Bounds of rows are the schema's; a recipe that reads others is none.
        _ = self.row_schema
        return self

    @property
    def row_schema(self) -> Schema:
        """The schema, without statistics."""
        target = Target(name=self.target_name, task=self.target.task, classes=self.target.classes)
        return Schema(modalities=tuple(m.modality for m in self.modalities), target=target)

    @property
    def inputs(self) -> dict[str, str]:
        """The columns that are read, and the modality that each belongs to; a text's is itself."""
        found: dict[str, str] = {}
        for recipe in self.modalities:
            for column in columns_of(recipe):
                found.setdefault(column, recipe.name)
        return found

    def to_json(self) -> str:
        """The recipe as JSON text; `TableRecipe.from_json` reads it back."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "table.json") -> TableRecipe:
        """Read a recipe.

        Raises:
            DataError: the text is none; every problem is listed.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise DataError([f"{where}: {describe(dict(p))}" for p in error.errors()]) from None

    @classmethod
    def load(cls, path: Path) -> TableRecipe:
        """Read a recipe from a file (see `from_json`)."""
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from None


def columns_of(recipe: ModalityRecipe) -> tuple[str, ...]:
    """The columns that a modality is read from."""
    if isinstance(recipe, SeriesRecipe):
        return recipe.columns
    if isinstance(recipe, TabularRecipe):
        return tuple(part.column for part in recipe.parts)
    return (recipe.column,)
