"""Commands on the datasets that polymix knows by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymix.cli.common import AsJson, errors, out, print_json, read_options, watched

app = typer.Typer(help="Datasets that polymix knows by name.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Datasets that polymix knows by name."""
    with errors():
        from dataclasses import asdict

        from rich.table import Table

        from polymix.datasets import list_datasets

        entries = list_datasets()
        if as_json:
            print_json([asdict(entry) for entry in entries])
            return
        table = Table()
        for column in ("name", "what", "modalities", "raw files", "built"):
            table.add_column(column)
        for entry in entries:
            table.add_row(
                entry.name,
                entry.summary,
                ", ".join(entry.modalities),
                "bring them: --raw DIR" if entry.needs_raw else "none needed",
                "yes" if entry.built else "no",
            )
        out().print(table)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)],
    raw: Annotated[
        Path | None, typer.Option(help="Folder of its raw files.", show_default="none")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="A setting of the dataset.",
                     show_default="none"),
    ] = None,
) -> None:  # fmt: skip
    """Build a dataset into the cache, where a search finds it."""
    with errors():
        options = read_options(option or [])
        from polymix.datasets import open_dataset

        with watched() as progress:
            dataset = open_dataset(name, raw=raw, seed=seed, options=options, progress=progress)
        split = dataset.split
        out().print(
            f"{name}: {len(split.train)} training, {len(split.val)} validation and "
            f"{len(split.test)} test rows in {dataset.path}",
            soft_wrap=True,
            markup=False,
        )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Folder to put its raw files in.", show_default=False)],
) -> None:
    """Download a dataset's raw files. Interrupted downloads continue."""
    with errors():
        from polymix.datasets.fetchable import fetch_dataset

        with watched() as progress:
            fetch_dataset(name, to, progress)
        out().print(f"next: polymix datasets build {name} --raw {to}", soft_wrap=True, markup=False)
