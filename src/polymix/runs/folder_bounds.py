"""What a run folder's files say, checked before any of it is obeyed: sizes, and one with another.

A folder's seal is a plain hash: it tells an accident, and anybody can renew it. So nothing that a
file asks for is made before it is known to be what a run writes, and to agree with the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polymix.data.schema import Decision, Modality, Schema
from polymix.errors import DataError, RunFolderError, describe
from polymix.records import Role
from polymix.store.run_folder import RunFolder
from polymix.tables.recipe import TableRecipe

Count = Annotated[int, Field(ge=0, lt=2**63)]
Real = Annotated[float, Field(allow_inf_nan=False)]
MAX_LISTED = 100_000
"""Finalists, trials or columns that a file may list."""

MAX_NUMBER = 2**53
"""The largest number of a configuration: options of strategies have bounds of their own."""


class _Said(BaseModel):
    """A part of a file; what polymix does not read may stand beside it."""

    model_config = ConfigDict(frozen=True, extra="allow")


class _Trained(_Said):
    key: str
    score_val: Real | None = None
    weights: str | None = None


class _Finalist(_Said):
    rank: int | None
    tied_with: tuple[int, ...]
    label: str
    genotype: dict[str, Any]
    architecture: str
    role: Role
    roles: tuple[Role, ...]
    score_val: Real | None
    ci: tuple[Real, Real] | None
    seeds: Count
    params: Count
    flops: Count
    steps: Count
    cpu_s: Real
    status: str
    error: str | None = None
    trials: tuple[_Trained, ...] = Field(max_length=MAX_LISTED)


class _Chosen(_Said):
    key: str
    rank: int | None


class _Gain(_Said):
    value: Real
    ci: tuple[Real | None, Real | None]


class _Metrics(_Said):
    """`metrics.json`, without its schema, which is read as one."""

    metric: str
    chosen: _Chosen | None
    refit: str | None = None
    development: str | None = None
    folds: int = Field(default=0, ge=0, le=1000)
    seeds: Count
    ranked: bool
    fusion_gain: _Gain | None
    notes: tuple[str, ...] = Field(max_length=MAX_LISTED)
    finalists: tuple[_Finalist, ...] = Field(max_length=MAX_LISTED)
    decisions: dict[str, Decision] = Field(default_factory=dict)


class _Report(_Said):
    """What is read again of `data_report.json`."""

    lost: dict[str, str] = Field(default_factory=dict)


def check_folder(folder: RunFolder) -> None:
    """Make sure that a folder's files are what a run writes, and speak of the same rows.

    Raises:
        RunFolderError: they are not; every problem is listed.
    """
    problems = [
        *_unlike(_Metrics, folder.metrics, "metrics.json"),
        *_unlike(_Report, folder.data_report, "data_report.json"),
        *_too_large(folder.config, "config.yaml"),
        *_of_schemas(folder),
    ]
    if problems:
        raise RunFolderError([f"{folder.path}: {problem}" for problem in problems])


def _unlike(model: type[_Said], said: Mapping[str, Any] | None, name: str) -> list[str]:
    if said is None:
        return []
    try:
        model.model_validate(said)
    except ValidationError as error:
        return [f"{name}: {describe(dict(p))}" for p in error.errors()[:9]]
    return []


def _too_large(value: object, place: str) -> list[str]:
    """Numbers of a configuration that no run has."""
    if isinstance(value, Mapping):
        return [p for key, inner in value.items() for p in _too_large(inner, f"{place}: {key}")]
    if isinstance(value, list):
        return [p for inner in value for p in _too_large(inner, place)]
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        return [f"{place} must be at most 2**53, but got {str(value)[:40]}"]
    return []


def _of_schemas(folder: RunFolder) -> list[str]:
    """Where `metrics.json` or `table.json` would read other rows than `schema.json` says."""
    problems = []
    asked = _asked(folder.schema)
    if folder.metrics is not None:
        problems += _compared(asked, folder.metrics.get("schema"), "metrics.json: schema")
    if folder.table_json is not None:
        try:
            recipe = TableRecipe.from_json(folder.table_json)
        except DataError as error:
            return [*problems, *error.problems]
        if _asked(recipe.row_schema) != asked:
            problems.append("table.json reads other rows than schema.json has: restore it")
    return problems


def _compared(asked: object, told: object, where: str) -> list[str]:
    try:
        schema = Schema.model_validate_json(json.dumps(told))
    except ValidationError as error:
        return [f"{where}: {describe(dict(p))}" for p in error.errors()[:9]]
    if _asked(schema) != asked:
        return [f"{where} is of other rows than schema.json has: restore it"]
    return []


def _asked(schema: Schema) -> object:
    """What is the same in all of a run's schemas: all but statistics, decisions and weights."""
    target = schema.target
    return [_shape(m) for m in schema.modalities], (target.name, target.task, target.classes)


def _shape(modality: Modality) -> object:
    return modality.model_copy(update={"statistics": None, "optional": False})
