"""What is asked of a finished run, in a terminal: test scores, probes, explanations, robustness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polymix.runs.fusion import fusion_line
from polymix.units import show_score


def show_evaluation(console: Console, result: dict[str, Any]) -> None:
    """The test scores of the model, and of every finalist."""
    table = Table(title=f"The model on {_rows({'of': result['n'], **result})}")
    for name in ("metric", "value", "95% interval"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, value in result["metrics"].items():
        table.add_row(name, show_score(value["value"]), _span(value["ci"]))
    console.print(table)
    if result.get("fitted_rows"):
        console.print(
            f"warning: {result['fitted_rows']} of these rows are among the rows that the model was "
            "fitted on: it scores too well on them",
            style="red", soft_wrap=True, markup=False,
        )  # fmt: skip
    if len(result["finalists"]) > 1:
        console.print(_finalists(result))
    show_shipped(console, result["shipped"])
    if result["unscored"]:
        count = len(result["unscored"])
        say(
            console,
            f"the other {count} finalists are not scored on test rows: compared out of fold, they "
            "keep no weights",
        )
    show_fusion(console, result)


def _finalists(result: dict[str, Any]) -> Table:
    """Every finalist on the test rows, and how the one that ships compares."""
    board = Table(title=f"Finalists, {result['split']} {result['metric']} (mean over seeds, 95%)")
    versus = {v["label"]: v["difference"] for v in result["shipped_minus"]}
    left = ("", "what")
    for name in (*left, "seeds", "value", "95% interval", "shipped minus this", "95% interval "):
        board.add_column(name, justify="left" if name in left else "right")
    for row in result["finalists"]:
        other = versus.get(row["label"])
        board.add_row(
            "→" if row["shipped"] else "",
            escape(row["label"]),
            str(row["seeds"]),
            show_score(row["test"]["value"]),
            _span(row["test"]["ci"]),
            "" if other is None else f"{other['value']:+.4f}",
            "" if other is None else _span(other["ci"], "+.4f"),
        )
    return board


def show_shipped(console: Console, chosen: Mapping[str, Any] | None) -> None:
    """Which finalist ships, and why."""
    if chosen and chosen.get("why"):
        say(console, f"→ {chosen['why']}")


def show_fusion(console: Console, found: Mapping[str, Any]) -> None:
    """What fusion gained, in the one sentence that says it everywhere."""
    line = fusion_line(found)
    if line is not None:
        say(console, line)


def say(console: Console, text: str) -> None:
    """A line as it is."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _span(ci: list[float | None], form: str = ".4f") -> str:
    return "" if None in ci else f"{ci[0]:{form}} … {ci[1]:{form}}"


def show_linear_probe(console: Console, result: dict[str, Any]) -> None:
    """Each encoder alone, and frozen after fused training."""
    table = Table(title=f"Frozen encoders, validation {result['metric']} (mean over seeds, 95%)")
    for name in ("trained as", "modality", "seeds", "frozen", "alone", "frozen - alone", "95%"):
        table.add_column(name, justify="left" if name in ("trained as", "modality") else "right")
    for row in result["rows"]:
        less = row["difference"]
        table.add_row(
            escape(row["label"]),
            row["modality"],
            str(row["seeds"]),
            show_score(row["frozen"]["value"]),
            "-" if row["alone"] is None else show_score(row["alone"]["value"]),
            "-" if less is None else f"{less['value']:+.4f}",
            "" if less is None else _span(less["ci"], "+.4f"),
        )
    console.print(table)


def show_explanation(console: Console, result: dict[str, Any]) -> None:
    """How much each modality matters, and whether fusion helped."""
    metric = result["metric"]
    score, nothing = result["score"], result["nothing"]
    how = "" if result["exact"] else ", over random orders"
    table = Table(title=f"{metric} on {_rows(result)} (95%){how}")
    for name in ("modality", "rows with it", "Shapley value", "95%", "lost without it", "95% ",
                 "alone", "95%  "):  # fmt: skip
        table.add_column(name, justify="left" if name == "modality" else "right")
    for row in result["modalities"]:
        table.add_row(
            escape(row["name"]),
            f"{row['present']:.0%}",
            _signed(row["shapley"]["value"]),
            _span(row["shapley"]["ci"], "+.4f"),
            _signed(row["ablation"]["value"]),
            _span(row["ablation"]["ci"], "+.4f"),
            show_score(row["alone"]["value"]),
            _span(row["alone"]["ci"]),
        )
    console.print(table)
    console.print(
        f"with all modalities {show_score(score['value'])} [{_span(score['ci'])}], "
        f"with none {show_score(nothing['value'])}",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip
    say(console, f"asked: {result['model']}")
    show_fusion(console, result)


def show_robustness(console: Console, result: dict[str, Any]) -> None:
    """The score as each modality gets worse."""
    table = Table(title=f"{result['metric']} on {_rows(result)} (95%)")
    for name in ("modality", "made worse by", "level", "score", "95%", "change", "95% "):
        left = name in ("modality", "made worse by")
        table.add_column(name, justify="left" if left else "right")
    table.add_row(
        "all", "nothing", "", show_score(result["score"]["value"]), _span(result["score"]["ci"]),
    )  # fmt: skip
    last = None
    for row in result["rows"]:
        if last not in (None, row["modality"]):
            table.add_section()
        last = row["modality"]
        share = row["unit"].startswith("share")
        table.add_row(
            escape(row["modality"]),
            "being absent" if row["how"] == "dropped" else "noise",
            f"{row['level']:.0%} of {row['unit'].removeprefix('share of ')}"
            if share
            else f"{row['level']:g} {row['unit']}",
            show_score(row["score"]["value"]),
            _span(row["score"]["ci"]),
            _signed(row["change"]["value"]),
            _span(row["change"]["ci"], "+.4f"),
        )
    console.print(table)
    say(console, f"asked: {result['model']}")


def _rows(result: dict[str, Any]) -> str:
    few = "" if result["n"] == result["of"] else f" of {result['of']}"
    return f"{result['n']}{few} {result['split']} rows"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
