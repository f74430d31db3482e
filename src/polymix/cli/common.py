"""What the commands share: errors told, options read, output written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from polymix.errors import PolymixError, UsageError

if TYPE_CHECKING:
    from polymix.console import ConsoleProgress

RunDir = Annotated[Path, typer.Argument(help="A run's folder.", metavar="DIR", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on the standard output.")]


def watched() -> ConsoleProgress:
    """Progress on the standard error: the standard output is the result's alone."""
    from polymix.console import ConsoleProgress

    return ConsoleProgress(Console(stderr=True))


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
    # A file or a pipe gets whole rows, not rows cut at a guess of eighty columns.
    return Console() if sys.stdout.isatty() else Console(width=180)


def print_json(value: Any) -> None:
    """Strict JSON, for programs."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


@dataclass
class Stopped:
    """What Ctrl-C leaves behind: the run folder, once there is one."""

    folder: Path | None = None

    def __str__(self) -> str:
        if self.folder is None or not (self.folder / "description.json").is_file():
            return "Stopped. Nothing was written."
        return f"Stopped. Progress is saved; continue with: polymix resume {self.folder}"


@contextmanager
def errors(stopped: Stopped | None = None) -> Iterator[None]:
    """Every expected error is one clear message and exit code 2; Ctrl-C is 130."""
    try:
        yield
    except PolymixError as error:
        tell(error.problems)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"\n{stopped or 'stopped'}", err=True)
        raise typer.Exit(130) from None


def tell(problems: Sequence[str]) -> None:
    """A line for each problem, on the standard error."""
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
