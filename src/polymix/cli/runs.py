"""Commands that read a run's folder."""

from __future__ import annotations

from typing import Annotated

import typer

from polymix.cli.common import AsJson, RunDir, errors, out, print_json, watched


def leaderboard(directory: RunDir, as_json: AsJson = False) -> None:
    """What was tried, what won, and by how much."""
    with errors():
        from polymix.console import show_board
        from polymix.predictor import Predictor

        board = Predictor.load(directory).leaderboard_json()
        if as_json:
            print_json(board)
        else:
            show_board(out(), board)


def evaluate(directory: RunDir, as_json: AsJson = False) -> None:
    """Score the run's model on the test rows, which nothing else opens."""
    with errors():
        from polymix.console import show_evaluation
        from polymix.predictor import Predictor

        result = Predictor.load(directory).evaluate()
        if as_json:
            print_json(result)
        else:
            show_evaluation(out(), result)


def linear_probe(
    directory: RunDir,
    epochs: Annotated[int, typer.Option(help="Epochs of each linear head.")] = 10,
    as_json: AsJson = False,
) -> None:
    """How good each encoder is that fused training left behind: frozen, with a linear head."""
    with errors():
        from polymix.console import show_linear_probe
        from polymix.predictor import Predictor

        predictor = Predictor.load(directory)
        with watched() as progress:
            result = predictor.linear_probe(epochs=epochs, callbacks=[progress])
        if as_json:
            print_json(result)
        else:
            show_linear_probe(out(), result)
