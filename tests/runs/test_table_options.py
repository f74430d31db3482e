"""How a table is asked for: types as text and as a file, and what is a table."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polymix.errors import UsageError
from polymix.runs.table_options import column_types_of, is_table, table_options

NAMES = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1)
WORDS = NAMES.map(str.strip).filter(bool)


@given(st.dictionaries(WORDS, WORDS.filter(lambda kind: "=" not in kind)))
def test_types_come_back_from_their_text(types):
    text = ",".join(f"{name}={kind}" for name, kind in types.items()) or None
    assert column_types_of(text, None) == types


@given(st.text())
def test_any_text_is_read_or_refused(text):
    wrong = [p for p in text.split(",") if not all(map(str.strip, p.rpartition("=")))]
    if wrong:
        with pytest.raises(UsageError) as error:
            column_types_of(text, None)
        assert len(error.value.problems) == len(wrong)
        assert all(p.startswith("--column-types") for p in error.value.problems)
    else:
        names = [p.rpartition("=")[0].strip() for p in text.split(",")]
        assert list(column_types_of(text, None)) == list(dict.fromkeys(names))


@pytest.mark.parametrize("wrap", [lambda types: types, lambda types: {"columns": types}])
def test_what_the_text_says_counts_and_the_file_for_the_rest(tmp_path, wrap):
    file = tmp_path / "types.yaml"
    file.write_text(yaml.safe_dump(wrap({"age": "number", "note": "text"})))
    assert column_types_of("note=category", file) == {"age": "number", "note": "category"}


def test_names_stay_texts(tmp_path):
    file = tmp_path / "types.yaml"
    file.write_text("no: numerical\n1.0: text\n2024-01-01: ignore\n~: text\n")
    types = {"no": "numerical", "1.0": "text", "2024-01-01": "ignore", "~": "text"}
    assert column_types_of(None, file) == types


def bomb(levels: int) -> str:
    """Lines each of which names the one before nine times."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb(9), "aliases"), ("a: &a [*a]", "aliases"), ("? &a b\n: *a", "aliases"),
        ("# " + "x" * 1_000_000, "more than 1,000,000 bytes"), ("[" * 10_000, "cannot be read"),
        ("a: " + "1:" * 5_000 + "1", "NAME: TYPE"), ("a: !!python/object:os.system []", ""),
    ],
)  # fmt: skip
def test_files_that_unfold_are_refused(tmp_path, text, said):
    file = tmp_path / "types.yaml"
    file.write_text(text)
    begun = time.monotonic()
    if not said or "NAME" in said:
        assert all(isinstance(kind, str) for kind in column_types_of(None, file).values())
    else:
        with pytest.raises(UsageError, match=said):
            column_types_of(None, file)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop"])
def test_what_is_no_plain_file(tmp_path, kind):
    file = tmp_path / "types.yaml"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "device" else file)
    with pytest.raises(UsageError, match=r"--schema-file .*types\.yaml cannot be read"):
        column_types_of(None, file)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    lines = tmp_path / "lines.yaml"
    lines.write_text("- age\n- note\n")
    with pytest.raises(UsageError) as error:
        column_types_of("age,=text,note=", lines)
    assert [p.partition(":")[0].partition(" ")[0] for p in error.value.problems] == [
        "--schema-file", "--column-types", "--column-types", "--column-types",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="cannot be read"):
        column_types_of(None, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("data", "table"),
    [
        ("films.csv", True), ("FILMS.PARQUET", True), (Path("films"), True),
        (pd.DataFrame(), True), ("demo", False), ("films", False), (None, False),
    ],
)  # fmt: skip
def test_what_is_a_table(data, table):
    assert is_table(data) is table


def test_options_that_are_none():
    with pytest.raises(UsageError) as error:
        table_options("y", {"grup": "patient", "image_size": "large"})
    assert len(error.value.problems) == 2
    assert all(problem.startswith("table: ") for problem in error.value.problems)
    assert table_options("y", {"group": "patient"}).group == "patient"
