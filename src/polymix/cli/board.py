"""The leaderboard in a terminal: tables, drawings, and what to know before trusting it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polymix.cli.common import import_options
from polymix.cli.reports import show_fusion, show_shipped
from polymix.genotype import parse_genotype
from polymix.records import Role, Status
from polymix.units import show_count, show_score

MOST_FAILED = 10
"""Failed candidates that are told one by one."""


def leaderboard_table(board: dict[str, Any]) -> list[Table]:
    """The leaderboard as tables: the finalists, then the search."""
    finalists = [r for r in board["rows"] if "roles" in r]
    rest = [r for r in board["rows"] if "roles" not in r]
    tables = []
    if finalists:
        table = Table(title=f"Finalists, validation {board['metric']} (mean over seeds, 95%)")
        for name in ("", "rank", "what", "score", "interval", "ties", "seeds", "params", "MFLOPs",
                     "CPU s", "architecture"):  # fmt: skip
            numeric = name in ("rank", "score", "params", "MFLOPs", "CPU s", "seeds")
            table.add_column(
                name,
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=name not in ("what", "architecture"),
            )
        chosen = (board.get("chosen") or {}).get("rank")
        for row in finalists:
            table.add_row(
                "→" if row["rank"] and row["rank"] == chosen else "",
                str(row["rank"] or "-"),
                escape(row["label"]),
                show_score(row["score_val"]),
                "" if row["ci"] is None else f"{row['ci'][0]:.4f}-{row['ci'][1]:.4f}",
                ",".join(map(str, row["tied_with"])),
                str(row["seeds"]),
                show_count(row["params"]),
                f"{row['flops'] / 1e6:.2f}",
                f"{row['cpu_s']:.0f}",
                escape(row["architecture"]),
            )
        tables.append(table)
    if rest:
        table = Table(title=f"Search, validation {board['metric']} (one probe each)")
        for name in ("stage", "score", "status", "params", "MFLOPs", "CPU s", "architecture"):
            numeric = name in ("score", "params", "MFLOPs", "CPU s")
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        begun = [row for row in rest if not _unbegun(row)]
        for row in begun:
            table.add_row(
                escape(row["stage"]),
                show_score(row["score_val"]),
                row["status"] + (" (reused)" if row["origin"] == "reused" else ""),
                show_count(row["params"]),
                f"{row['flops'] / 1e6:.2f}",
                f"{row['cpu_s']:.1f}",
                escape(row["architecture"]),
            )
        if left := len(rest) - len(begun):
            table.caption = f"and {left} that the time limit left no time for"
        tables.append(table)
    return tables


def _unbegun(row: Mapping[str, Any]) -> bool:
    """Whether a trial had no time at all."""
    return bool(row["status"] == Status.STOPPED and row["score_val"] is None and not row["steps"])


def show_board(console: Console, board: dict[str, Any]) -> None:
    """The leaderboard, what fusion gained, and what to know before trusting it."""
    for table in leaderboard_table(board):
        console.print(table)
    _draw_best(console, board)
    show_shipped(console, board.get("chosen"))
    show_fusion(console, board)
    _tell_failed(console, board)
    for warning in board.get("lost", []):
        console.print(f"warning: {warning}", style="red", soft_wrap=True, markup=False)
    for note in board.get("notes", []):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    if board["status"] != "finished":
        console.print(
            f"note: this run is not finished: polymix resume {board['run']}{import_options()}",
            soft_wrap=True, markup=False,
        )  # fmt: skip


def _tell_failed(console: Console, board: dict[str, Any]) -> None:
    """Which candidates failed, and why, in a line each."""
    failed = dict.fromkeys(
        f"{row['architecture']}: {next(iter(row['error'].splitlines()), '')}"
        for row in board["rows"]
        if row.get("error")
    )
    for said in list(failed)[:MOST_FAILED]:
        console.print(f"failed: {said[:300]}", soft_wrap=True, markup=False, highlight=False)
    if failed:
        more = len(failed) - MOST_FAILED
        console.print(
            (f"and {more} more; " if more > 0 else "")
            + f"the full tracebacks are in {board['run']}/log.txt",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip


def _draw_best(console: Console, board: dict[str, Any]) -> None:
    """What is shipped, and the strategy's own best, where their kinds have drawings."""
    ranked = [row for row in board["rows"] if row["rank"]]
    chosen = (board.get("chosen") or {}).get("rank")
    own = next((row["rank"] for row in ranked if Role.WINNER.value in row["roles"]), None)
    for row in ranked:
        genotype = parse_genotype(json.dumps(row["genotype"]))
        if row["rank"] in (chosen, own) and genotype.draw() != str(genotype):
            console.print(f"{row['label']}:", soft_wrap=True, markup=False)
            console.print(genotype.draw(), soft_wrap=True, markup=False, highlight=False)
