from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from polymix.data.schema import Kind, Modality, Schema, Statistics, Target, Task
from polymix.errors import RunFolderError
from polymix.genotype import parse_genotype
from polymix.store import Ledger, RunFolder
from polymix.store import integrity as seals
from polymix.store.files import sha256, write_atomic
from polymix.store.weights import unpack

from .conftest import ToyGenotype
from .killing import die_before, survives

SCHEMA = Schema(
    modalities=(
        Modality(
            name="a",
            kind=Kind.TABULAR,
            shape=(2,),
            dtype="float32",
            statistics=Statistics(mean=(0.1, 1 / 3), std=(1e-300, 2.5)),
        ),
    ),
    target=Target(name="y", task=Task.BINARY, classes=("no", "naïve")),
)
CONFIG = {"budget": {"seconds": 600.0, "trials": None}, "seeds": [0, 1], "yes": "no", "é": "1e3"}
DESCRIPTION = {"seed": 3, "machine": {"cores": 2}}
GENOTYPE = ToyGenotype(name="best")
WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0), "n": torch.tensor(3)}
METRICS = {"accuracy": 0.75}
SEALED = ["config.yaml", "schema.json", "genotype.json", "model.safetensors", "metrics.json"]


def create(path: Path) -> RunFolder:
    return RunFolder.create(path, CONFIG, SCHEMA, DESCRIPTION)


def finish(folder: RunFolder, value: float = 0.0, **fields: Any) -> None:
    weights = {**WEIGHTS, "w": WEIGHTS["w"] + value}
    folder.finish_model(ToyGenotype(name=f"v{value}").to_json(), weights, {"m": value}, **fields)


def values(folder: RunFolder) -> list[Any]:
    return [
        folder.description,
        folder.config,
        folder.schema,
        folder.metrics,
        folder.evaluation,
        folder.genotype_json if folder.has_model else None,
        {k: v.tolist() for k, v in folder.weights().items()} if folder.has_model else None,
    ]


def say(path: Path, *, read: Callable[[RunFolder], object] = values) -> list[str]:
    with pytest.raises(RunFolderError) as caught:
        read(RunFolder.open(path))
    return [problem.replace(str(path), "RUN") for problem in caught.value.problems]


