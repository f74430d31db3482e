"""Commands that read a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymix.cli.common import (
    AsJson,
    Imports,
    MovedData,
    RunDir,
    errors,
    out,
    plugged,
    print_json,
    watched,
)
from polymix.cli.streams import print_text

TableArgument = Annotated[
    str | None,
    typer.Argument(
        help="Rows of your own: a table, or a dataset's folder or name.",
        metavar="[TABLE]",
        show_default="the run's own",
    ),
]
MostRows = Annotated[int, typer.Option(help="Use at most this many rows, chosen at random.")]


def leaderboard(directory: RunDir, imports: Imports = None, as_json: AsJson = False) -> None:
    """Show what was tried, what won, and by how much."""
    with errors(), plugged(imports, directory):
        from polymix.cli.board import show_board
        from polymix.runs.leaderboard import board_of
        from polymix.runs.open_run import OpenRun

        board = board_of(OpenRun.open(directory))
        if as_json:
            print_json(board)
        else:
            show_board(out(), board)


def evaluate(
    directory: RunDir,
    table: TableArgument = None,
    data: MovedData = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Score the run's model on its test rows, which nothing else opens, or on TABLE."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_evaluation
        from polymix.runs import evaluation
        from polymix.runs.open_run import OpenRun

        with watched() as progress:
            result = evaluation.evaluate(OpenRun.open(directory, data=data), table, progress)
        if as_json:
            print_json(result)
        else:
            show_evaluation(out(), result)


def predict(
    directory: RunDir,
    table: Annotated[
        str,
        typer.Argument(
            help="A table, or a dataset's folder or name.", metavar="TABLE", show_default=False
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--out", help="The CSV file to write.", show_default="the standard output"),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id", help="Also write this column of TABLE.", metavar="COLUMN", show_default=False
        ),
    ] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Predict every row of TABLE, in its order, with probabilities."""
    with errors(), plugged(imports, directory):
        from polymix.runs.open_run import OpenRun
        from polymix.runs.predict import predictions
        from polymix.runs.predictions import csv_text, predictions_json
        from polymix.store.outputs import check_output, write_output

        if to is not None:
            check_output(to, "--out")
        run = OpenRun.open(directory)
        with watched() as progress:
            frame = predictions(run, table, keep=ids or (), progress=progress)
        if to is not None:
            write_output(to, csv_text(frame).encode("utf-8", "backslashreplace"), "--out")
        if as_json:
            print_json(predictions_json(frame, to))
        elif to is not None:
            out().print(f"{len(frame)} predictions in {to}", soft_wrap=True, markup=False)
        else:
            print_text(csv_text(frame))


def explain(
    directory: RunDir,
    table: TableArgument = None,
    rows: MostRows = 2000,
    data: MovedData = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Show how much each modality matters, on rows not trained on, and what fusion gained."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_explanation
        from polymix.runs import explain as asked
        from polymix.runs.open_run import OpenRun

        run = OpenRun.open(directory, data=data)
        with watched() as progress:
            result = asked.explain(run, table, rows=rows, progress=progress)
        if as_json:
            print_json(result)
        else:
            show_explanation(out(), result)


def robustness(
    directory: RunDir,
    table: TableArgument = None,
    rows: MostRows = 2000,
    data: MovedData = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Show how the score changes as each modality gets noisier or is missing from more rows."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_robustness
        from polymix.runs import robustness as asked
        from polymix.runs.open_run import OpenRun

        run = OpenRun.open(directory, data=data)
        with watched() as progress:
            result = asked.robustness(run, table, rows=rows, progress=progress)
        if as_json:
            print_json(result)
        else:
            show_robustness(out(), result)


def export(
    directory: RunDir,
    table: TableArgument = None,
    onnx: Annotated[
        Path | None, typer.Option(help="The ONNX file to write.", show_default=False)
    ] = None,
    data: MovedData = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Export to ONNX after checking that it gives the same predictions."""
    with errors(), plugged(imports, directory):
        from polymix.errors import UsageError
        from polymix.runs.export import export_run
        from polymix.runs.open_run import OpenRun

        if onnx is None:
            raise UsageError("name the file to write: --onnx model.onnx")
        run = OpenRun.open(directory, data=data)
        with watched() as progress:
            result = export_run(run, onnx, table, progress)
        if as_json:
            print_json(result)
            return
        out().print(
            f"{result['path']}: predicts {result['n']} rows as the model does, within "
            f"{result['largest_difference']:.1e}",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip


def linear_probe(
    directory: RunDir,
    epochs: Annotated[int, typer.Option(help="Epochs of each linear head.")] = 10,
    data: MovedData = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Test each encoder of the fused model, frozen, with a linear head."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_linear_probe
        from polymix.runs import linear_probe as probes
        from polymix.runs.open_run import OpenRun

        run = OpenRun.open(directory, data=data)
        with watched() as progress:
            result = probes.linear_probe(run, epochs=epochs, callbacks=[progress])
        if as_json:
            print_json(result)
        else:
            show_linear_probe(out(), result)
