"""What is asked of a finished run, in a terminal: test scores, probes, explanations, robustness."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polymix.units import show_score


def show_evaluation(console: Console, result: dict[str, Any]) -> None:
    """The test scores of the model, and of every finalist."""
    table = Table(title=f"The model on {_rows({'of': result['n'], **result})}")
    for name in ("metric", "value", "95% interval"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, value in result["metrics"].items():
        table.add_row(name, show_score(value["value"]), _span(value["ci"]))
    console.print(table)
    if not result["finalists"]:
        return
    board = Table(title=f"Finalists, {result['split']} {result['metric']} (mean over seeds, 95%)")
    versus = {v["label"]: v["difference"] for v in result["winner_minus"]}
    for name in ("what", "seeds", "value", "95% interval", "winner minus this", "95% interval "):
        board.add_column(name, justify="left" if name == "what" else "right")
    for row in result["finalists"]:
        other = versus.get(row["label"])
        board.add_row(
            escape(row["label"]),
            str(row["seeds"]),
            show_score(row["test"]["value"]),
            _span(row["test"]["ci"]),
            "" if other is None else f"{other['value']:+.4f}",
            "" if other is None else _span(other["ci"], "+.4f"),
        )
    console.print(board)


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
    fusion = result["fusion"]
    if fusion is None:
        missing = f"did fusion help: {result['fusion_missing']}"
        console.print(missing, soft_wrap=True, markup=False, highlight=False)
        return
    low, high = fusion["gain"]["ci"]
    verdict = "within the noise"
    if None not in (low, high) and (low > 0 or high < 0):
        verdict = "yes" if low > 0 else "no"
    console.print(
        f"did fusion help: {verdict}; {_signed(fusion['gain']['value'])} "
        f"[{_span(fusion['gain']['ci'], '+.4f')}] over {fusion['modality']} alone, the best single "
        f"modality, trained as such ({show_score(fusion['score']['value'])})",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


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


def _rows(result: dict[str, Any]) -> str:
    few = "" if result["n"] == result["of"] else f" of {result['of']}"
    return f"{result['n']}{few} {result['split']} rows"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
