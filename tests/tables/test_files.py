from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from polymix.errors import DataError
from polymix.tables.files import Table, open_table

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
