"""A person's own table, from the file to predictions."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polymix import Predictor
from polymix.data.schema import Kind, Task
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe, read_report
from polymix.errors import DataError, UsageError
from polymix.tables.read import read_rows
from polymix.tables.recipe import TableRecipe
from table_files import damaged_table

OPTIONS = {"epochs": 1, "full_epochs": 1, "networks": ["none"], "fusions": ["concat"],
           "encoders": ["mlp"]}  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counter[tuple[str, str]], int]:
    return damaged_table(tmp_path_factory.mktemp("films") / "table")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counts(report: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(c, why): n for c, by in report["counts"].items() for why, n in by.items()}


def test_every_kind_of_damage_is_counted_and_every_row_predicted(
    films: tuple[Path, Counter[tuple[str, str]], int], tmp_path: Path
) -> None:
    path, truth, unlabelled = films
    predictor = Predictor("liked", path=tmp_path / "run")
    predictor.fit(path, trials=12, strategy="mixmas", options=OPTIONS)
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert counts(report) == dict(truth) | {("liked", "empty"): unlabelled}
    assert len(report["cells"]) == sum(truth.values()) + unlabelled
    assert report["rows"] == {"read": 300, "used": 294, "without a label": 6}
    assert sum(report["split"].values()) == 294
    types = {c["column"]: c["type"] for c in report["columns"]}
    assert types == {
        "film": "ignore", "note": "ignore", "photo": "image_path", "sound": "audio_path",
        "review": "text", "curve": "timeseries", "price": "numerical", "genre": "categorical",
        "seen": "date", "liked": "ignore",
    }  # fmt: skip
    kinds = {m["name"]: m["kind"] for m in json.loads(
        (tmp_path / "run" / "schema.json").read_text())["modalities"]}  # fmt: skip
    assert kinds == {
        "photo": "image", "sound": "audio", "review": "text", "curve": "timeseries",
        "tabular": "tabular",
    }  # fmt: skip
    assert report["absent"] == {
        "photo": 30, "sound": 30, "review": 5, "curve": 15, "tabular": 0,
    }  # fmt: skip
    predictions = predictor.predictions(path)
    assert list(predictions) == ["liked", "p(no)", "p(yes)"]
    assert len(predictions) == 300
    chances = predictions[["p(no)", "p(yes)"]].to_numpy()
    assert np.isfinite(chances).all()
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)


def test_a_new_table_is_read_as_the_first_was(
    films: tuple[Path, Counter[tuple[str, str]], int],
) -> None:
    path, _, _ = films
    dataset = open_table_dataset(path, TableOptions(target="liked"))
    recipe = read_recipe(dataset)
    assert recipe is not None
    assert TableRecipe.from_json(recipe.to_json()) == recipe
    rows = read_rows(path, recipe, jobs=2)
    kept = np.flatnonzero(rows.labelled)
    assert len(kept) == len(dataset)
    assert rows.targets is not None
    np.testing.assert_array_equal(rows.targets[kept], dataset.targets)
    np.testing.assert_array_equal(rows.present[kept], dataset.present)
    for name in dataset.schema.names:
        np.testing.assert_array_equal(rows.arrays[name][kept], dataset.arrays[name])
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    new = frame.drop(columns=["liked"]).assign(genre="never seen", photo="nowhere.jpg")
    read = read_rows(new, recipe)
    assert read.targets is None
    assert not read.labelled.any()
    assert not read.present[:, dataset.schema.index("photo")].any()
    assert np.isfinite(read.arrays["tabular"]).all()
    with pytest.raises(DataError, match="'revue'") as error:
        read_rows(new.rename(columns={"review": "revue", "price": "cost"}), recipe)
    assert len(error.value.problems) == 2


def test_a_second_start_builds_nothing(
    films: tuple[Path, Counter[tuple[str, str]], int], tmp_path: Path
) -> None:
    shutil.copytree(films[0].parent, tmp_path / "own")
    path = tmp_path / "own" / "films.csv"
    said: list[str] = []

    def told(done: int, total: int, what: str) -> None:
        said.append(what)

    options = TableOptions(target="liked")
    first = open_table_dataset(path, options, told)
    assert {"reading photo", "reading sound", "reading curve"} == set(said)
    said.clear()
    assert open_table_dataset(path, options, told).fingerprint == first.fingerprint
    assert not said
    (path.parent / "files" / "1.jpg").write_bytes((path.parent / "files" / "2.jpg").read_bytes())
    assert open_table_dataset(path, options, told).fingerprint != first.fingerprint
    assert said


def test_strict_lists_every_cell(films: tuple[Path, Counter[tuple[str, str]], int]) -> None:
    path, truth, unlabelled = films
    with pytest.raises(DataError) as error:
        open_table_dataset(path, TableOptions(target="liked", strict=True))
    assert len(error.value.problems) == sum(truth.values()) + unlabelled
    assert any("row 20, column 'photo': a truncated image" in p for p in error.value.problems)


def numbers(rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({
        "a": rng.normal(size=rows), "b": rng.integers(0, 50, rows), "y": ["u", "v"] * (rows // 2),
        "who": [f"p{i // 6}" for i in range(rows)],
        "day": pd.date_range("2024-01-01", periods=rows).astype(str),
        "part": ["Train", "train", "dev", "test", "training", "holdout"] * (rows // 6),
    })  # fmt: skip


def sides(dataset: Any) -> np.ndarray:
    codes = np.full(len(dataset), -1)
    codes[dataset.split.train], codes[dataset.split.val] = TRAIN, VAL
    codes[dataset.split.test.open()] = TEST
    return codes


def test_splits() -> None:
    frame = numbers()
    inputs = {"types": {"who": "ignore", "day": "ignore", "part": "ignore"}}
    at_random = open_table_dataset(frame, TableOptions(target="y", **inputs))
    assert [len(at_random.split.train), len(at_random.split.val)] == [42, 9]
    types = {"day": "ignore", "part": "ignore"}
    codes = sides(open_table_dataset(frame, TableOptions(target="y", group="who", types=types)))
    assert all(len(set(codes[frame["who"] == who])) == 1 for who in set(frame["who"]))
    assert set(codes) == {TRAIN, VAL, TEST}
    types = {"who": "ignore", "part": "ignore"}
    codes = sides(open_table_dataset(frame, TableOptions(target="y", time="day", types=types)))
    assert (np.diff(codes) >= 0).all()
    assert np.bincount(codes).tolist() == [42, 9, 9]
    types = {"who": "ignore", "day": "ignore"}
    codes = sides(open_table_dataset(frame, TableOptions(target="y", split="part", types=types)))
    assert codes[:6].tolist() == [TRAIN, TRAIN, VAL, TEST, TRAIN, TEST]


def test_the_share_of_test_rows_is_the_persons_to_say() -> None:
    frame = numbers()
    types = {"who": "ignore", "day": "ignore", "part": "ignore"}
    for how in ({}, {"group": "who"}, {"time": "day"}):
        given = {c: t for c, t in types.items() if c not in how.values()}
        none = sides(open_table_dataset(
            frame, TableOptions(target="y", test_share=0, types=given, **how)))  # fmt: skip
        assert np.bincount(none, minlength=3)[TEST] == 0
        assert (none == VAL).any()
        third = sides(open_table_dataset(
            frame, TableOptions(target="y", test_share=0.3, types=given, **how)))  # fmt: skip
        assert 15 <= np.bincount(third, minlength=3)[TEST] <= 21


def test_an_older_recipe_is_read() -> None:
    recipe = read_recipe(open_table_dataset(numbers()[["a", "y"]], TableOptions(target="y")))
    assert recipe is not None
    older = json.loads(recipe.to_json())
    del older["target"]["dtype"]
    assert TableRecipe.from_json(json.dumps(older)).target.dtype == "str"


def test_duplicates_across_splits_are_reported() -> None:
    frame = numbers()[["a", "b", "y"]]
    frame = pd.concat([frame, frame.iloc[:20]], ignore_index=True)
    dataset = open_table_dataset(frame, TableOptions(target="y"))
    report, codes = read_report(dataset), sides(dataset)
    wanted = [[i, 60 + i] for i in range(20) if codes[i] != codes[60 + i]]
    assert wanted
    assert report["duplicates"] == {"count": 2 * len(wanted), "rows": wanted}


def test_statistics_are_of_training_rows_alone() -> None:
    frame = numbers()
    frame = frame[["a", "part", "y"]]
    loud = frame.copy()
    loud.loc[loud["part"].isin(["dev", "test", "holdout"]), "a"] *= 1e6
    options = TableOptions(target="y", split="part")
    one, other = (open_table_dataset(f, options) for f in (frame, loud))
    assert read_recipe(one) == read_recipe(other)
    train = one.split.train
    np.testing.assert_array_equal(one.arrays["tabular"][train], other.arrays["tabular"][train])


@pytest.mark.parametrize(("values", "task", "classes"), [
    ([0, 1] * 20, Task.BINARY, ("0", "1")),
    ([True, False] * 20, Task.BINARY, ("False", "True")),
    ([1.0, 2.0, None, 3.0] * 10, Task.MULTICLASS, ("1", "2", "3")),
    (["x|y", "y", "z|x", "y|z"] * 10, Task.MULTILABEL, ("x", "y", "z")),
    ([["x", "y"], [], ["z"], ["x"]] * 10, Task.MULTILABEL, ("x", "y", "z")),
    (["a, b", "b", "c, a", "b, c"] * 10, Task.MULTILABEL, ("a", "b", "c")),
    ([i / 3 for i in range(40)], Task.REGRESSION, ()),
    (list(range(40)), Task.REGRESSION, ()),
])  # fmt: skip
def test_tasks(values: list[Any], task: Task, classes: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=40), "y": values})
    target = open_table_dataset(frame, TableOptions(target="y")).schema.target
    assert (target.task, target.classes) == (task, classes)


def test_names_that_no_file_could_have() -> None:
    frame = numbers()[["a", "b", "y"]].rename(columns={"a": "the / price ($)", "y": "target"})
    frame["Present"] = ["one two three four five", "five six seven eight nine"] * 30
    frame["Présent"] = ["so many words in here, yes", "and as many in here, too"] * 30
    types = {"Present": "text", "Présent": "text"}
    dataset = open_table_dataset(frame, TableOptions(target="target", types=types))
    assert dataset.schema.names == ("Present_2", "Pr_sent", "tabular")
    assert dataset.schema.target.name == "target_2"


def test_what_cannot_be_asked_of_a_table() -> None:
    frame = numbers()
    with pytest.raises(UsageError, match="did you mean 'who'") as error:
        open_table_dataset(frame, TableOptions(target="z", group="whom", time="day"))
    assert len(error.value.problems) == 3
    with pytest.raises(UsageError) as error:
        open_table_dataset(
            frame,
            TableOptions(target="y", group="whom", types={"aa": "text", "b": "number", "y": "x"}),
        )
    assert len(error.value.problems) == 4
    with pytest.raises(UsageError, match="no type 'texts': did you mean 'text'"):
        open_table_dataset(frame, TableOptions(target="y", types={"a": "texts"}))
    with pytest.raises(UsageError, match="holds 'p0'"):
        open_table_dataset(frame, TableOptions(target="y", split="who"))
    with pytest.raises(DataError, match="one group"):
        open_table_dataset(frame.assign(who="p"), TableOptions(target="y", group="who"))
    with pytest.raises(DataError, match="nothing to learn"):
        open_table_dataset(frame.assign(y="u"), TableOptions(target="y"))
    with pytest.raises(DataError, match="no column to learn from"):
        open_table_dataset(frame[["y"]], TableOptions(target="y"))
    with pytest.raises(DataError, match="more than one column"):
        open_table_dataset(frame.set_axis(["a", "a", *frame.columns[2:]], axis=1),
                           TableOptions(target="y"))  # fmt: skip


def test_groups_of_columns_are_series() -> None:
    rng = np.random.default_rng(0)
    columns = {f"x_{i}": rng.normal(size=40) for i in range(5)}
    columns |= {f"p_{i}_{j}": rng.normal(size=40) for i in range(3) for j in range(4)}
    frame = pd.DataFrame({**columns, "s1": rng.normal(size=40), "y": [0, 1] * 20})
    frame.loc[3, [f"x_{i}" for i in range(5)]] = np.nan
    frame.loc[4, "x_2"] = np.nan
    dataset = open_table_dataset(frame, TableOptions(target="y", types={"p": "features"}))
    shapes = {m.name: (m.kind, m.shape) for m in dataset.schema.modalities}
    assert shapes == {
        "x": (Kind.TIMESERIES, (5, 1)), "p": (Kind.FEATURES, (3, 4)),
        "tabular": (Kind.TABULAR, (1,)),
    }  # fmt: skip
    place = dataset.schema.index("x")
    assert np.flatnonzero(~dataset.present[:, place]).tolist() == [3]
    filled = (frame.loc[4, "x_1"] + frame.loc[4, "x_3"]) / 2
    assert dataset.arrays["x"][4, 2, 0] == pytest.approx(filled, rel=1e-6)


def test_columns_whose_order_tells_nothing_are_features() -> None:
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(80, 12)).cumsum(1)
    wave = np.sin(1.5 * np.arange(12) + rng.uniform(0, 6, (80, 1)))
    bag = rng.normal(size=(80, 12)) * 10.0 ** rng.integers(-3, 4, 12)
    both = rng.normal(size=(80, 4)).cumsum(1).repeat(3, 1) + 0.1 * rng.normal(size=(80, 12))
    shuffled = walk[:, rng.permutation(12)] * rng.choice([-1, 1], 12)
    groups = {"walk": walk, "wave": wave, "bag": bag, "shuffled": shuffled}
    columns = {f"{g}_{i}": values[:, i] for g, values in groups.items() for i in range(12)}
    columns |= {f"both_{i}_{j}": both[:, 3 * i + j] for i in range(4) for j in range(3)}
    frame = pd.DataFrame({**columns, "bag_3": "?", "y": [0, 1] * 40})
    frame.loc[5:9, "walk_3"] = None
    dataset = open_table_dataset(frame, TableOptions(target="y"))
    kinds = {m.name: m.kind for m in dataset.schema.modalities}
    series, unordered = Kind.TIMESERIES, Kind.FEATURES
    assert {n: kinds[n] for n in ("walk", "wave", "both", "shuffled")} == {
        "walk": series, "wave": series, "both": series, "shuffled": unordered,
    }  # fmt: skip
    assert "bag" not in kinds  # one of its columns is no number
    reasons = {c["column"]: c["reason"] for c in read_report(dataset)["columns"]}
    assert "which have no order: neighbours correlate by 0." in reasons["shuffled_0"]
    frame["bag_3"] = bag[:, 3]
    dataset = open_table_dataset(frame, TableOptions(target="y"))
    assert {m.name: m.kind for m in dataset.schema.modalities}["bag"] == unordered
