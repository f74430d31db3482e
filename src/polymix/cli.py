"""The command line: arguments in, calls out. Torch is imported only by what needs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.exceptions import Abort, TyperException

from polymix.errors import PolymixError, UsageError

if TYPE_CHECKING:
    from polymix.console import ConsoleProgress
    from polymix.predictor import Predictor
    from polymix.runs.request import Request

app = typer.Typer(
    name="polymix",
    help="Find the architecture that best fuses your multimodal data, under a budget you name.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
datasets_app = typer.Typer(help="Datasets that polymix knows by name.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")

RunDir = Annotated[Path, typer.Argument(help="A run's folder.", metavar="DIR", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on the standard output.")]


def _version(value: bool) -> None:
    if value:
        import polymix

        typer.echo(f"polymix {polymix.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
        str, typer.Option(help="How to search: mixmas, m2-mixer, mfas, bm-nas, mro, random.")
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
    stopped = _Stopped()
    with _errors(stopped):
        from polymix.predictor import Predictor, free_path
        from polymix.runs.request import Problems, Request

        problems, options, data_options = Problems(), {}, {}
        with problems.caught():
            options = _options(option or [])
        with problems.caught():
            data_options = _options(data_option or [], "-d")
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
        with _watched() as progress:
            predictor = Predictor(path=stopped.folder).run(request, [progress], progress)
        _finish(predictor, as_json)


@app.command()
def resume(directory: RunDir, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted."""
    with _errors(_Stopped(directory)):
        from polymix.predictor import Predictor

        with _watched() as progress:
            predictor = Predictor.resume(directory, callbacks=[progress], progress=progress)
        _finish(predictor, as_json)


@app.command()
def leaderboard(directory: RunDir, as_json: AsJson = False) -> None:
    """What was tried, what won, and by how much."""
    with _errors():
        from polymix.console import show_board
        from polymix.predictor import Predictor

        board = Predictor.load(directory).leaderboard_json()
        if as_json:
            _print_json(board)
        else:
            show_board(_out(), board)


@app.command()
def evaluate(directory: RunDir, as_json: AsJson = False) -> None:
    """Score the run's model on the test rows, which nothing else opens."""
    with _errors():
        from polymix.console import show_evaluation
        from polymix.predictor import Predictor

        result = Predictor.load(directory).evaluate()
        if as_json:
            _print_json(result)
        else:
            show_evaluation(_out(), result)


@app.command("linear-probe")
def linear_probe(
    directory: RunDir,
    epochs: Annotated[int, typer.Option(help="Epochs of each linear head.")] = 10,
    as_json: AsJson = False,
) -> None:
    """How good each encoder is that fused training left behind: frozen, with a linear head."""
    with _errors():
        from polymix.console import show_linear_probe
        from polymix.predictor import Predictor

        predictor = Predictor.load(directory)
        with _watched() as progress:
            result = predictor.linear_probe(epochs=epochs, callbacks=[progress])
        if as_json:
            _print_json(result)
        else:
            show_linear_probe(_out(), result)


@datasets_app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Datasets that polymix knows by name."""
    with _errors():
        from dataclasses import asdict

        from rich.table import Table

        from polymix.datasets import list_datasets

        entries = list_datasets()
        if as_json:
            _print_json([asdict(entry) for entry in entries])
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
        _out().print(table)


@datasets_app.command()
def build(
    name: Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)],
    raw: Annotated[
        Path | None, typer.Option(help="Folder of its raw files.", show_default="none")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="A setting of the dataset.",
                     show_default="none"),
    ] = None,
) -> None:  # fmt: skip
    """Build a dataset into the cache, where a search finds it."""
    with _errors():
        options = _options(option or [])
        from polymix.datasets import open_dataset

        with _watched() as progress:
            dataset = open_dataset(name, raw=raw, seed=seed, options=options, progress=progress)
        split = dataset.split
        _out().print(
            f"{name}: {len(split.train)} training, {len(split.val)} validation and "
            f"{len(split.test)} test rows in {dataset.path}",
            soft_wrap=True,
        )


@datasets_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Folder to put its raw files in.", show_default=False)],
) -> None:
    """Download a dataset's raw files; one that was stopped goes on where it broke."""
    with _errors():
        from polymix.datasets.fetchable import fetch_dataset

        with _watched() as progress:
            fetch_dataset(name, to, progress)
        _out().print(f"next: polymix datasets build {name} --raw {to}", soft_wrap=True)


def _dry_run(request: Request, as_json: bool) -> None:
    from polymix.runs.dry_run import dry_run, show_dry_run

    with _watched() as progress:
        plan = request.resolve(progress)
    found = dry_run(plan.config, plan.dataset, plan.strategy)
    if as_json:
        _print_json(found)
    else:
        show_dry_run(_out(), found)


def _finish(predictor: Predictor, as_json: bool) -> None:
    from polymix.console import show_board

    board = predictor.leaderboard_json()
    if as_json:
        _print_json(board)
        return
    console = _out()
    show_board(console, board)
    console.print(f"\nrun folder: {predictor.path}", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"next:       polymix evaluate {predictor.path}",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


def _watched() -> ConsoleProgress:
    from polymix.console import ConsoleProgress

    return ConsoleProgress(Console(stderr=True))


def _options(pairs: list[str], flag: str = "-o") -> dict[str, Any]:
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


def _out() -> Console:
    # A file or a pipe gets whole rows, not rows cut at a guess of eighty columns.
    return Console() if sys.stdout.isatty() else Console(width=180)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


@dataclass
class _Stopped:
    """What Ctrl-C leaves behind: the run folder, once there is one."""

    folder: Path | None = None

    def __str__(self) -> str:
        if self.folder is None or not (self.folder / "description.json").is_file():
            return "stopped; nothing was written"
        return f"stopped; what was learned is kept, go on with: polymix resume {self.folder}"


@contextmanager
def _errors(stopped: _Stopped | None = None) -> Iterator[None]:
    """Every expected error is one clear message and exit code 2; Ctrl-C is 130."""
    try:
        yield
    except PolymixError as error:
        _tell(error.problems)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"\n{stopped or 'stopped'}", err=True)
        raise typer.Exit(130) from None


def _tell(problems: Sequence[str]) -> None:
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name; the process's own where not given.

    Returns:
        The exit status: 0, 2 where something cannot be used, 130 after Ctrl-C.
    """
    try:
        status = app(arguments, prog_name="polymix", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        if message := error.format_message():
            context = getattr(error, "ctx", None)
            where = context.command_path if context else "polymix"
            _tell([f"{message.rstrip('.')}; see {where} --help"])
        return 2
    except (KeyboardInterrupt, Abort):
        typer.echo("\nstopped", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `polymix leaderboard DIR | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return int(status or 0)


def main() -> NoReturn:
    """The `polymix` command."""
    # Idle threads that spin slow a shared machine down by an order of magnitude.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(run())
