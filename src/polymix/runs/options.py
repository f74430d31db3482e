"""The options of a run, each spelled once: its type, bounds, default, and what people are told.

The command line's options and the keywords of `Predictor` are made from `RunOptions`, and a run's
configuration has its fields. It imports nothing heavy, because `--help` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from polymix.errors import UsageError, did_you_mean
from polymix.units import parse_duration

if TYPE_CHECKING:
    from polymix.search.protocol import Strategy

MAX_SEED = 2**31 - 1
Balanced = Literal["balanced"]
Compare = Literal["fifth", "full"]
Preset = Literal["fast", "good", "best"]


@dataclass(frozen=True)
class Spelling:
    """How people write an option.

    Attributes:
        flag: on the command line; the field's name with dashes where not given.
        short: a letter's flag.
        argument: in Python; the field's name where not given.
        metavar: what `--help` has in the place of a value.
        default: what `--help` says of the default; the default itself where not given.
        python_only: it is no option of the command line.
    """

    flag: str = ""
    short: str = ""
    argument: str = ""
    metavar: str | None = None
    default: str = ""
    python_only: bool = False


def _seconds(given: Any) -> Any:
    """Seconds of text such as "10m"; anything else is left to the type."""
    if not isinstance(given, str):
        return given
    try:
        return parse_duration(given)
    except UsageError as error:
        raise ValueError(str(error)) from None


class SharedOptions(BaseModel):
    """What is asked of a run and stands in its configuration as it was asked.

    Attributes are described by their fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_limit: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        BeforeValidator(_seconds),
        Field(description="Time for the whole run once the data are read: 90s, 10m, 1h30m."),
        Spelling(default="none"),
    ] = None
    preset: Annotated[
        Preset | None,
        Field(
            description="How much to spend where no limit is named: fast (1m), good (10m) or best "
            "(1h, networks too); --time-limit wins over its time."
        ),
        Spelling(default="none: all candidates, without a limit"),
    ] = None
    trials: Annotated[
        int | None,
        Field(ge=1, description="Number of trials, including the training of finalists."),
        Spelling(default="none"),
    ] = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED, description="Random seed.")] = 0
    compare: Annotated[
        Compare, Field(description="Random search's share of the budget: fifth or full.")
    ] = "fifth"
    reuse: Annotated[
        tuple[str | Path, ...],
        Field(description="Take over the trials of this run folder; may be repeated."),
        Spelling(metavar="DIR", default="none"),
    ] = ()
    ledger: Annotated[
        str | None,
        Field(description="URL of a database to use in place of the run folder's own ledger."),
        Spelling(python_only=True),
    ] = None
    jobs: Annotated[
        int, Field(ge=1, le=1024, description="Number of processes that train in parallel.")
    ] = 1
    ensemble: Annotated[
        bool,
        Field(description="Also try an ensemble of the models trained; on a table always."),
    ] = False
    single: Annotated[bool, Field(description="Ship one model, never an ensemble.")] = False
    no_refit: Annotated[
        bool,
        Field(description="Do not fit a table's final model on every row, test rows included."),
    ] = False
    class_weights: Annotated[
        Balanced | None,
        Field(description="Weigh rare classes more in the loss: balanced."),
        Spelling(default="none"),
    ] = None


class RunOptions(SharedOptions):
    """All that can be asked of a run besides its data and its folder.

    Attributes are described by their fields.
    """

    target: Annotated[
        str | None,
        Field(description="Column to predict."),
        Spelling(argument="label", default="the dataset's own"),
    ] = None
    problem: Annotated[
        str | None,
        Field(
            description="Kind of prediction: binary, multiclass, multilabel or regression; "
            "found in a table's target where not given."
        ),
        Spelling(argument="problem_type", python_only=True),
    ] = None
    strategy: Annotated[
        str | InstanceOf[BaseModel] | None,
        Field(
            description="Search method: auto, mixmas, m2-mixer, mfas, bm-nas, mro, random, or one "
            "of your own."
        ),
        Spelling(default="auto for a table, mixmas for a dataset"),
    ] = None
    metric: Annotated[
        str | None,
        Field(
            description="Metric to maximize, by scikit-learn's name or a usual one: rmse, mae, "
            "auc, log_loss, mcc, qwk, …"
        ),
        Spelling(argument="eval_metric", default="by the target"),
    ] = None
    rows: Annotated[
        int | None,
        Field(ge=1, description="Use at most this many training rows, chosen at random."),
        Spelling(default="all"),
    ] = None
    raw: Annotated[
        Path | None,
        Field(description="Folder with the dataset's raw files."),
        Spelling(metavar="DIR", default="none"),
    ] = None
    device: Annotated[
        str | None,
        Field(description="Device to train on: cpu, cuda, cuda:1, …"),
        Spelling(default="cuda if available, else cpu"),
    ] = None
    raise_errors: Annotated[
        bool,
        Field(description="Stop at the first candidate that fails, with its traceback."),
    ] = False
    allow_download: Annotated[
        bool,
        Field(description="Fetch pretrained models that are named and not here from the hub."),
    ] = False
    options: Annotated[
        dict[str, Any],
        Field(description="Option of the strategy, its value in YAML; may be repeated."),
        Spelling(flag="--option", short="-o", metavar="KEY=VALUE", default="none"),
    ] = Field(default_factory=dict)
    data_options: Annotated[
        dict[str, Any],
        Field(description="Setting of the dataset, its value in YAML; may be repeated."),
        Spelling(flag="--data-option", short="-d", metavar="KEY=VALUE", default="none"),
    ] = Field(default_factory=dict)
    column_types: Annotated[
        dict[str, str],
        Field(description="Types of a table's columns, in place of those found."),
        Spelling(python_only=True),
    ] = Field(default_factory=dict)
    table: Annotated[
        dict[str, Any],
        Field(description='How a table is read, e.g. `{"group": "patient"}`; see `TableOptions`.'),
        Spelling(python_only=True),
    ] = Field(default_factory=dict)

    @property
    def table_fields(self) -> dict[str, Any]:
        """What was said of how a table is read."""
        return {**self.table, **({"types": self.column_types} if self.column_types else {})}


