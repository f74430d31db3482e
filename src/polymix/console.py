"""What a run looks like in a terminal: a line a trial, and a bar with the best so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.segment import Segment

from polymix.errors import printable
from polymix.records import EpochRecord, Proposal, Role, Status, Trial
from polymix.search.callbacks import Callback
from polymix.tables.report import lines_of, lost_lines
from polymix.units import show_duration

STYLES = {
    Status.DONE: "", Status.FAILED: "red", Status.LOST: "red",
    Status.SKIPPED: "yellow", Status.STOPPED: "yellow",
}  # fmt: skip


class SafeConsole(Console):
    """A console on which no name or value from people's data commands the terminal."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See `rich.console.Console.render`; text is escaped, rich's own control codes are not."""
        for segment in super().render(renderable, options):
            text = printable(segment.text, lines=True)
            plain = segment.control or text == segment.text
            yield segment if plain else Segment(text, segment.style)


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
        self.console.print(f"[bold]table {escape(printable(report['table']))}[/bold]")
        for line in lines_of(report):
            self.console.print(f"  {escape(printable(line))}", soft_wrap=True, highlight=False)
        for line in lost_lines(report):
            told = escape(printable(line))
            self.console.print(f"  [red]warning: {told}[/red]", soft_wrap=True)

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
        self.console.print(f"[yellow]note:[/yellow] {escape(printable(text))}", soft_wrap=True)

    def on_clock(self, used: float, remaining: float | None) -> None:
        """Seconds used and left."""
        left = f"{show_duration(used)} used" if remaining is None else (
            f"{show_duration(remaining)} left"
        )  # fmt: skip
        self._update(clock=left)

    def _update(self, **fields: Any) -> None:
        if self._task is not None:
            self._bar.update(self._task, **fields)
