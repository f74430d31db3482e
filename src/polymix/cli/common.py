"""What the commands share: errors told, options read, output written."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from polymix import plugins
from polymix.cli.signals import exit_status
from polymix.cli.streams import STANDARD_OUTPUT, print_text
from polymix.errors import PolymixError, PolymixWarning, UsageError, printable
from polymix.faults import LESS_MEMORY, is_disk_full, is_out_of_memory

if TYPE_CHECKING:
    from polymix.console import ConsoleProgress

RunDir = Annotated[Path, typer.Argument(help="A run's folder.", metavar="DIR", show_default=False)]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module or .py file that registers parts of your own; may be repeated.",
        show_default="none",
    ),
]
MovedData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Where the run's own table, or its raw files, lie now, if they were moved.",
        show_default="where they were",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on the standard output.")]


def watched() -> ConsoleProgress:
    """Progress on the standard error: the standard output is the result's alone."""
    from polymix.console import ConsoleProgress, SafeConsole

    return ConsoleProgress(SafeConsole(stderr=True))


def read_options(pairs: list[str], flag: str = "-o") -> dict[str, Any]:
    """`key=value` pairs, values in YAML."""
    import yaml

    problems, found = [], {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            problems.append(f"{flag} {pair!r}: write key=value")
            continue
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            problems.append(f"{flag} {pair!r}: the value is not YAML")
    if problems:
        raise UsageError(problems)
    return found


def out() -> Console:
    """The standard output."""
    # Imported where something is shown: `--help` needs no search.
    from polymix.console import SafeConsole

    # A file or a pipe gets whole rows, not rows cut at a guess of eighty columns.
    return SafeConsole() if sys.stdout.isatty() else SafeConsole(width=180)


def print_json(value: Any) -> None:
    """Strict JSON, for programs."""
    print_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


@dataclass
class Stopped:
    """What Ctrl-C leaves behind: the run folder, once there is one."""

    folder: Path | None = None

    @property
    def hint(self) -> list[str]:
        """How to go on; empty where nothing was written."""
        if self.folder is None or not (self.folder / "description.json").is_file():
            return []
        return [f"continue with: polymix resume {self.folder}{import_options()}"]

    def __str__(self) -> str:
        if not self.hint:
            return "Stopped. Nothing was written."
        return f"Stopped. Progress is saved; {self.hint[0]}"


@contextmanager
def errors(stopped: Stopped | None = None) -> Iterator[None]:
    """Every expected error is one clear message and exit code 2; Ctrl-C is 130, SIGTERM 143."""
    try:
        with warned():
            yield
    except PolymixError as error:
        tell(error.problems)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as interrupt:
        typer.echo("\n" + printable(str(stopped or "stopped")), err=True)
        raise typer.Exit(exit_status(interrupt)) from None
    except Exception as error:
        refused = _refused(error)
        if refused is None:
            raise
        tell([refused, *(stopped.hint if stopped else [])])
        raise typer.Exit(2) from None


def _refused(error: Exception) -> str | None:
    """What the system refused, and the cure; none where the error is another."""
    if is_out_of_memory(error):
        return f"out of memory: {LESS_MEMORY} ({type(error).__name__}: {error})"
    if is_disk_full(error) and getattr(error, "filename", None) != STANDARD_OUTPUT:
        return f"nothing more can be written: {error}; free some space"
    return None


@contextmanager
def warned() -> Iterator[None]:
    """With a line on the standard error for each `PolymixWarning`."""
    before = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if issubclass(category, PolymixWarning):
            typer.echo(f"warning: {printable(str(message))}", err=True)
        else:
            before(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", PolymixWarning)
        warnings.showwarning = show
        yield


@contextmanager
def plugged(names: Sequence[str] | None, folder: Path | None = None) -> Iterator[None]:
    """With the parts of the modules that a person names, and those of installed packages.

    A folder's own list of modules is never imported; it is told where something goes wrong.
    """
    with warnings.catch_warnings(record=True, category=RuntimeWarning) as caught:
        plugins.discover()
    for warning in caught:
        typer.echo(printable(f"warning: {warning.message}"), err=True)
    plugins.load(names or [])
    try:
        yield
    except PolymixError as error:
        raise PolymixError([*error.problems, *_not_imported(folder)]) from error


def _not_imported(folder: Path | None) -> list[str]:
    """A sentence on the modules that a run was made with, where they are not imported."""
    if folder is None:
        return []
    from polymix.runs.config import RunConfig
    from polymix.store.run_folder import RunFolder

    try:
        with RunFolder.open(folder) as opened:
            missing = set(RunConfig.of(opened).imports) - set(plugins.imported())
    except PolymixError:
        return []  # it cannot be opened, which has been told
    if not missing:
        return []
    options = " ".join(f"--import {shlex.quote(name)}" for name in sorted(missing))
    return [f"{folder} was made with parts of its own: if you trust them, add {options}"]


def import_options() -> str:
    """What to add to a command that uses the same parts."""
    return "".join(f" --import {shlex.quote(name)}" for name in plugins.imported())


def tell(problems: Sequence[str]) -> None:
    """A line for each problem, on the standard error."""
    for problem in problems:
        typer.echo(printable(f"error: {problem}"), err=True)
