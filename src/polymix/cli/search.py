"""Commands that make a run: `search` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polymix.cli.common import (
    AsJson,
    Imports,
    MovedData,
    RunDir,
    Stopped,
    errors,
    import_options,
    out,
    plugged,
    print_json,
    read_options,
    watched,
)
from polymix.cli.parameters import with_options
from polymix.errors import Problems
from polymix.runs.options import RunOptions, TableFlags

if TYPE_CHECKING:
    from polymix.runs.open_run import OpenRun
    from polymix.runs.request import Request


@with_options(RunOptions)
@with_options(TableFlags, "Options for tables")
def search(
    source: Annotated[
        str,
        typer.Argument(
            help="A table (.csv, .tsv, .jsonl, .parquet), or a dataset's name; "
            "`polymix datasets list` lists them.",
            metavar="SOURCE",
            show_default=False,
        ),
    ],
    *,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Run folder to create.", metavar="DIR", show_default="runs/SOURCE"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the size of the space and its cost, then stop."),
    ] = False,
    imports: Imports = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Search an architecture for SOURCE, train it, and write a run folder."""
    stopped = Stopped()
    with errors(stopped), plugged(imports):
        from polymix.runs.open_run import OpenRun
        from polymix.runs.request import Request
        from polymix.runs.search import search as search_run
        from polymix.tables.join import MoreTables

        problems = Problems()
        asked = _read(options, problems)
        named = MoreTables(options["valid"], options["test"])
        request = Request.checked(
            source, asked, named=named, path=run_dir, dry=dry_run, problems=problems
        )
        if request.path is None:
            _dry_run(request, as_json)
            return
        with request.reserved() as held:
            assert held.path is not None
            stopped.folder = held.path
            with watched() as progress:
                search_run(held, [progress], progress)
        _finish(OpenRun.open(held.path), as_json)


def resume(
    directory: RunDir,
    data: MovedData = None,
    allow_download: Annotated[
        bool,
        typer.Option(
            "--allow-download",
            help="Fetch pretrained models that the run names and are not here from the hub.",
        ),
    ] = False,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Continue a run that was interrupted."""
    with errors(Stopped(directory)), plugged(imports, directory):
        from polymix.runs.open_run import OpenRun
        from polymix.runs.search import resume as resume_run

        run = OpenRun.open(directory, data=data)
        with watched() as progress:
            resume_run(run, allow_download=allow_download, callbacks=[progress], progress=progress)
        _finish(run, as_json)


def _read(options: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """The options as `RunOptions` has them, what the command line says in words being read."""
    from polymix.runs.table_options import column_types_of

    asked = {name: options[name] for name in RunOptions.model_fields if name in options}
    others = ("valid", "test")
    flags = {n: options[n] for n in TableFlags.model_fields if n not in others}
    for name, flag in (("options", "-o"), ("data_options", "-d")):
        pairs, asked[name] = asked[name] or [], {}
        with problems.caught():
            asked[name] = read_options(pairs, flag)
    words, file = flags.pop("column_types"), flags.pop("schema_file")
    with problems.caught():
        asked["column_types"] = column_types_of(words, file)
    asked["table"] = {name: value for name, value in flags.items() if value not in (None, False)}
    return asked


def _dry_run(request: Request, as_json: bool) -> None:
    from polymix.nn.encoders.pretrained_files import downloads
    from polymix.runs.dry_run import dry_run, show_dry_run

    with downloads(request.asked.allow_download):
        with watched() as progress:
            plan = request.resolve(progress)
        found = dry_run(plan.config, plan.dataset, plan.strategy)
    if as_json:
        print_json(found)
    else:
        show_dry_run(out(), found)


def _finish(run: OpenRun, as_json: bool) -> None:
    from polymix.cli.board import show_board
    from polymix.runs.leaderboard import board_of

    board = board_of(run)
    if as_json:
        print_json(board)
        return
    console = out()
    show_board(console, board)
    command = f"polymix evaluate {run.path}{import_options()}"
    for line in (f"\nrun folder: {run.path}", f"next:       {command}"):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
