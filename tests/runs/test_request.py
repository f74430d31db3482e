"""What is asked of a run is checked as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from polymix.errors import Problems, UsageError
from polymix.runs.request import Request
from polymix.tables.join import MoreTables


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_request_finds_its_place_once_all_is_well(workplace):
    Path("taken").mkdir()
    Path("taken/file").touch()
    problems = Problems()
    with problems.caught():
        raise UsageError("an option that is none")
    asked = {"metric": "acuracy", "trials": 0}
    with pytest.raises(UsageError) as error:
        Request.checked("demo", asked, path="taken", problems=problems)
    said = error.value.problems
    assert len(said) == 4
    assert said[0] == "an option that is none"
    assert said[1] == "--trials must be at least 1, but got 0"
    assert "no metric 'acuracy'" in said[2]
    assert "taken exists" in said[3]
    assert Request.checked("demo", {}).path == Path("runs/demo")
    assert Request.checked("demo", {}, path="taken", dry=True).path is None
    assert [path.name for path in workplace.iterdir()] == ["taken"]


def test_what_goes_with_tables_alone_is_told(workplace):
    with pytest.raises(UsageError, match="group, --valid: only for tables, but 'demo' is none"):
        Request.checked("demo", {"table": {"group": "patient"}}, named=MoreTables(valid="more.csv"))
    asked = {"target": "liked", "table": {"test_share": 0.2}}
    with pytest.raises(UsageError) as error:
        Request.checked("films.csv", asked, named=MoreTables(test="more.csv"))
    assert error.value.problems[0].startswith("--test-share and --test exclude each other")
    with pytest.raises(UsageError) as error:
        Request.checked("films.csv", {"raw": ".", "data_options": {"rows": 3}})
    assert list(error.value.problems) == [
        "a table needs a target: name its column with --target",
        "a table has no raw files or settings: omit --raw and --data-option",
    ]
