"""What was found in a table: `data_report.json`, and lines for the screen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polymix.tables.cells import well_formed
from polymix.tables.unreadable import EMPTY

SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """A cell that gave nothing.

    Attributes:
        row: the table's, counted from 0 without the header.
        column: its name.
        cause: a few words, the same for all cells with the same trouble.
        value: what the cell holds, shortened.
    """

    row: int
    column: str
    cause: str
    value: str

    def __str__(self) -> str:
        shown = "" if self.cause == EMPTY else f" ({self.value!r})"
        return f"row {self.row}, column '{self.column}': {self.cause}{shown}"


def shortened(value: Any) -> str:
    """A cell as at most eighty characters."""
    text = "" if value is None else well_formed(str(value))
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass
class TableReport:
    """What was found in a table.

    Attributes:
        table: its name.
        rows: counts by name: `read`, `used`, and those set aside by why.
        columns: what each column was taken for: `column`, `type`, `reason`.
        faults: cells that gave nothing, empty ones too.
        absent: rows without a modality, by modality.
        split: rows by split.
        duplicates: rows that stand in two splits: `rows`, lists of the table's rows.
        notes: whatever else was noticed.
        sealed: the digest of the table that the test rows are, where they are one of their own.
    """

    table: str
    rows: dict[str, int] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=dict)
    split: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sealed: str | None = None

    @property
    def lost(self) -> dict[str, str]:
        """Columns that were left out because no training row could be read, and why."""
        return {c["column"]: c["reason"] for c in self.columns if c.get("lost")}

    def counts(self) -> dict[str, dict[str, int]]:
        """How many cells gave nothing, by column and cause."""
        counted = Counter((f.column, f.cause) for f in self.faults)
        found: dict[str, dict[str, int]] = {}
        for (column, cause), count in sorted(counted.items(), key=lambda item: item[0]):
            found.setdefault(column, {})[cause] = count
        return found

    def plain(self) -> dict[str, Any]:
        """As plain values; each fault is listed."""
        return {
            "schema_version": 1,
            "table": self.table,
            "rows": self.rows,
            "columns": self.columns,
            "lost": self.lost,
            "counts": self.counts(),
            "absent": self.absent,
            "split": self.split,
            "duplicates": self.duplicates,
            "notes": self.notes,
            "sealed": self.sealed,
            "cells": [
                {"row": f.row, "column": f.column, "cause": f.cause, "value": f.value}
                for f in self.faults
            ],
        }

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.plain(), indent=1, ensure_ascii=True, allow_nan=False)


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """A report, as `TableReport.plain` gives it, for the screen."""
    found = [f"{c['column']}: {c['type']} - {c['reason']}" for c in report["columns"]]
    for column, causes in report["counts"].items():
        said = ", ".join(f"{count} {cause}" for cause, count in causes.items())
        found.append(f"cells that give nothing in '{column}': {said}")
    found += [
        f"rows without '{name}': {count}" for name, count in report["absent"].items() if count
    ]
    rows = report["rows"]
    aside = [
        f"{count} {why}" for why, count in rows.items() if why not in ("read", "used") and count
    ]
    if aside:
        found.append(f"rows set aside: {', '.join(aside)}")
    if report["split"]:
        found.append("rows: " + ", ".join(f"{n} {name}" for name, n in report["split"].items()))
    if report["duplicates"].get("count"):
        found.append(
            f"{report['duplicates']['count']} rows stand in more than one split, first of them "
            f"{_first(report['duplicates']['rows'])}: scores may be too good; "
            "a --group column keeps rows together"
        )
    return [*found, *report["notes"]]


def unread_lines(report: TableReport, rows: int) -> list[str]:
    """What is lost of rows that a model is asked of: a sentence for each column.

    Cells that are empty are told of where all are: a model then sees nothing of their column.

    Args:
        report: of the rows.
        rows: how many there are.
    """
    found, empty = [], []
    for column, causes in report.counts().items():
        broken = {cause: count for cause, count in causes.items() if cause != EMPTY}
        if broken:
            said = ", ".join(f"{count} {cause}" for cause, count in broken.items())
            found.append(
                f"{sum(broken.values())} of {rows} cells in '{column}' cannot be used ({said}): "
                "their rows are predicted without them"
            )
        elif causes[EMPTY] >= rows:
            empty.append(column)
    if empty:
        names = ", ".join(f"'{name}'" for name in empty[:SHOWN])
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        found.append(
            f"every cell is empty in {names}{more}: all {rows} rows are predicted without them"
        )
    return found


def _first(groups: Sequence[Iterable[int]]) -> str:
    return "; ".join(" and ".join(map(str, group)) for group in groups[:SHOWN])


def lost_lines(report: Mapping[str, Any]) -> list[str]:
    """What a report says of columns that were lost whole: a warning for each."""
    return [
        f"column '{column}' was lost: {why.removeprefix('left out: ')}; the model does not see it"
        for column, why in report.get("lost", {}).items()
    ]
