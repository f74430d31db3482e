"""Random tables with random damage: read and run through a model, or refused in clear words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymix.cli import run
from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe, read_report
from polymix.errors import PolymixError
from polymix.genotype import Block
from polymix.nn.build import build_seeded
from polymix.runs.inference import predict_dataset
from polymix.runs.rows import rows_of_arrays
from polymix.space.mix import MixGenotype
from polymix.tables.cells import array_of, is_missing, labels_of, number_of, text_of
from polymix.tables.read import read_rows
from polymix.tables.recipe import ColumnType
from table_files import png_header, write_image, write_sound

ODD: list[Any] = [
    "", " ", "nan", "?", None, float("nan"), float("inf"), "1e999", "-", "\ud800", "ß" * 50,
    "[1, 2]", "[1, [2]]", "[]", "{}", True, 10**400, "12,345.6", "0x10", "a\0b", "../..",
    "2024-02-30", "31/12/1999", "0001-01-01", "é́", "x" * 3000,
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    for i, mode in enumerate(["RGB", "L", "RGBA", "I;16"]):
        write_image(path / f"good{i}.png", rng, 0, mode)
    for i, (rate, channels, length) in enumerate(
        [(8000, 1, 0.1), (44_100, 2, 0.2), (16_000, 1, 0)]
    ):
        write_sound(path / f"good{i}.wav", rng, 0, rate, channels, length)
    np.save(path / "good0.npy", rng.normal(size=(5, 2)))
    np.save(path / "good1.npy", rng.normal(size=7).astype(np.float16))
    np.save(path / "text.npy", np.array(["a"]))
    np.save(path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (path / "huge.npy").write_bytes(data)
    whole = (path / "good0.png").read_bytes()
    broken = {
        "cut.png": whole[:200], "text.png": b"no image", "none.png": b"", "none.npy": b"",
        "bomb.png": png_header(99_999, 99_999), "text.wav": b"no sound",
        "cut.wav": (path / "good0.wav").read_bytes()[:50],
        "flipped.png": whole[:60] + bytes(255 - b for b in whole[60:90]) + whole[90:],
    }  # fmt: skip
    for name, content in broken.items():
        (path / name).write_bytes(content)
    (path / "folder.png").mkdir()
    return path


FILES = {
    "image": ["good0.png", "good1.png", "good2.png", "good3.png", "cut.png", "bomb.png", "text.png",
              "none.png", "flipped.png", "folder.png", "gone.png"],
    "sound": ["good0.wav", "good1.wav", "good2.wav", "cut.wav", "text.wav", "gone.wav"],
    "array": ["good0.npy", "good1.npy", "text.npy", "pickled.npy", "huge.npy", "none.npy"],
}  # fmt: skip


def cells_of_kind(kind: str) -> st.SearchStrategy[Any]:
    """Cells of a column of one kind, as they should be."""
    if kind in FILES:
        return st.sampled_from(FILES[kind])
    words = st.lists(
        st.sampled_from(["sea", "sun", "Über", "12", "x.y", "日本"]), min_size=4, max_size=9
    )
    return {
        "text": words.map(" ".join),
        "number": st.floats(allow_nan=False, width=32) | st.integers(-(10**20), 10**20),
        "category": st.sampled_from(["red", "green", "blue", "1"]),
        "date": st.dates().map(str) | st.datetimes().map(str),
        "cell": st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4).map(json.dumps),
        "odd": st.sampled_from(ODD),
    }[kind]


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A table of 1 to 12 rows; a tenth or so of its cells is damaged."""
    rows = draw(st.integers(1, 12))
    columns: dict[str, list[Any]] = {}
    kinds = ["text", "number", "category", "date", "cell", "odd", *FILES]
    for i, kind in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=0, max_size=5))):
        cell = st.one_of(*[cells_of_kind(kind)] * 8, st.sampled_from(ODD))
        name = draw(st.sampled_from([f"{kind}{i}", f"{kind}_{i}", f"{kind} {i} ü/", f"x_{i}"]))
        columns[name] = draw(st.lists(cell, min_size=rows, max_size=rows))
    labels = draw(st.sampled_from([
        st.sampled_from(["yes", "no"]), st.sampled_from(["a|b", "b", "c|a"]), st.integers(0, 2),
        st.floats(-10, 10), st.sampled_from(ODD), st.lists(st.sampled_from("abc"), max_size=2),
    ]))  # fmt: skip
    broken = st.one_of(*[labels] * 9, st.sampled_from(ODD))
    columns["y"] = draw(st.lists(broken, min_size=rows, max_size=rows))
    made = {}
    for name, cells in columns.items():
        array = np.empty(rows, object)
        array[:] = cells
        made[name] = pd.Series(array, dtype=object)
    return pd.DataFrame(made)


