from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymix.errors import DataError
from polymix.tables.cells import numbers_of, text_of
from polymix.tables.files import Table, open_table
from polymix.tables.infer_columns import infer_column

TEXT = 'a,b,"c d"\n1,"x, y",\n2,ü,NaN\n'


def written(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cells(table: Table) -> list[list[object]]:
    return [list(table[c]) for c in table.columns]


@pytest.mark.parametrize("data", [
    TEXT, TEXT.encode("utf-8-sig"), TEXT.encode("utf-16"), TEXT.encode("cp1252"),
    TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\n\n"),
])  # fmt: skip
def test_csv_in_any_encoding(data: str | bytes, tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "t.csv", data))
    assert table.columns == ("a", "b", "c d")
    assert cells(table) == [["1", "2"], ["x, y", "ü"], [None, None]]
    assert (table.folder, table.name) == (tmp_path, "t")


def test_other_forms_hold_the_same(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": [1.5, 2]}, {"b": None, "a": 2}]
    lines = "\n".join(json.dumps(row) for row in rows)
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "t.parquet")
    for path in (
        written(tmp_path, "t.jsonl", lines),
        written(tmp_path, "t.json", json.dumps(rows)),
        tmp_path / "t.parquet",
    ):
        table = open_table(path)
        assert list(table["a"]) == [1, 2]
        assert list(table["b"][0]) == [1.5, 2]
        assert table["b"][1] is None
    assert cells(open_table(written(tmp_path, "t.tsv", "a\tb\n1,5\t2\n"))) == [["1,5"], ["2"]]
    assert cells(open_table(written(tmp_path, "semi.csv", "a;b\n1,5;2\n"))) == [["1,5"], ["2"]]


@pytest.mark.parametrize(("name", "data", "said"), [
    ("t.csv", "", "is empty"),
    ("t.csv", "a,b\n", "0 rows"),
    ("t.csv", "a,b,a\n1,2,3\n", "more than one column is called 'a'"),
    ("t.csv", "a,b\n1,2\n1,2,3\n", "line 3"),
    ("t.csv", "a,b\n1,2,3\n", "cannot be read as a table with 2 columns"),
    ("t.csv", 'a,b\n1,"2\n', "cannot be read as a table"),
    ("t.csv", b"a,b\n\x00\x01,2\n", "NUL"),
    ("t.jsonl", '{"a": 1}\n[1]\n{"a"', "line 2: an object expected"),
    ("t.jsonl", "\n", "0 rows"),
    ("t.parquet", "PAR1 nothing", "cannot be read as Parquet"),
    ("t.xlsx", "", "ends in"),
])  # fmt: skip
def test_what_is_no_table(name: str, data: str | bytes, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, data)
    with pytest.raises(DataError, match=said):
        open_table(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        open_table(tmp_path / "f.csv")
    with pytest.raises(DataError, match="no such file"):
        open_table(tmp_path / "g.csv")
    with pytest.raises(DataError, match="0 rows"):
        open_table(pd.DataFrame({"a": []}))


def test_cells_decide_the_digest(tmp_path: Path) -> None:
    one = open_table(written(tmp_path, "a.csv", "a,b\n1,2\n")).digest
    assert open_table(written(tmp_path, "b.csv", "a,b\n1,2\n")).digest == one
    assert open_table(written(tmp_path, "c.csv", "a,b\n1,3\n")).digest != one
    assert open_table(written(tmp_path, "d.csv", "b,a\n1,2\n")).digest != one


LETTERS = st.sampled_from("ab ,;|\t'")
CELLS = st.text(LETTERS, min_size=1, max_size=6).filter(lambda c: c.strip() == c)


@given(
    rows=st.integers(2, 4).flatmap(
        lambda width: st.lists(
            st.lists(CELLS, min_size=width, max_size=width), min_size=2, max_size=5
        )
    ),
    delimiter=st.sampled_from(",;\t|"),
    declared=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_quoted_cells_hide_what_separates_others(
    tmp_path: Path, rows: list[list[str]], delimiter: str, declared: bool, ending: str
) -> None:
    rows[0] = [f"{i}{cell}" for i, cell in enumerate(rows[0])]
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in rows]
    if declared:
        lines.insert(0, f"sep={delimiter}")
    table = open_table(written(tmp_path, "t.csv", ending.join(lines)))
    assert list(table.columns) == rows[0]
    assert [list(row) for row in zip(*cells(table), strict=True)] == rows[1:]


@pytest.mark.parametrize(("text", "columns", "first"), [
    ('"price, EUR";"weight, kg"\n1,5;2,3\n', ("price, EUR", "weight, kg"), ["1,5", "2,3"]),
    ("price, EUR;weight, kg\n1;2\n3;4\n", ("price, EUR", "weight, kg"), ["1", "2"]),
    ("sep=;\na,b;c\n1;2\n", ("a,b", "c"), ["1", "2"]),
    ('"sep=|"\r\na|b\r\n1|2\r\n', ("a", "b"), ["1", "2"]),
    ("# made by a program, in 2024\n#\na,b\n1,2\n", ("a", "b"), ["1", "2"]),
    ("#id,name\n1,x\n", ("#id", "name"), ["1", "x"]),
    ("# one, two\nid,name\n1,x\n", ("id", "name"), ["1", "x"]),
    ('a,b\n"1\n# no comment",2\n', ("a", "b"), ["1\n# no comment", "2"]),
    ("a,b\n1,2\n# the end\n", ("a", "b"), ["1", "2"]),
])  # fmt: skip
def test_text_tables_as_people_have_them(
    text: str, columns: tuple[str, ...], first: list[str], tmp_path: Path
) -> None:
    table = open_table(written(tmp_path, "t.csv", text))
    assert table.columns == columns
    assert [table[c][0] for c in columns] == first
    assert len(table) == text.count("\n3;4") + 1


def test_comments_that_are_left_out_are_counted(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "t.csv", "# a\nx,y\n1,2\n# b\n3,4\n"))
    assert table.notes == (
        "2 lines of t.csv that begin with '#' were taken for comments and left out",
    )
    assert cells(table) == [["1", "3"], ["2", "4"]]


