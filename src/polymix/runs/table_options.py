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


MAX_SCHEMA_FILE = 1_000_000
"""Bytes of a file of column types."""


class _TextLoader(yaml.BaseLoader):
    """Everything that is no list and no mapping is a text, and there are no aliases.

    A column called `no` keeps its name. Of aliases, a few lines unfold to more than any memory
    holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has YAML aliases: write each value out")
        return super().compose_node(parent, index)


def texts_of_yaml(path: Path) -> Any:
    """A YAML file's mappings, lists and texts.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plain file, too large, no text, or has aliases.
        yaml.YAMLError: it is not YAML.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no plain file")
    with path.open("rb") as file:
        data = file.read(MAX_SCHEMA_FILE + 1)
    if len(data) > MAX_SCHEMA_FILE:
        raise ValueError(f"it has more than {MAX_SCHEMA_FILE:,} bytes")
    return yaml.load(data.decode("utf-8"), _TextLoader)


def column_types_of(text: str | None, file: str | Path | None) -> dict[str, str]:
    """Column types from `name=type,name=type` and from a YAML file; what the text says counts.

    Raises:
        UsageError: one is not of that form; all problems at once.
    """
    problems: list[str] = []
    found: dict[str, str] = {}
    if file is not None:
        try:
            said = texts_of_yaml(Path(file))
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            said = {}
            reason = " ".join(str(error).split())[:200]
            problems.append(f"--schema-file {file} cannot be read: {reason}")
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
