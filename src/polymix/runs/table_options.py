"""Tables as they are asked for: what is one, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd
import yaml
from pydantic import ValidationError

from polymix.datasets import DATASETS
from polymix.datasets.own_table import TableOptions
from polymix.errors import UsageError, describe
from polymix.tables.files import READ


def is_table(data: object) -> TypeGuard[str | Path | pd.DataFrame]:
    """Whether data are a table: a frame, or a file that is called like one."""
    if isinstance(data, str) and data in DATASETS:
        return False
    return isinstance(data, pd.DataFrame | Path) or (
        isinstance(data, str) and Path(data).suffix.lower() in READ
    )


def table_options(target: str, fields: Mapping[str, Any]) -> TableOptions:
    """How a table is read.

    Raises:
        UsageError: there is no such option, or a value is none; all problems at once.
    """
    try:
        return TableOptions.model_validate({**fields, "target": target})
    except ValidationError as error:
        raise UsageError([f"table: {describe(dict(p))}" for p in error.errors()]) from None


def column_types_of(text: str | None, file: str | Path | None) -> dict[str, str]:
    """Column types from `name=type,name=type` and from a YAML file; what the text says counts.

    Raises:
        UsageError: one is not of that form; all problems at once.
    """
    problems: list[str] = []
    found: dict[str, str] = {}
    if file is not None:
        try:
            said = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            said = {}
            problems.append(f"--schema-file {file} cannot be read: {' '.join(str(error).split())}")
        if isinstance(said, dict) and isinstance(said.get("columns"), dict):
            said = said["columns"]
        if isinstance(said, dict):
            found |= {str(name): str(kind) for name, kind in said.items()}
        else:
            problems.append(f"--schema-file {file}: lines of NAME: TYPE expected")
    for pair in (text or "").split(",") if text is not None else ():
        name, equals, kind = pair.rpartition("=")
        if not equals or not name.strip() or not kind.strip():
            problems.append(f"--column-types {pair!r}: write NAME=TYPE, with commas between")
        else:
            found[name.strip()] = kind.strip()
    if problems:
        raise UsageError(problems)
    return found