class TestBombs:
    """Small files that ask for gigabytes."""

    def refused(self, path: Path, said: str) -> None:
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=said):
                open_table(path)
            assert tracemalloc.get_traced_memory()[1] < 200_000_000
        finally:
            tracemalloc.stop()

    def test_rows_far_shorter_than_the_header(self, tmp_path: Path) -> None:
        header = ",".join(f"c{i}" for i in range(20_000))
        self.refused(written(tmp_path, "t.csv", header + "\n" + "x\n" * 100_000), "unfolds to")

    def test_objects_that_share_no_key(self, tmp_path: Path) -> None:
        lines = "".join(f'{{"k{i}": 1}}\n' for i in range(19_000))
        self.refused(written(tmp_path, "t.jsonl", lines), "unfolds to 361,000,000 cells")

    def test_many_columns_of_one_name(self, tmp_path: Path) -> None:
        self.refused(written(tmp_path, "w.csv", "a," * 100_000 + "\n1"), "has 100,001 columns")
        text = ",".join(["a"] * 20_000) + "\n1\n"
        self.refused(written(tmp_path, "t.csv", text), "more than one column is called 'a'")

    def test_lines_that_are_no_objects(self, tmp_path: Path) -> None:
        path = written(tmp_path, "t.json", "[" + "0," * 300_000 + "0]")
        with pytest.raises(DataError) as error:
            open_table(path)
        assert len(error.value.problems) <= 21

    def test_a_file_of_holes(self, tmp_path: Path) -> None:
        with (tmp_path / "t.csv").open("wb") as file:
            file.truncate(10**13)
        self.refused(tmp_path / "t.csv", "NUL")

    def test_rows_that_a_few_bytes_stand_for(self, tmp_path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        path = tmp_path / "t.parquet"
        column = pa.array(np.zeros(5_000_000, np.int8))
        parquet.write_table(pa.table({f"c{i}": column for i in range(20)}), path)
        assert path.stat().st_size < 500_000
        self.refused(path, "unfolds to 100,000,000 cells")

    @pytest.mark.parametrize("nested", [False, True])
    def test_one_long_text_in_every_row(self, tmp_path: Path, nested: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["x" * 50_000])
        column = pa.ListArray.from_arrays(np.arange(100_001, dtype=np.int32), text)
        path = tmp_path / "t.parquet"
        parquet.write_table(pa.table({"t": column if nested else text}), path)
        assert path.stat().st_size < 500_000
        self.refused(path, "texts of 5,000,000,000 characters")

    @pytest.mark.parametrize("kind", ["fifo", "device", "loop", "folder"])
    def test_what_is_no_plain_file(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "t.csv"
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "loop":
            path.symlink_to(path)
        else:
            path.mkdir()
        said = {"loop": "no such file", "folder": "is a folder"}.get(kind, "no plain file")
        self.refused(path, said)


def test_decimals_are_numbers(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    prices = pa.array(["10.50", "11.00", None], pa.string()).cast(pa.decimal128(12, 2))
    parquet.write_table(pa.table({"price": prices}), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    assert numbers_of(table["price"])[:2].tolist() == [10.5, 11.0]
    assert [text_of(cell) for cell in table["price"][:2]] == ["10.5", "11"]
    assert table["price"][2] is None
    kind, _ = infer_column("price", [cell for cell in table["price"] if cell is not None], 3)
    assert kind == "numerical"