FINDS = dict[str, Any](
    deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow,
                           HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip


@settings(max_examples=200, **FINDS)
@given(frame=tables(), form=st.sampled_from(["frame", "csv", "jsonl"]), split=st.booleans())
def test_read_and_run_or_refused(
    frame: pd.DataFrame, form: str, split: bool, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    source: Any = frame
    if form != "frame":
        source = folder / f"table.{form}"
        if form == "csv":
            frame.to_csv(source, index=False, encoding="utf-8", errors="replace")
        else:
            lines = [json.dumps(row, default=str) for row in frame.to_dict("records")]
            source.write_text("\n".join(lines))
    names = list(frame.columns)
    options = TableOptions(target="y", group=names[0] if split and names[0] != "y" else None)
    refused: tuple[str, ...] = ()
    try:
        dataset = open_table_dataset(source, options)
    except PolymixError as error:
        refused = error.problems or ("",)
    if refused:
        assert all(problem.strip() for problem in refused)
        return
    recipe = read_recipe(dataset)
    assert recipe is not None
    report = read_report(dataset)
    assert sum(report["split"].values()) == report["rows"]["used"] == len(dataset)
    rows = read_rows(source, recipe)
    assert len(rows) == len(frame)
    pairs = tuple((name, Block.of("mlp", channels=4)) for name in dataset.schema.names)
    genotype = MixGenotype(encoders=pairs, fusion="concat" if len(pairs) > 1 else None)
    model = build_seeded(genotype, dataset.schema, 0).eval()
    masks = dict(zip(dataset.schema.names, rows.present.T, strict=True))
    given = rows_of_arrays(dataset.schema, rows.arrays, masks)
    out = predict_dataset(model, given, np.arange(len(given)), torch.device("cpu"))
    assert out.shape == (len(frame), dataset.schema.target.outputs)
    assert np.isfinite(out).all()


def random_table(rng: np.random.Generator) -> pd.DataFrame:
    """A table of 12 to 60 rows, one in eight of whose cells is damaged."""
    rows = int(rng.integers(12, 61))
    words = ["sea", "sun", "Über", "12", "x.y", "日本", "rain", "wind"]
    makers: dict[str, Callable[[], Any]] = {
        **{kind: lambda names=names: str(rng.choice(names)) for kind, names in FILES.items()},
        "text": lambda: " ".join(rng.choice(words, 6)),
        "number": lambda: float(rng.normal(0, 10.0 ** rng.integers(-3, 6))),
        "category": lambda: str(rng.choice(["red", "green", "blue", "1"])),
        "date": lambda: f"20{rng.integers(10, 24)}-0{rng.integers(1, 10)}-1{rng.integers(0, 10)}",
        "cell": lambda: json.dumps(rng.normal(size=rng.integers(1, 5)).tolist()),
    }
    labels: list[Callable[[], Any]] = [
        lambda: str(rng.choice(["yes", "no"])), lambda: str(rng.choice(["u", "v", "w"])),
        lambda: "|".join(rng.permutation(["a", "b", "c"])[: rng.integers(1, 3)]),
        lambda: float(rng.normal()),
    ]  # fmt: skip
    kinds = rng.choice(sorted(makers), rng.integers(1, 6))
    columns = {f"{kind}{chr(97 + i)}": makers[kind] for i, kind in enumerate(kinds)}
    columns["y"] = labels[rng.integers(len(labels))]
    odd = [cell for cell in ODD if not isinstance(cell, str) or "\0" not in cell]
    return pd.DataFrame({
        name: pd.Series(
            [odd[rng.integers(len(odd))] if rng.random() < 0.125 and (name != "y" or rng.random()
             < 0.2) else make() for _ in range(rows)], dtype=object)
        for name, make in columns.items()
    })  # fmt: skip


def search_or_refusal(seed: int, folder: Path, scratch: Path, capsys: Any) -> bool:
    """A whole search by the command, and the commands after it; or one clear refusal.

    Returns:
        Whether there was a search.
    """
    rng = np.random.default_rng(seed)
    frame = random_table(rng)
    table, runs, to = folder / f"whole{seed}.csv", scratch / str(seed), scratch / f"{seed}.csv"
    frame.to_csv(table, index=False, encoding="utf-8", errors="replace")

    def tried(*arguments: str) -> bool:
        capsys.readouterr()
        status = run(list(arguments))
        said = capsys.readouterr().err
        assert status in (0, 2), (seed, arguments)
        assert status == 0 or "error: " in said, (seed, arguments)
        return status == 0

    if not tried(
        "search", str(table), "--target", "y", "--trials", "3", "--run-dir", str(runs), "-o",
        "epochs=1", "-o", "full_epochs=1", "-o", "encoders=[mlp]",
        *(["--ensemble"] if seed % 2 else []),
    ):  # fmt: skip
        assert not runs.exists()
        return False
    assert json.loads((runs / "data_report.json").read_text())["rows"]["read"] == len(frame)
    assert tried("predict", str(runs), str(table), "--out", str(to))
    said = pd.read_csv(to, dtype=str, keep_default_na=False)
    assert len(said) == len(frame)
    chances = said.iloc[:, 1:].to_numpy(float)
    assert np.isfinite(chances).all()
    assert tried("leaderboard", str(runs))
    assert tried("explain", str(runs), "--rows", "20")
    tried("evaluate", str(runs))  # a few rows may leave none to test
    tried("robustness", str(runs), str(table), "--rows", "9")
    return True


def test_whole_searches(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    assert sum(search_or_refusal(seed, folder, tmp_path, capsys) for seed in range(10)) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10, 210, 10))
def test_many_whole_searches(
    first: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    seeds = range(first, first + 10)
    assert sum(search_or_refusal(seed, folder, tmp_path, capsys) for seed in seeds) >= 5


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.binary(),
                 st.lists(st.floats() | st.text()), st.dates(), st.sampled_from(ODD)))  # fmt: skip
def test_cells_are_read_without_a_stumble(cell: Any) -> None:
    assert isinstance(is_missing(cell), bool)
    assert isinstance(text_of(cell), str)
    assert isinstance(number_of(cell), float)
    array = array_of(cell)
    assert array is None or array.ndim in (1, 2)
    assert all(isinstance(name, str) for name in labels_of(cell, "|") + labels_of(cell, None))


def test_every_type_of_column_is_named_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
    assert all(f"`{kind}`" in page for kind in ColumnType)
