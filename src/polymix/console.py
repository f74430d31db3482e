"""What a run looks like in a terminal: a line a trial, and a bar with the best so far."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from polymix.data.table_report import lines_of
from polymix.genotype import parse_genotype
from polymix.records import EpochRecord, Proposal, Role, Status, Trial
from polymix.search.callbacks import Callback
from polymix.units import show_duration

STYLES = {Status.DONE: "", Status.FAILED: "red", Status.SKIPPED: "yellow", Status.STOPPED: "yellow"}


class ConsoleProgress(Callback):
    """Shows a run: a line a trial, and a bar with the best so far; first a dataset's building.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TextColumn("[bold]{task.fields[best]}"),
            TextColumn("[dim]{task.fields[clock]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,  # a file gets the lines alone
        )
        self._builds: dict[str, TaskID] = {}
        self._task: TaskID | None = None
        self._best = float("-inf")
        self._what = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` of `what`, a step of building a dataset."""
        if what not in self._builds:
            self._builds[what] = self._bar.add_task(what, total=total, what="", best="", clock="")
        self._bar.update(self._builds[what], completed=done, total=total)

    def on_table(self, report: Mapping[str, Any]) -> None:
        """What each column was taken for, and what was missing or broken."""
        for task in self._builds.values():
            self._bar.remove_task(task)
        self._builds.clear()
        self.console.print(f"[bold]table {escape(report['table'])}[/bold]")
        for line in lines_of(report):
            self.console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)

    def on_phase(self, name: str, expected: int | None) -> None:
        """A phase begins."""
        for task in (*self._builds.values(), *([] if self._task is None else [self._task])):
            self._bar.remove_task(task)
        self._builds.clear()
        self._best = float("-inf")
        self._task = self._bar.add_task(name, total=expected, what="", best="", clock="")
        self.console.print(f"[bold]{escape(name)}[/bold]")

    def on_trial_start(self, proposal: Proposal, role: Role) -> None:  # noqa: ARG002
        """A trial is about to be trained."""
        self._what = f"{proposal.stage}: {proposal.genotype}"[:60]
        self._update(what=escape(self._what))

    def on_features(self, modality: str, done: int, rows: int) -> None:
        """The feature bank computed so many rows."""
        self._update(what=escape(f"features of {modality}: {done}/{rows} rows"))

    def on_epoch(self, epoch: int, epochs: int, value: float) -> None:
        """The trial finished an epoch."""
        self._update(what=escape(f"{self._what} epoch {epoch + 1}/{epochs} {value:.4f}"))

    def on_record(self, record: EpochRecord, epochs: int, fresh: bool) -> None:
        """A supernet finished an epoch: its score, and what else its strategy says of it."""
        numbers = dict(record.numbers)
        told = ", ".join(f"{n} {v:.4g}" for n, v in numbers.items() if n not in ("score", "flops"))
        value = numbers.get("score", math.nan)
        score = f"{value:.4f}" if math.isfinite(value) else "     -"
        place = f"epoch {record.epoch + 1}/{epochs}"
        self.console.print(
            f"  {score}  {place:<16} {escape(told)}"
            + ("" if fresh else " [dim](known)[/dim]"),
            soft_wrap=True, highlight=False,
        )  # fmt: skip

    def on_trial_end(self, trial: Trial, role: Role, fresh: bool) -> None:  # noqa: ARG002
        """A trial ended."""
        self._best = max(self._best, trial.value)
        best = f"best {self._best:.4f}" if trial.usable or self._best > float("-inf") else ""
        self._update(advance=1, best=best)
        if trial.status is Status.STOPPED and not trial.usable and not trial.cost.steps:
            return  # it never began; the board says how many there were
        score = f"{trial.value:.4f}" if trial.usable else "     -"
        state = "" if trial.status is Status.DONE else f" {trial.status.value}"
        known = "" if fresh else " [dim](known)[/dim]"
        style = STYLES[trial.status]
        line = escape(f"{trial.proposal.stage:<16} {trial.proposal.genotype}")
        error = f" {escape(trial.error.splitlines()[0][:120])}" if trial.error else ""
        self.console.print(
            f"  {score}  {line}  [dim]{trial.cost.wall_s:.1f}s[/dim]{escape(state)}{error}{known}",
            style=style,
            soft_wrap=True,
        )

    def on_note(self, text: str) -> None:
        """Something worth telling."""
        self.console.print(f"[yellow]note:[/yellow] {escape(text)}", soft_wrap=True)

    def on_clock(self, used: float, remaining: float | None) -> None:
        """Seconds used and left."""
        left = f"{show_duration(used)} used" if remaining is None else (
            f"{show_duration(remaining)} left"
        )  # fmt: skip
        self._update(clock=left)

    def _update(self, **fields: Any) -> None:
        if self._task is not None:
            self._bar.update(self._task, **fields)


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
                _number(row["score_val"]),
                "" if row["ci"] is None else f"{row['ci'][0]:.4f}-{row['ci'][1]:.4f}",
                ",".join(map(str, row["tied_with"])),
                str(row["seeds"]),
                _count(row["params"]),
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
                _number(row["score_val"]),
                row["status"] + (" (reused)" if row["origin"] == "reused" else ""),
                _count(row["params"]),
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(value: int) -> str:
    return f"{value / 1e6:.2f}M" if value >= 1_000_000 else f"{value / 1e3:.0f}k"


def show_board(console: Console, board: dict[str, Any]) -> None:
    """The leaderboard, what fusion gained, and what to know before trusting it."""
    for table in leaderboard_table(board):
        console.print(table)
    _draw_best(console, board)
    gain = board.get("fusion_gain")
    if gain:
        low, high = gain["ci"]
        verdict = "" if low > 0 else " (within the noise)" if high >= 0 else " (fusion lost)"
        console.print(
            f"fusion gained {gain['value']:+.4f} [{low:+.4f}, {high:+.4f}] over the best single "
            f"modality{verdict}",
            soft_wrap=True,
        )
    for note in board.get("notes", []):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    if board["status"] != "finished":
        console.print(
            f"note: this run is not finished: polymix resume {board['run']}",
            soft_wrap=True, markup=False,
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


def show_evaluation(console: Console, result: dict[str, Any]) -> None:
    """The test scores of the model, and of every finalist."""
    table = Table(title=f"The model on {_rows({'of': result['n'], **result})}")
    for name in ("metric", "value", "95% interval"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, value in result["metrics"].items():
        table.add_row(name, _number(value["value"]), _span(value["ci"]))
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
            _number(row["test"]["value"]),
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
            _number(row["frozen"]["value"]),
            "-" if row["alone"] is None else _number(row["alone"]["value"]),
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
            _number(row["alone"]["value"]),
            _span(row["alone"]["ci"]),
        )
    console.print(table)
    console.print(
        f"with all modalities {_number(score['value'])} [{_span(score['ci'])}], "
        f"with none {_number(nothing['value'])}",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip
    fusion = result["fusion"]
    if fusion is None:
        console.print("did fusion help: there is no single modality to compare with")
        return
    low, high = fusion["gain"]["ci"]
    verdict = "within the noise"
    if None not in (low, high) and (low > 0 or high < 0):
        verdict = "yes" if low > 0 else "no"
    console.print(
        f"did fusion help: {verdict}; {_signed(fusion['gain']['value'])} "
        f"[{_span(fusion['gain']['ci'], '+.4f')}] over {fusion['modality']} alone, the best single "
        f"modality, trained as such ({_number(fusion['score']['value'])})",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


def show_robustness(console: Console, result: dict[str, Any]) -> None:
    """The score as each modality gets worse."""
    table = Table(title=f"{result['metric']} on {_rows(result)} (95%)")
    for name in ("modality", "made worse by", "level", "score", "95%", "change", "95% "):
        left = name in ("modality", "made worse by")
        table.add_column(name, justify="left" if left else "right")
    table.add_row(
        "all", "nothing", "", _number(result["score"]["value"]), _span(result["score"]["ci"]),
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
            _number(row["score"]["value"]),
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
