"""Commands that make a run: `search` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polymix.cli.common import (
    AsJson,
    Imports,
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

if TYPE_CHECKING:
    from polymix.predictor import Predictor
    from polymix.runs.request import Request


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
    target: Annotated[
        str | None,
        typer.Option(help="The table's column to predict.", show_default="a dataset's own"),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="A column of which no value is on two sides of the split.", show_default="none"
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="A column by which the earliest rows train, the latest test.", show_default="none"
        ),
    ] = None,
    split_column: Annotated[
        str | None,
        typer.Option(help="A column that says train, val or test.", show_default="none"),
    ] = None,
    column_types: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=TYPE,…",
            help="Types of the table's columns: image_path, "
            "audio_path, text, pretrained_text, categorical, numerical, timeseries, "
            "features, date, ignore.",
            show_default="found in the columns",
        ),
    ] = None,
    schema_file: Annotated[
        Path | None,
        typer.Option(help="A YAML file of the same types: NAME: TYPE.", show_default="none"),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the table's images.", show_default="by the files"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a table with cells that cannot be read.")
    ] = False,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="How to search: auto, mixmas, m2-mixer, mfas, bm-nas, mro, random, or one of "
            "your own.",
            show_default="auto for a table, mixmas for a dataset",
        ),
    ] = None,
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
    ensemble: Annotated[
        bool,
        typer.Option("--ensemble", help="Let a weighted mean of the finalists stand among them."),
    ] = False,
    class_weights: Annotated[
        str | None,
        typer.Option(
            help="Weigh classes in the loss by how rare they are: balanced.", show_default="none"
        ),
    ] = None,
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
    raise_errors: Annotated[
        bool,
        typer.Option(
            "--raise-errors",
            help="Stop at the first candidate that fails, with its traceback.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the space's size and what it would cost, and stop."),
    ] = False,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Search an architecture for SOURCE, train it, and write a run folder."""
    stopped = Stopped()
    with errors(stopped), plugged(imports):
        from polymix.predictor import Predictor
        from polymix.runs.request import Problems, Request, column_types_of

        problems, options, data_options = Problems(), {}, {}
        with problems.caught():
            options = read_options(option or [])
        with problems.caught():
            data_options = read_options(data_option or [], "-d")
        table: dict[str, Any] = {
            "group": group, "time": time, "split": split_column, "image_size": image_size,
            "strict": strict or None,
        }  # fmt: skip
        with problems.caught():
            table["types"] = column_types_of(column_types, schema_file) or None
        request = Request(
            source,
            label=target,
            table={key: value for key, value in table.items() if value is not None},
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
            class_weights=class_weights,
            ensemble=ensemble,
            raise_errors=raise_errors,
        )
        if dry_run:
            request.check(problems)
            problems.raise_any()
            _dry_run(request, as_json)
            return
        stopped.folder = request.place(run_dir, problems)
        with watched() as progress:
            predictor = Predictor(path=stopped.folder).run(request, [progress], progress)
        _finish(predictor, as_json)


def resume(directory: RunDir, imports: Imports = None, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted."""
    with errors(Stopped(directory)), plugged(imports, directory):
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
    from polymix.cli.board import show_board

    board = predictor.leaderboard_json()
    if as_json:
        print_json(board)
        return
    console = out()
    show_board(console, board)
    console.print(f"\nrun folder: {predictor.path}", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"next:       polymix evaluate {predictor.path}{import_options()}",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip
