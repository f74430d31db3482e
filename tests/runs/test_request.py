"""What is asked of a run is checked as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from polymix.errors import Problems, UsageError
from polymix.runs.request import Request


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
    asked = Request("demo", metric="acuracy", trials=0)
    with pytest.raises(UsageError) as error:
        asked.place(Path("taken"), problems)
    said = error.value.problems
    assert len(said) == 4
    assert said[0] == "an option that is none"
    assert "--trials 0" in said[1]
    assert "no metric 'acuracy'" in said[2]
    assert "taken exists" in said[3]
    assert Request("demo").place(None) == Path("runs/demo")
    assert [path.name for path in workplace.iterdir()] == ["taken"]
