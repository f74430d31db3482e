"""Commands that make a run: `search` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polymix.cli.common import (
    AsJson,
    RunDir,
    Stopped,
    errors,
    out,
    print_json,
    read_options,
    watched,
)

if TYPE_CHECKING:
    from polymix.predictor import Predictor
    from polymix.runs.request import Request


def search(
    source: Annotated[
        str,
        typer.Argument(
            help="A dataset's name; `polymix datasets list` lists them.",
            metavar="SOURCE",
            show_default=False,
        ),
    ],
    strategy: Annotated[
        str, typer.Option(help="How to search: mixmas, m2-mixer, mfas, mro, random.")
    ] = "mixmas",
    metric: Annotated[
        str | None,
        typer.Option(
            help="What to maximise, by scikit-learn's name.", show_default="by the target"
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="All that the run may take, once the data are read: 90s, 10m, 1h30m.",
            show_default="none",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Trials in all, the finalists' included.", show_default="none"),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Training rows to use.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    raw: Annotated[
        Path | None,
        typer.Option(help="Folder of the dataset's raw files.", show_default="none"),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The run folder to make.", show_default="runs/SOURCE"),
    ] = None,
    compare: Annotated[
        str, typer.Option(help="Random search gets a fifth of the search, or as much: full.")
    ] = "fifth",
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            help="A run folder whose trials are taken over; may be repeated.", show_default="none"
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, …", show_default="the best there is")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes that train at the same time.")] = 1,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="KEY=VALUE",
            help="A strategy's option, the value in YAML; may be repeated.",
            show_default="none",
        ),
    ] = None,
    data_option: Annotated[
        list[str] | None,
        typer.Option(
            "--data-option",
            "-d",
            metavar="KEY=VALUE",
            help="A setting of the dataset, the value in YAML; may be repeated.",
            show_default="none",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the space's size and what it would cost, and stop."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Search an architecture for SOURCE, train it, and write a run folder."""
    stopped = Stopped()
    with errors(stopped):
        from polymix.predictor import Predictor, free_path
        from polymix.runs.request import Problems, Request

        problems, options, data_options = Problems(), {}, {}
        with problems.caught():
            options = read_options(option or [])
        with problems.caught():
            data_options = read_options(data_option or [], "-d")
        request = Request(
            source,
            metric=metric,
            device=device,
            jobs=jobs,
            time_limit=time_limit,
            trials=trials,
            strategy=strategy,
            options=options,
            data_options=data_options,
            rows=rows,
            raw=raw,
            seed=seed,
            compare=compare,
            reuse=reuse or [],
        )
        request.check(problems)
        if dry_run:
            problems.raise_any()
            _dry_run(request, as_json)
            return
        with problems.caught():
            stopped.folder = free_path(run_dir, source)
        problems.raise_any()
        with watched() as progress:
            predictor = Predictor(path=stopped.folder).run(request, [progress], progress)
        _finish(predictor, as_json)


def resume(directory: RunDir, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted."""
    with errors(Stopped(directory)):
        from polymix.predictor import Predictor

        with watched() as progress:
            predictor = Predictor.resume(directory, callbacks=[progress], progress=progress)
        _finish(predictor, as_json)


def _dry_run(request: Request, as_json: bool) -> None:
    from polymix.runs.dry_run import dry_run, show_dry_run

    with watched() as progress:
        plan = request.resolve(progress)
    found = dry_run(plan.config, plan.dataset, plan.strategy)
    if as_json:
        print_json(found)
    else:
        show_dry_run(out(), found)


def _finish(predictor: Predictor, as_json: bool) -> None:
    from polymix.console import show_board

    board = predictor.leaderboard_json()
    if as_json:
        print_json(board)
        return
    console = out()
    show_board(console, board)
    console.print(f"\nrun folder: {predictor.path}", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"next:       polymix evaluate {predictor.path}",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip
