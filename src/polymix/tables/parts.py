"""The parts of a tabular modality: what each was fitted to on training rows; JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """What neither changes nor takes a field that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NumberPart(Frozen):
    """A column of numbers: centred, scaled, and whether it is missing.

    Attributes:
        centre: the training rows' median; also what a missing number is taken for.
        scale: what it is divided by.
        indicator: whether a second number says that it is missing.
        unit: what follows the number in most cells, such as `kg`; nothing for a plain number.
    """

    kind: Literal["number"] = "number"
    column: str
    centre: Finite
    scale: Positive
    indicator: bool
    unit: str = Field(default="", exclude_if=lambda unit: not unit)

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return 1 + self.indicator


class CategoryPart(Frozen):
    """A column of categories, one number a level; the last stands for levels unseen.

    Attributes:
        levels: seen in training rows, often enough to be learned.
        shares: of the training rows, with the unseen level's behind.
        missing: whether an empty cell is a level of its own, the one before the last.
    """

    kind: Literal["category"] = "category"
    column: str
    levels: tuple[str, ...]
    shares: tuple[Finite, ...]
    missing: bool

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return len(self.levels) + self.missing + 1


class DatePart(Frozen):
    """A column of dates: when (scaled), month, weekday and hour as angles, whether it is missing.

    Attributes:
        layout: the format, as `polymix.tables.dates.date_format` names it.
        centre: the training rows' median, in days since 1970.
        scale: what days are divided by.
    """

    kind: Literal["date"] = "date"
    column: str
    layout: str
    centre: Finite
    scale: Positive

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return 8


Measure = Literal["first", "second", "third", "fourth", "largest", "numbers", "characters", "words"]
"""What is measured of a text: four numbers in it, the largest, and how many of what it has."""


class TextMeasure(Frozen):
    """A number that texts hold.

    Attributes:
        what: which.
        centre: the training rows' median; also what a missing number is taken for.
        scale: what it is divided by.
        indicator: whether a second number says that it is missing.
    """

    what: Measure
    centre: Finite
    scale: Positive
    indicator: bool


class TextNumbersPart(Frozen):
    """The numbers in a column's texts, those of them that training rows tell apart."""

    kind: Literal["text_numbers"] = "text_numbers"
    column: str
    measures: tuple[TextMeasure, ...] = Field(min_length=1)

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return sum(1 + measure.indicator for measure in self.measures)


Part = Annotated[
    NumberPart | CategoryPart | DatePart | TextNumbersPart, Field(discriminator="kind")
]
