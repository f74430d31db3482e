"""The command line: arguments in, calls out. Torch is imported only by what needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from polymix.cli import datasets, runs, search, signals
from polymix.cli.common import tell
from polymix.cli.signals import exit_status
from polymix.cli.streams import let_go, open_closed, steady

app = typer.Typer(
    name="polymix",
    help="Find the architecture that best fuses your multimodal data, under a budget you name.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(search.search)
app.command()(search.resume)
app.command()(runs.leaderboard)
app.command()(runs.evaluate)
app.command()(runs.predict)
app.command()(runs.explain)
app.command()(runs.robustness)
app.command()(runs.export)
app.command()(runs.linear_probe)
app.add_typer(datasets.app, name="datasets")


def _version(value: bool) -> None:
    if value:
        from polymix.version import __version__

        typer.echo(f"polymix {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name; the process's own where not given.

    Returns:
        The exit status: 0, 2 where something cannot be used, 128 and its number after a signal.
    """
    with steady():
        try:
            status = app(arguments, prog_name="polymix", standalone_mode=False)
            sys.stdout.flush()
        except TyperException as error:
            if message := error.format_message():
                context = getattr(error, "ctx", None)
                where = context.command_path if context else "polymix"
                tell([f"{message.rstrip('.')}; see {where} --help"])
            return 2
        except (KeyboardInterrupt, Abort) as interrupt:
            typer.echo("\nstopped", err=True)
            return exit_status(interrupt)
        except BrokenPipeError:
            # Whoever read the output has seen enough, as in `polymix leaderboard DIR | head`.
            let_go(sys.stdout)
            return 1
        except OSError as error:
            tell([f"{error.filename or 'polymix'}: {error.strerror or error}"])
            return 2
    return int(status or 0)


def main() -> NoReturn:
    """The `polymix` command."""
    # Idle threads that spin slow a shared machine down by an order of magnitude.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_closed()
    signals.listen()
    status = run()
    signals.ignore()  # a second Ctrl-C would only be a traceback while Python shuts down
    raise SystemExit(status)
