"""Tables that nobody should have, made at random: names, cells, files and what they are called."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from table_files import png_header, write_image, write_sound

NAMES = (
    "a", "id", "y", "", " ", "a\nb", 'he said "no"', "'; DROP TABLE rows; --", "<script>x</script>",
    "=1+1", "@cmd", "[bold]x[/bold]", "\x1b[31mred\x1b[0m", "\x07", "ünïcode", "名前", "\u202egnp",
    "target", "split", "present", "schema", "table", "..", "../../etc/passwd", "x_0", "x_1", "x_2",
    "x_3", "nan", "None", "a" * 300, "#", "#a", "sep=,", "é", "é", "p(yes)", "0", "1.0", "%s",
    "{}", "${HOME}", "CON", "\ufeff", "a\tb", "a,b", "a;b",
)  # fmt: skip
"""What columns are called."""

CELLS = (
    "", " ", "nan", "NaN", "?", "NULL", "1", "1.0", "01", "-0", "1e-320", "1e308", "-1e308",
    "1e999", "1e-400",
    "inf", "-inf", "1,234", "1.234,5", "$5", "5%", "5 kg", "0x10", "1_000", "9" * 400,
    "true", "False", "yes", "no", "a", "b", "c", "a|b", "a;b", "[1, 2]", "[1, [2]]", "[]", "{}",
    "[" * 50, "2024-02-30", "31/12/1999", "0001-01-01", "9999-12-31", "2024-01-01T00:00:00Z",
    "a\nb", 'quo"te', "'", "\\", "\\n", "=HYPERLINK(1)", "<b>", "\x1b]0;x\x07", "\ud800",
    "ß" * 50, "x" * 3000, "a word or two more", "../..", "/etc/passwd", "/dev/zero", "C:\\x.png",
    "http://x/y.png", "good.png", "cut.png", "bomb.png", "loop.png", "pipe.png", "folder.png",
    "good.wav", "slow.wav", "text.wav", "good.npy", "pickled.npy", "text.npy", "gone.jpg",
)  # fmt: skip
"""What cells hold."""

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1",
             "shift_jis", "utf-7")  # fmt: skip
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet", ".CSV")
ONE_SIDED = ("one row", "one class", "all missing", "two rows", "as it is")


@dataclass(frozen=True)
class Hostile:
    """A file, and what is asked of it.

    Attributes:
        name: the file's.
        data: its bytes.
        options: how it is to be read.
    """

    name: str
    data: bytes
    options: dict[str, Any]

    def write(self, folder: Path) -> Path:
        """The file in a folder."""
        path = folder / os.fsdecode(self.name.encode("utf-8", "surrogateescape"))
        path.write_bytes(self.data)
        return path


def cells() -> st.SearchStrategy[Any]:
    """One cell."""
    return st.one_of(
        st.sampled_from(CELLS),
        st.integers(-3, 3).map(str),
        st.floats(allow_nan=True, width=64).map(repr),
        st.text(max_size=8),
    )


@st.composite
def hostile_tables(draw: st.DrawFn) -> Hostile:
    """A table with hostile names and cells, some columns of which may well be learned from."""
    rows = draw(st.sampled_from([3, 12, 30, 30, 60, 60]))
    side = draw(st.sampled_from(ONE_SIDED)) if draw(_one_in(5)) else "as it is"
    rows = {"one row": 1, "two rows": 2}.get(side, rows)
    twice = draw(_one_in(12))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=not twice))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    columns = [_column(draw, rng, rows) for _ in names]
    place = draw(st.integers(0, len(names) - 1))
    # A name that is none is called by its place.
    named = names[place].strip().lstrip("\ufeff") or f"column_{place}"
    target = "nowhere" if draw(_one_in(15)) else named
    if target in names and not draw(_one_in(3)):
        columns[names.index(target)] = [str(v) for v in rng.integers(0, 3, rows)]
    if side == "one class" and target in names:
        columns[names.index(target)] = ["same"] * rows
    if side == "all missing":
        columns = [["" for _ in range(rows)] for _ in names]
    suffix = draw(st.sampled_from(SUFFIXES))
    data = _file(draw, suffix, names, columns)
    stem = draw(st.sampled_from(["t", "a b", "ü", "-x", "a\nb", "[x]", "x" * 100, "\udcff"]))
    return Hostile(stem + suffix, _damaged(draw, data), _options(draw, target, names))


def _one_in(count: int) -> st.SearchStrategy[bool]:
    return st.integers(1, count).map(lambda number: number == count)


def _column(draw: st.DrawFn, rng: np.random.Generator, rows: int) -> list[Any]:
    kind = draw(st.sampled_from(["odd", "one", "numbers", "numbers", "levels", "words", "files"]))
    if kind == "one":
        return [draw(cells())] * rows
    if kind == "numbers":
        scale = float(10.0 ** draw(st.sampled_from([-320, -30, 0, 0, 9, 30, 300])))
        return [repr(v) for v in (rng.normal(size=rows) * scale).tolist()]
    if kind == "levels":
        return [str(v) for v in rng.choice(["1", "1.0", "2", "x", ""], rows)]
    if kind == "words":
        return [" ".join(rng.choice(["red", "big", "cat", "the", "ran"], 6)) for _ in range(rows)]
    if kind == "files":
        ending = draw(st.sampled_from([".png", ".wav", ".npy"]))
        return list(rng.choice([c for c in CELLS if c.endswith(ending)], rows))
    some = draw(st.lists(cells(), min_size=1, max_size=8))
    return [some[int(i)] for i in rng.integers(0, len(some), rows)]


def _file(draw: st.DrawFn, suffix: str, names: list[str], columns: list[list[Any]]) -> bytes:
    rows = list(zip(*columns, strict=True))
    if suffix in (".json", ".jsonl"):
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        if draw(st.booleans()):
            objects = [{k: _json_value(v) for k, v in row.items()} for row in objects]
        text = json.dumps(objects) if suffix == ".json" else "\n".join(map(json.dumps, objects))
        return text.encode()
    if suffix == ".parquet":
        frame = pd.DataFrame({f"{n}": c for n, c in zip(names, columns, strict=True)})
        buffer = io.BytesIO()
        clean = frame.map(lambda v: str(v).encode("utf-8", "replace").decode())
        clean.columns = [c.encode("utf-8", "replace").decode() for c in clean.columns]
        clean.to_parquet(buffer)
        return buffer.getvalue()
    delimiter = draw(st.sampled_from([",", ",", ";", "\t", "|"]))
    quoted = draw(st.booleans())
    head = draw(st.sampled_from(["", "", f"sep={delimiter}\n", "# a comment\n", "\n\n"]))
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))

    def cell(value: Any) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = [delimiter.join(map(cell, row)) for row in [names, *rows]]
    if draw(_one_in(12)):
        lines[-1] += delimiter + "ragged"
    text = head + ending.join(lines) + draw(st.sampled_from(["", ending]))
    encoding = draw(st.sampled_from(ENCODINGS)) if draw(_one_in(4)) else "utf-8"
    return text.encode(encoding, "replace")


def _json_value(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text


def _damaged(draw: st.DrawFn, data: bytes) -> bytes:
    if not draw(_one_in(6)):
        return data
    how = draw(st.sampled_from(["cut", "flipped", "twice", "noise"]))
    if how == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if how == "flipped" and data:
        at = draw(st.integers(0, len(data) - 1))
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if how == "twice":
        return data + data
    return draw(st.binary(max_size=200)) if how == "noise" else data


def _options(draw: st.DrawFn, target: str, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"target": target}
    if draw(_one_in(8)):
        role = draw(st.sampled_from(["group", "time", "split"]))
        found[role] = draw(st.sampled_from([*names, "nowhere"]))
    if draw(_one_in(8)):
        kinds = ["numerical", "categorical", "text", "learned_text", "date", "image_path",
                 "audio_path", "timeseries", "features", "ignore", "nothing"]  # fmt: skip
        found["types"] = {draw(st.sampled_from(names)): draw(st.sampled_from(kinds))}
    if draw(_one_in(8)):
        found["task"] = draw(st.sampled_from(["binary", "multiclass", "multilabel", "regression"]))
    return found


def write_files(folder: Path) -> None:
    """The files that cells name."""
    rng = np.random.default_rng(0)
    write_image(folder / "good.png", rng, 0)
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    write_sound(folder / "good.wav", rng, 0)
    write_sound(folder / "slow.wav", rng, 0)
    sound = bytearray((folder / "slow.wav").read_bytes())
    sound[24:28] = (1).to_bytes(4, "little")
    (folder / "slow.wav").write_bytes(sound)
    (folder / "text.wav").write_text("no sound")
    np.save(folder / "good.npy", rng.normal(size=(5, 2)))
    np.save(folder / "text.npy", np.array(["a"]))
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)


def _parquet(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table(columns), path)


def _shared_text(path: Path) -> None:
    import pyarrow as pa

    places = pa.array([0] * 200_000, pa.int32())
    text = pa.DictionaryArray.from_arrays(places, ["x" * 50_000])
    _parquet(path, {"y": np.arange(200_000) % 2, "t": text})


def _many_rows(path: Path) -> None:
    zeros = np.zeros(20_000_000, np.int8)
    _parquet(path, {"y": zeros, "a": zeros, "b": zeros})


def _named(cell: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """A table whose cells name one file."""

    def write(path: Path) -> None:
        make(path.parent / cell)
        lines = [f"{cell},{i % 7},{i % 2}" for i in range(60)]
        path.write_text("\n".join(["f,a,y", *lines]))

    return write


def _large_image(mode: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from PIL import Image

        Image.new(mode, (7000, 7000)).save(path)

    return make


def _slow_sound(path: Path) -> None:
    write_sound(path, np.random.default_rng(0), 0, 10_000, 1, 1.0)
    data = bytearray(path.read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    path.write_bytes(data)


def _large_array(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (2**33,)}
        )
        file.truncate(2**36 + 128)


def _animation(path: Path) -> None:
    from PIL import Image

    frames = [Image.new("P", (3000, 3000), i) for i in range(8)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _zeros_of_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.table({"y": ["a", "b"] * 50, "t": ["x" * 2_000_000] * 100})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)


BOMBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "short rows under a wide header": ("t.csv", lambda path: path.write_text(  # type: ignore[dict-item]
        ",".join(f"c{i}" for i in range(15_000)) + ",y\n" + "x\n" * 300_000)),
    "twenty thousand columns": ("t.csv", lambda path: path.write_text(  # type: ignore[dict-item]
        "\n".join(",".join(f"{r}{i}" for i in range(19_999)) + f",{r}" for r in "yabababab"))),
    "a hundred thousand columns": ("t.csv", lambda path: path.write_text(  # type: ignore[dict-item]
        "\n".join(",".join(f"{r}{i}" for i in range(100_000)) + ",y" for r in "cd"))),
    "objects that share no key": ("t.jsonl", lambda path: path.write_text(  # type: ignore[dict-item]
        "".join(f'{{"y": 1, "k{i}": 1}}\n' for i in range(19_000)))),
    "lists in lists": ("t.json", lambda path: path.write_text(  # type: ignore[dict-item]
        '[{"y": 1, "a": ' + "[" * 900 + "]" * 900 + "}]")),
    "millions of numbers for objects": ("t.json", lambda path: path.write_text(  # type: ignore[dict-item]
        "[" + "0," * 3_000_000 + "0]")),
    "rows that a few bytes stand for": ("t.parquet", _many_rows),
    "one text in every row": ("t.parquet", _shared_text),
    "texts of zeros, packed": ("t.parquet", _zeros_of_parquet),
    "holes": ("t.csv", lambda path: os.truncate(path.open("wb").fileno(), 10**13)),
    "a sound of one hertz": ("t.csv", _named("f.wav", _slow_sound)),
    "an array of holes": ("t.csv", _named("f.npy", _large_array)),
    "a large image": ("t.csv", _named("f.png", _large_image("RGBA"))),
    "a large deep image": ("t.csv", _named("f.png", _large_image("I;16"))),
    "a large palette": ("t.csv", _named("f.png", _large_image("P"))),
    "an animation": ("t.csv", _named("f.gif", _animation)),
    "a pipe": ("t.csv", os.mkfifo),
    "a device": ("t.csv", lambda path: path.symlink_to("/dev/zero")),
    "a folder": ("t.csv", lambda path: path.mkdir()),
    "a loop": ("t.csv", lambda path: path.symlink_to(path)),
}  # fmt: skip
"""Small files that ask for much: what they are called, and how they are written."""