class TableFlags(BaseModel):
    """How a table is read, as the command line asks; in Python, `table` and `column_types` say it.

    Attributes are described by their fields.
    """

    group: Annotated[
        str | None,
        Field(description="Rows with the same value in this column stay in one split."),
        Spelling(default="none"),
    ] = None
    time: Annotated[
        str | None,
        Field(description="Train on the earliest rows by this column, and test on the latest."),
        Spelling(default="none"),
    ] = None
    split: Annotated[
        str | None,
        Field(description="Column that says train, val or test for each row."),
        Spelling(flag="--split-column", default="none"),
    ] = None
    column_types: Annotated[
        str | None,
        Field(
            description="Types of columns: image_path, audio_path, text, pretrained_text, "
            "categorical, numerical, timeseries, features, date, ignore."
        ),
        Spelling(metavar="NAME=TYPE,…", default="found in the columns"),
    ] = None
    schema_file: Annotated[
        Path | None,
        Field(description="YAML file with column types, a line NAME: TYPE for each."),
        Spelling(metavar="FILE", default="none"),
    ] = None
    valid: Annotated[
        str | None,
        Field(description="Table of the validation rows; all of SOURCE is then trained on."),
        Spelling(metavar="TABLE", default="drawn from SOURCE"),
    ] = None
    test: Annotated[
        str | None,
        Field(
            description="Table of the rows that evaluate scores; they choose nothing, and no row "
            "of SOURCE is sealed."
        ),
        Spelling(metavar="TABLE", default="drawn from SOURCE"),
    ] = None
    folds: Annotated[
        int | None,
        Field(
            description="Number of folds that compare models where rows are few; 0 compares "
            "them on validation rows."
        ),
        Spelling(default="5 below 10,000 rows"),
    ] = None
    test_share: Annotated[
        float | None,
        Field(description="Share of rows sealed for evaluate; 0 trains on all rows."),
        Spelling(default="0.15"),
    ] = None
    image_size: Annotated[
        int | None,
        Field(description="Height and width of images in pixels."),
        Spelling(default="by the files"),
    ] = None
    strict: Annotated[bool, Field(description="Refuse a table with cells that cannot be read.")] = (
        False
    )


class FitOptions(TypedDict, total=False):
    """The keywords of `Predictor.fit`, for editors and type checkers; see `RunOptions`."""

    time_limit: float | str | None
    preset: Preset | None
    trials: int | None
    seed: int
    compare: Compare
    reuse: Sequence[str | Path]
    ledger: str | None
    ensemble: bool
    single: bool
    no_refit: bool
    class_weights: Balanced | None
    strategy: str | Strategy | None
    rows: int | None
    raw: str | Path | None
    raise_errors: bool
    allow_download: bool
    options: Mapping[str, Any] | None
    data_options: Mapping[str, Any] | None
    column_types: Mapping[str, str] | None
    table: Mapping[str, Any] | None


def spelling(field: FieldInfo) -> Spelling:
    """How a field is written."""
    return next((m for m in field.metadata if isinstance(m, Spelling)), Spelling())


def flag_of(name: str, field: FieldInfo) -> str:
    """The flag of a field, as messages name it: `--time-limit`, `-o`."""
    spelled = spelling(field)
    return spelled.short or spelled.flag or "--" + name.replace("_", "-")


def checked_options(given: Mapping[str, Any]) -> tuple[RunOptions, list[str]]:
    """The options that can be used, defaults in place of the others, and what is wrong with those.

    Args:
        given: options by their field's name; none, for what takes no none, is the default.
    """
    fields = RunOptions.model_fields
    left_out = {n for n, v in given.items() if v is None and n in fields}
    given = {name: value for name, value in given.items() if name not in left_out}
    try:
        return RunOptions.model_validate(given), []
    except ValidationError as error:
        faults = {str(e["loc"][0]): e for e in reversed(error.errors())}
    sound = {name: value for name, value in given.items() if name not in faults}
    order = [*fields, *faults]
    told = [_told(name, faults[name]) for name in sorted(faults, key=order.index)]
    return RunOptions.model_validate(sound), told


def _told(name: str, fault: ErrorDetails) -> str:
    """One of pydantic's problems with an option as a sentence."""
    field = RunOptions.model_fields.get(name)
    if field is None:
        usual = [n for n, f in RunOptions.model_fields.items() if not spelling(f).argument]
        return f"no option '{name}': {did_you_mean(name, usual)}"
    flag, value, about = flag_of(name, field), fault["input"], fault.get("ctx", {})
    match fault["type"]:
        case "greater_than_equal":
            return f"{flag} must be at least {about['ge']}, but got {value}"
        case "greater_than":
            return f"{flag} must be more than {about['gt']:g}, but got {value}"
        case "less_than_equal":
            return f"{flag} must be at most {about['le']}, but got {value}"
        case "finite_number":
            return f"{flag} must be finite, but got {value}"
        case "literal_error":
            known = re.findall(r"'([^']+)'", about["expected"])
            return f"{flag} {value}: {did_you_mean(str(value), known)}"
        case "value_error":
            return str(about["error"])
    return f"{flag}: {fault['msg']} (got {value!r})"
