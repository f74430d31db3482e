"""A run folder from elsewhere: what asks for more than there is is refused before it is made."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from polymix import Predictor
from polymix.data.schema import Kind, Modality
from polymix.errors import RunFolderError
from polymix.genotype import Block
from polymix.runs.explain import keep_only
from polymix.space.mix import MixGenotype
from polymix.store import integrity as seals
from polymix.store.files import sha256, to_json
from polymix.store.ledger import Ledger

from .common import dataset, run_folder

GENOTYPE = MixGenotype(
    encoders=(("photo", Block.of("mlp")), ("columns", Block.of("mlp"))), fusion="concat"
)


@pytest.fixture(name="run")
def _run(tmp_path):
    run_folder(tmp_path / "run", GENOTYPE, dataset("photo", "columns"))
    return tmp_path / "run"


def forge(run, name, data):
    """Put a file in place of a run's, every digest and seal made right."""
    (run / name).write_bytes(data)
    description = json.loads((run / "description.json").read_text())
    description["files"][name] = sha256(data)
    (run / "description.json").write_bytes(seals.sealed(description))


def refused(run):
    """What a prediction is refused with, in no time and without the memory asked for."""
    start, before = time.process_time(), peak()
    with pytest.raises(RunFolderError) as error:
        Predictor.load(run).predict_proba({"columns": np.zeros((1, 3), np.float32)})
    assert time.process_time() - start < 20
    assert peak() - before < 300_000_000
    return "\n".join(error.value.problems)


def peak():
    """Anonymous bytes this process has now."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def genotype(**options):
    block = Block.of("mlp", **options)
    encoders = (("photo", Block.of("mlp")), ("columns", block))
    return MixGenotype(encoders=encoders, fusion="concat").to_json()


def test_what_is_right_is_predicted(run):
    found = Predictor.load(run).predict_proba({"columns": np.zeros((2, 3), np.float32)})
    assert found.shape == (2, 3)


@pytest.mark.parametrize("channels", [10**9, 65])
def test_a_genotype_of_other_shapes_than_the_weights(run, channels):
    forge(run, "genotype.json", to_json(json.loads(genotype(channels=channels))))
    assert "model.safetensors: tensor 'encoders.columns" in refused(run)


def test_a_genotype_of_more_than_can_be_counted(run):
    forge(run, "genotype.json", to_json(json.loads(genotype(channels=10**12))))
    assert "genotype.json cannot be built" in refused(run)


def test_a_genotype_of_a_billion_layers(run):
    forge(run, "genotype.json", to_json(json.loads(genotype(layers=10**9))))
    assert "genotype.json asks for far more tensors than" in refused(run)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}, "not fully covered"),
        ({"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}, "overflow computing"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "is missing"),
    ],
)
def test_a_header_that_promises_too_much(run, entry, said):
    forge(run, "model.safetensors", safetensors({"w": entry}, b"1234"))
    found = refused(run)
    assert "model.safetensors: " in found
    assert said in found


def test_weights_with_room_that_no_tensor_fills(run):
    path = run / "model.safetensors"
    os.truncate(path, 10**9)  # sparse: it takes no disk
    forged = json.loads((run / "description.json").read_text())
    with path.open("rb") as file:
        forged["files"][path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    (run / "description.json").write_bytes(seals.sealed(forged))
    found = refused(run)
    assert "model.safetensors: not safetensors, or cut short" in found
    assert "file not fully covered" in found


@pytest.mark.parametrize("name", ["config.yaml", "genotype.json", "metrics.json", "schema.json"])
def test_a_text_that_is_too_long_is_not_read(run, name):
    os.truncate(run / name, 10**10)
    assert f"{name} has 10,000,000,000 bytes" in refused(run)


def test_a_row_that_no_memory_holds(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["schema"]["modalities"][0]["shape"] = [10**7, 10**7, 10**7]
    forge(run, "metrics.json", to_json(metrics))
    assert "numbers, and 134,217,728 are the most" in refused(run)
    with pytest.raises(ValueError, match="are the most"):
        Modality(name="a", kind=Kind.IMAGE, shape=(3, 10**5, 10**5), dtype="uint8")


def test_aliases_that_unfold_without_end(run):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    forge(run, "config.yaml", bomb.encode())
    assert "config.yaml cannot be read (it has YAML aliases)" in refused(run)


def test_a_pickle_a_link_and_a_torch_archive(run):
    torch.save({"w": torch.zeros(1)}, run / "more.bin")
    (run / "out").symlink_to("/etc")
    said = refused(run)
    assert "more.bin is a pickle or a torch archive" in said
    assert "out is a link" in said


def test_the_leaderboard_writes_nothing(run):
    Predictor.load(run).leaderboard_json()
    assert not (run / "ledger.sqlite").exists()
    Ledger.open(run / "ledger.sqlite").close()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert Predictor.load(run).leaderboard_json()["rows"] == []
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    assert before == {name: after[name] for name in before}


def test_predictions_are_the_same_after_a_copy(run, tmp_path):
    data = dataset("photo", "columns", rows=40, seed=3)
    predictor = Predictor.load(run)
    predictor.save(tmp_path / "copy")
    ours, theirs = (p.predict_proba(data) for p in (predictor, Predictor.load(tmp_path / "copy")))
    assert np.array_equal(ours, theirs)
    blind = predictor.predict_proba(keep_only(data, frozenset({"columns"})))
    black = predictor.predict_proba(
        {"photo": np.zeros_like(data.arrays["photo"]), "columns": data.arrays["columns"]},
        {"columns": data.present[:, 1]},
    )
    assert np.abs(blind - black).max(1).min() > 1e-4


def test_a_ledger_that_leads_outside(run, tmp_path):
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"ledger": url}
    forge(run, "config.yaml", yaml.safe_dump(config).encode())
    assert f"keeps its ledger outside of it, at {url}" in refused(run)
    assert not (tmp_path / "elsewhere.sqlite").exists()
    with pytest.raises(RunFolderError, match="outside"):
        Predictor.load(run, ledger="sqlite:///other")
    assert Predictor.load(run, ledger=url).path == run