def reseal(path: Path, **changes: Any) -> None:
    """Make the folder's files count as what the run wrote."""
    description = json.loads((path / "description.json").read_text())
    files = {n: sha256((path / n).read_bytes()) for n in SEALED if (path / n).exists()}
    description |= {"files": files, **changes}
    (path / "description.json").write_bytes(seals.sealed(description))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run folder, closed."""
    with create(tmp_path / "run") as folder:
        Ledger.open(folder.ledger_path).close()
        finish(folder)
        folder.update_description(status="finished")
        folder.write_evaluation({"n": 3})
    return tmp_path / "run"


def test_a_new_folder_reads_back(tmp_path: Path) -> None:
    with create(tmp_path / "runs" / "movies") as folder:
        assert folder.status == "running"
        assert not folder.has_model
        assert folder.metrics is None
        assert folder.evaluation is None
        for read in (lambda: folder.genotype_json, folder.weights):
            with pytest.raises(RunFolderError, match="no trained model yet"):
                read()
        for opened in (folder, RunFolder.open(folder.path)):
            assert opened.config == CONFIG
            assert opened.schema == SCHEMA
            assert opened.description["seed"] == 3
            assert opened.description["polymix"] == seals.polymix_version()
            assert opened.ledger_path == folder.path / "ledger.sqlite"
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["movies"]


def test_a_finished_folder_reads_back(run: Path) -> None:
    folder = RunFolder.open(run)
    assert folder.status == "finished"
    assert parse_genotype(folder.genotype_json) == ToyGenotype(name="v0.0")
    assert folder.metrics == {"m": 0.0}
    assert folder.evaluation == {"n": 3}
    back = folder.weights({name: tuple(tensor.shape) for name, tensor in WEIGHTS.items()})
    assert all(torch.equal(back[name], WEIGHTS[name]) for name in WEIGHTS)
    assert sorted(p.name for p in run.iterdir()) == sorted(
        [".lock", "description.json", "evaluation.json", "ledger.sqlite", *SEALED]
    )


def test_what_is_open_says_what_was_written(tmp_path: Path) -> None:
    with create(tmp_path / "run") as folder:
        for value in (1.0, 2.0):
            finish(folder, value, time_used=value)
            folder.update_description(note=str(value))
            folder.write_evaluation({"m": value})
            assert values(folder) == values(RunFolder.open(folder.path))
        assert folder.description["time_used"] == 2.0
        reader = RunFolder.open(folder.path)
        finish(folder, 3.0)
        with pytest.raises(RunFolderError, match="changed since"):
            reader.weights()


def test_odd_text_is_kept(tmp_path: Path) -> None:
    odd = {"path": "a\udcffb", "text": "\x85\0\u2028 : #\n", "n": 1e-7}
    with RunFolder.create(tmp_path / "run", odd, SCHEMA, odd):
        folder = RunFolder.open(tmp_path / "run")
        assert folder.config == odd
        assert {name: folder.description[name] for name in odd} == odd


@pytest.mark.parametrize("config", [{"a": object()}, {"a": Path()}])
def test_a_configuration_must_be_plain(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(RunFolderError, match="no plain value"):
        RunFolder.create(tmp_path / "run", config, SCHEMA, {})
    with pytest.raises(RunFolderError):
        RunFolder.create(tmp_path / "run", {}, SCHEMA, {"n": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    create(tmp_path).close()
    assert RunFolder.open(tmp_path).config == CONFIG


def test_what_exists_is_not_overwritten(tmp_path: Path, run: Path) -> None:
    before = values(RunFolder.open(run))
    with pytest.raises(RunFolderError, match=r"exists: `polymix resume .*run` goes on.*--run-dir"):
        create(run)
    assert values(RunFolder.open(run)) == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        create(tmp_path / "file")
    with pytest.raises(RunFolderError):
        create(tmp_path / "file" / "below")


def test_one_process_writes(run: Path) -> None:
    with RunFolder.open(run, write=True) as folder:
        with pytest.raises(RunFolderError, match="another polymix process is using it"):
            RunFolder.open(run, write=True)
        RunFolder.open(run)
        finish(folder, 5.0)
    with RunFolder.open(run, write=True) as folder:
        assert folder.metrics == {"m": 5.0}


def test_only_the_holder_writes(run: Path) -> None:
    folder = RunFolder.open(run)
    with pytest.raises(RunFolderError, match="opened for reading"):
        folder.update_description(status="running")
    with pytest.raises(RunFolderError, match="opened for reading"):
        finish(folder)
    folder.write_evaluation({"n": 4})
    assert RunFolder.open(run).evaluation == {"n": 4}
    with RunFolder.open(run, write=True) as folder:
        with pytest.raises(RunFolderError, match="seal cannot be set"):
            folder.update_description(seal="x")
        with pytest.raises(RunFolderError):
            folder.update_description(n=float("inf"))
        with pytest.raises(RunFolderError):
            folder.finish_model("no json", WEIGHTS, METRICS)
        with pytest.raises(RunFolderError):
            folder.finish_model(GENOTYPE.to_json(), WEIGHTS, {"m": float("nan")})
        with pytest.raises(RunFolderError, match="cannot be kept"):
            folder.finish_model(GENOTYPE.to_json(), {"w": torch.eye(2).to_sparse()}, METRICS)
        assert folder.metrics == {"m": 0.0}


# ------------------------------------------------------------------------ what is not a run folder


def test_places_without_a_run(tmp_path: Path) -> None:
    assert say(tmp_path / "none") == ["RUN: no such run folder"]
    (tmp_path / "file").write_text("x")
    assert say(tmp_path / "file") == ["RUN: is not a folder"]
    assert say(tmp_path) == ["RUN: is not a run folder (it has no description.json)"]
    with pytest.raises(RunFolderError):
        RunFolder.open(tmp_path, write=True)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("damaged", [b"[]", b'{"metrics": {', b"", b"\x00", b"[" * 99_999, b"\xff"])
def test_a_damaged_evaluation_is_made_again(run: Path, damaged: bytes) -> None:
    (run / "evaluation.json").write_bytes(damaged)
    folder = RunFolder.open(run)
    assert folder.evaluation is None
    folder.write_evaluation({"n": 1})
    assert RunFolder.open(run).evaluation == {"n": 1}


def test_all_problems_are_told_at_once(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "genotype.json").write_text("{}")
    (run / "evaluation.json").write_text("[]")
    (run / "x.pkl").touch()
    (run / "link").symlink_to("schema.json")
    assert say(run) == [
        "RUN: link is a link: a run folder has plain files only; replace it by the file, "
        "or remove it",
        "RUN: x.pkl is a pickle or a torch archive, which may run any code when loaded: remove it",
        "RUN: config.yaml is missing, the folder is half-written: run again",
        "RUN: genotype.json was changed after the run wrote it: restore it, or run again",
    ]


@pytest.mark.parametrize("name", SEALED)
def test_a_missing_file_is_told(run: Path, name: str) -> None:
    (run / name).unlink()
    assert say(run) == [f"RUN: {name} is missing, the folder is half-written: run again"]


@pytest.mark.parametrize("name", SEALED)
def test_a_changed_file_is_told(run: Path, name: str) -> None:
    (run / name).write_bytes((run / name).read_bytes() + b" ")
    assert say(run) == [f"RUN: {name} was changed after the run wrote it: restore it, or run again"]


def test_a_changed_description_is_told(run: Path) -> None:
    path = run / "description.json"
    text = path.read_text()
    path.write_text(text.replace('"seed": 3', '"seed": 4'))
    assert say(run) == [
        "RUN: description.json was changed after the run wrote it: restore it, or run again"
    ]
    path.write_text(text.replace("  ", "\t"))  # only looks otherwise
    assert RunFolder.open(run).description["seed"] == 3


def test_a_newer_folder_is_told(run: Path) -> None:
    description = json.loads((run / "description.json").read_text())
    description |= {"format": 2, "polymix": "9.1", "files": "elsewhere"}
    (run / "description.json").write_text(json.dumps(description))
    assert say(run) == [
        f"RUN: was written by polymix 9.1, this is {seals.polymix_version()}: update polymix"
    ]


@pytest.mark.parametrize("format_", [None, 0, "1", True, 1.0, -1])
def test_a_folder_of_no_format_is_told(run: Path, format_: object) -> None:
    reseal(run, format=format_)
    assert say(run) == ["RUN: description.json names no format: restore it, or run again"]


@pytest.mark.parametrize(
    "files", [None, [], {}, {"config.yaml": "", "schema.json": "", "../secret": ""}, {"a": 1}]
)
def test_named_files_stay_inside(run: Path, files: object) -> None:
    reseal(run, files=files)
    assert say(run) == ["RUN: description.json does not name the files that belong to a run"]


# ---------------------------------------------------------------------------- what may run code


class Canary:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("canary-ran",)


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "canary-ran").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors", "deep/er/x", "ledger.sqlite"])
def test_pickles_are_refused_unread(inside: Path, run: Path, protocol: int, name: str) -> None:
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(pickle.dumps(Canary(), protocol))
    reseal(run)
    (problem,) = say(run)
    assert problem.startswith(f"RUN: {name} is a pickle or a torch archive")
    with pytest.raises(RunFolderError):
        RunFolder.open(run, write=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_archives_are_refused_unread(inside: Path, run: Path, legacy: bool) -> None:
    torch.save(Canary(), run / "model.safetensors", _use_new_zipfile_serialization=not legacy)
    reseal(run)
    (problem,) = say(run)
    assert problem.startswith("RUN: model.safetensors is a pickle or a torch archive")


@pytest.mark.parametrize(
    "name", ["a.pkl", "a.PICKLE", "a.pt", "a.pth", "pytorch_model.bin", "a.joblib"]
)
def test_the_names_of_pickles_are_refused(run: Path, name: str) -> None:
    (run / name).write_text("nothing")
    (problem,) = say(run)
    assert problem.startswith(f"RUN: {name} is a pickle")


def test_harmless_files_may_lie_there(run: Path) -> None:
    with zipfile.ZipFile(run / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    (run / "b.zip").write_bytes((run / "a.zip").read_bytes()[30:])
    (run / "report.html").write_text("<p>")
    (run / "empty").touch()
    RunFolder.open(run)


def test_a_header_that_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    with create(tmp_path / "run") as folder:
        lengths = set()
        for size in range(440, 620, 8):
            folder.finish_model(GENOTYPE.to_json(), {"w" * size: torch.zeros(3)}, METRICS)
            RunFolder.open(folder.path).weights()
            lengths.add((folder.path / "model.safetensors").read_bytes()[:2])
        assert b"\x80\x02" in lengths


def test_yaml_tags_run_nothing(inside: Path, run: Path) -> None:
    (run / "config.yaml").write_text("a: !!python/object/apply:os.mkdir [canary-ran]")
    reseal(run)
    (problem,) = say(run)
    assert problem.startswith("RUN: config.yaml cannot be read (could not determine a constructor")


@pytest.mark.parametrize("name", ["schema.json", "description.json", "notes", "evaluation.json"])
@pytest.mark.parametrize("target", ["outside", "inside", "broken"])
def test_links_are_refused(run: Path, name: str, target: str) -> None:
    outside = run.parent / "outside.json"
    outside.write_text("{}")
    places = {"outside": outside, "inside": run / "metrics.json", "broken": run / "nowhere"}
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(places[target])
    problems = say(run)
    if (name, target) == ("description.json", "broken"):
        assert problems == ["RUN: is not a run folder (it has no description.json)"]
    else:
        assert f"RUN: {name} is a link" in problems[0]
        assert len(problems) == 1


def test_a_linked_staging_folder_is_refused(run: Path) -> None:
    shutil.copytree(run, run.parent / "other")
    (run / ".staging").symlink_to(run.parent / "other")
    with pytest.raises(RunFolderError, match=r"\.staging is a link"):
        RunFolder.open(run, write=True)
    assert (run.parent / "other" / "schema.json").exists()


def test_a_pipe_is_refused_without_waiting(run: Path) -> None:
    os.mkfifo(run / "notes")
    assert say(run) == ["RUN: notes is no plain file: remove it"]


def test_the_run_folder_itself_may_be_a_link(run: Path) -> None:
    (run.parent / "latest").symlink_to(run)
    assert RunFolder.open(run.parent / "latest").has_model


# ---------------------------------------------------------------------------------- the weights


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(shape: Any, start: Any, stop: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "header too small"),
        (b"\xff" * 8, "header too large"),
        (b"\xff" * 100, "header too large"),
        ((50).to_bytes(8, "little") + b"{}", "invalid header length"),
        ((10**8 + 1).to_bytes(8, "little"), "header too large"),
        ((2).to_bytes(8, "little") + b"x]", "invalid JSON"),
        ((100_000).to_bytes(8, "little") + b'{"a":' * 20_000, "recursion limit"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "invalid utf-8"),
        (safetensors([]), "invalid JSON"),
        (safetensors({"w": 1}), "invalid JSON"),
        (safetensors({"w": {"dtype": "F32"}}, b"1234"), "missing field `shape`"),
        (safetensors({"w": tensor([10**9], 0, 4 * 10**9)}, b"1234"), "not fully covered"),
        (safetensors({"w": tensor([10**9], 0, 4)}, b"1234"), "invalid shape"),
        (safetensors({"w": tensor([2**40, 2**40], 0, 0)}), "overflow"),
        (safetensors({"w": tensor([2**63, 2], 0, 0)}), "overflow"),
        (safetensors({"w": tensor([10**30], 0, 4)}, b"1234"), "expected usize"),
        (safetensors({"w": tensor([-1], 0, 4)}, b"1234"), "expected usize"),
        (safetensors({"w": tensor([1.0], 0, 4)}, b"1234"), "expected usize"),
        (safetensors({"w": tensor([True], 0, 4)}, b"1234"), "expected usize"),
        (safetensors({"w": tensor(1, 0, 4)}, b"1234"), "expected a sequence"),
        (safetensors({"w": tensor([1], 4, 0)}, b"1234"), "invalid offset"),
        (safetensors({"w": tensor([1], 4, 8)}, b"12345678"), "invalid offset"),
        (safetensors({"w": tensor([1], 0, 4, "OBJECT")}, b"1234"), "unknown variant `OBJECT`"),
        (safetensors({"w": tensor([1], 0, 4, ["F32"])}, b"1234"), "invalid JSON"),
        (safetensors({n: tensor([1], 0, 4) for n in "ab"}, b"1234"), "invalid offset"),
        (safetensors({"w": tensor([1], 0, 4)}, b"12345678"), "not fully covered"),
        (safetensors({}, b"1"), "not fully covered"),
        (safetensors({"__metadata__": 3, "w": tensor([1], 0, 4)}, b"1234"), "invalid JSON"),
    ],
)
def test_bad_weights_are_refused(run: Path, data: bytes, problem: str) -> None:
    (run / "model.safetensors").write_bytes(data)
    reseal(run)
    (found,) = say(run)
    assert problem in found
    assert "not safetensors" in found
    with pytest.raises(ValueError, match="not safetensors"):
        unpack(data)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_weights_cut_short_are_refused(run: Path, keep: float) -> None:
    data = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(data[: int(keep * len(data))])
    assert "was changed" in say(run)[0]
    reseal(run)
    assert say(run)


def test_weights_of_another_model_are_told(run: Path) -> None:
    expected = {"w": (3, 2), "b": (0,), "more": (1,)}
    assert [p.partition(": ")[2] for p in say(run, read=lambda f: f.weights(expected))] == [
        "tensor 'more' is missing",
        "tensor 'n' belongs to no part",
        "tensor 'w': shape (2, 3), but (3, 2) is needed",
    ]


# -------------------------------------------------------------------------- killed at any step


def test_a_killed_create_leaves_nothing_or_all(tmp_path: Path) -> None:
    for step in range(1, 100):
        run = tmp_path / str(step) / "run"
        run.parent.mkdir()

        def work(step: int = step, run: Path = run) -> None:
            die_before(step, run)
            create(run)

        ended = survives(work)
        if run.exists():
            assert RunFolder.open(run).config == CONFIG
            RunFolder.open(run, write=True).close()
        create(tmp_path / str(step) / "run2").close()
        if ended:
            break
    assert step > 10


@pytest.mark.parametrize("first", [True, False])
def test_a_killed_finish_leaves_the_old_model_or_the_new(tmp_path: Path, first: bool) -> None:
    origin = tmp_path / "origin"
    with create(origin) as folder:
        if not first:
            finish(folder, 1.0)
    seen = []
    for step in range(1, 100):
        run = tmp_path / str(step) / "run"
        shutil.copytree(origin, run)

        def work(step: int = step, run: Path = run) -> None:
            folder = RunFolder.open(run, write=True)
            die_before(step, run)
            finish(folder, 2.0)

        ended = survives(work)
        found = RunFolder.open(run)
        seen.append(found.metrics)
        before = values(found)
        if found.metrics == {"m": 2.0}:
            assert found.weights()["w"][0, 0] == 2.0
            assert parse_genotype(found.genotype_json) == ToyGenotype(name="v2.0")
        with RunFolder.open(run, write=True) as resumed:
            assert values(resumed) == before
            names = [p.name for p in run.iterdir()]
            assert not [n for n in names if n.startswith(".") and n != ".lock"], names
            assert values(RunFolder.open(run)) == before
            resumed.update_description(resumed=True)
            finish(resumed, 3.0)
        assert RunFolder.open(run).metrics == {"m": 3.0}
        if ended:
            break
    old = None if first else {"m": 1.0}
    switch = seen.index({"m": 2.0})
    assert seen == [old] * switch + [{"m": 2.0}] * (len(seen) - switch)
    assert switch > 8
    assert len(seen) - switch > 8


def test_a_killed_update_leaves_the_old_or_the_new(run: Path) -> None:
    seen = []
    for step in range(1, 20):

        def work(step: int = step) -> None:
            folder = RunFolder.open(run, write=True)
            die_before(step, run)
            folder.update_description(step=step)

        ended = survives(work)
        seen.append(RunFolder.open(run).description.get("step", 0))
        RunFolder.open(run, write=True).close()
        assert not list(run.glob(".*.tmp"))
        if ended:
            break
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] == len(seen)


def test_readers_see_one_model_while_it_is_replaced(run: Path) -> None:
    def work() -> None:
        with RunFolder.open(run, write=True) as folder:
            for value in range(40):
                finish(folder, float(value))

    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    seen = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        folder = RunFolder.open(run)
        assert folder.metrics is not None
        assert parse_genotype(folder.genotype_json) == ToyGenotype(name=f"v{folder.metrics['m']}")
        seen += 1
    assert seen > 0
    assert RunFolder.open(run).metrics == {"m": 39.0}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with create(tmp_path / "run") as folder:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomic(path, b"new")
        with pytest.raises(RunFolderError, match="No space"):
            finish(folder)
        with pytest.raises(RunFolderError, match="No space"):
            create(tmp_path / "other")
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "run"]
        assert not RunFolder.open(folder.path).has_model
        finish(folder, 2.0)
        assert RunFolder.open(folder.path).metrics == {"m": 2.0}


# -------------------------------------------------------------------------------- random edits


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], list[Any]]:
    run = tmp_path_factory.mktemp("whole") / "run"
    with create(run) as folder:
        finish(folder)
        folder.write_evaluation({"n": 3})
    files = {p.name: p.read_bytes() for p in run.iterdir()}
    return run, files, values(RunFolder.open(run))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_random_edits_are_told(
    whole: tuple[Path, dict[str, bytes], list[Any]], data: st.DataObject
) -> None:
    run, files, right = whole
    name = data.draw(st.sampled_from([*SEALED, "description.json"]))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(start + 8, len(content))))
        content[start:stop] = data.draw(st.binary(max_size=8))
    content = data.draw(st.sampled_from([content, bytearray(data.draw(st.binary(max_size=40)))]))
    try:
        (run / name).write_bytes(content)
        with suppress(RunFolderError):
            assert values(RunFolder.open(run)) == right
    finally:
        (run / name).write_bytes(files[name])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_content_breaks_the_reader(
    whole: tuple[Path, dict[str, bytes], list[Any]], data: st.DataObject
) -> None:
    """Even a folder with every seal made right is read, or refused in polymix's own words."""
    run, files, _ = whole
    name = data.draw(st.sampled_from([*SEALED, "evaluation.json"]))
    random = st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode())
    texts = json_values.map(lambda value: json.dumps(value).encode())
    yamls = json_values.map(lambda value: yaml.safe_dump(value).encode())
    headers = st.dictionaries(
        st.sampled_from(["w", "__metadata__"]),
        st.builds(tensor, json_values, json_values, json_values, json_values) | json_values,
    ).map(lambda header: safetensors(header, b"12345678"))
    content = data.draw(random | texts | yamls | headers)
    try:
        (run / name).write_bytes(content)
        reseal(run)
        with suppress(RunFolderError):
            values(RunFolder.open(run))
    finally:
        for changed in (name, "description.json"):
            (run / changed).write_bytes(files[changed])


@pytest.mark.parametrize("name", ["config.yaml", "schema.json", "genotype.json"])
@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe"])
def test_monstrous_texts_are_told(run: Path, name: str, deep: bytes) -> None:
    (run / name).write_bytes(deep)
    reseal(run)
    assert len(say(run)) == 1
    (run / "description.json").write_bytes(deep)
    assert any("description.json cannot be read" in problem for problem in say(run))
