"""Commands that read a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymix.cli.common import AsJson, Imports, RunDir, errors, out, plugged, print_json, watched

TableArgument = Annotated[
    str | None,
    typer.Argument(
        help="Rows of your own: a table, or a dataset's folder or name.",
        metavar="[TABLE]",
        show_default="the run's own",
    ),
]
MostRows = Annotated[int, typer.Option(help="Rows that are drawn, at most.")]


def leaderboard(directory: RunDir, imports: Imports = None, as_json: AsJson = False) -> None:
    """What was tried, what won, and by how much."""
    with errors(), plugged(imports, directory):
        from polymix.cli.board import show_board
        from polymix.predictor import Predictor

        board = Predictor.load(directory).leaderboard_json()
        if as_json:
            print_json(board)
        else:
            show_board(out(), board)


def evaluate(
    directory: RunDir, table: TableArgument = None, imports: Imports = None, as_json: AsJson = False
) -> None:
    """Score the run's model on its test rows, which nothing else opens; or on TABLE."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_evaluation
        from polymix.predictor import Predictor

        with watched() as progress:
            result = Predictor.load(directory).evaluate(table, progress=progress)
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
        from polymix.predictor import Predictor
        from polymix.runs.predictions import check_path, csv_text, predictions_json, write_csv

        if to is not None:
            check_path(to)
        predictor = Predictor.load(directory)
        with watched() as progress:
            frame = predictor.predictions(table, keep=ids or (), progress=progress)
        if to is not None:
            write_csv(frame, to)
        if as_json:
            print_json(predictions_json(frame, to))
        elif to is not None:
            out().print(f"{len(frame)} predictions in {to}", soft_wrap=True, markup=False)
        else:
            typer.echo(csv_text(frame), nl=False)


def explain(
    directory: RunDir,
    table: TableArgument = None,
    rows: MostRows = 2000,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """How much each modality matters, and whether fusion helped; on validation rows or TABLE."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_explanation
        from polymix.predictor import Predictor

        predictor = Predictor.load(directory)
        with watched() as progress:
            result = predictor.explain(table, rows=rows, progress=progress)
        if as_json:
            print_json(result)
        else:
            show_explanation(out(), result)


def robustness(
    directory: RunDir,
    table: TableArgument = None,
    rows: MostRows = 2000,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """How the score holds up as each modality gets noisier or is missing from more rows."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_robustness
        from polymix.predictor import Predictor

        predictor = Predictor.load(directory)
        with watched() as progress:
            result = predictor.robustness(table, rows=rows, progress=progress)
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
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Write the model as an ONNX file, once it predicts real rows alike."""
    with errors(), plugged(imports, directory):
        from polymix.errors import UsageError
        from polymix.predictor import Predictor

        if onnx is None:
            raise UsageError("name the file to write: --onnx model.onnx")
        predictor = Predictor.load(directory)
        with watched() as progress:
            result = predictor.export_onnx(onnx, table, progress=progress)
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
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """How good each encoder is that fused training left behind: frozen, with a linear head."""
    with errors(), plugged(imports, directory):
        from polymix.cli.reports import show_linear_probe
        from polymix.predictor import Predictor

        predictor = Predictor.load(directory)
        with watched() as progress:
            result = predictor.linear_probe(epochs=epochs, callbacks=[progress])
        if as_json:
            print_json(result)
        else:
            show_linear_probe(out(), result)
