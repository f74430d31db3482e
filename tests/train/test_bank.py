"""The feature bank holds what the encoders give, once, and nothing of test or absent rows."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.data.batch import RowSource
from polymix.data.split import SealedRows, Split
from polymix.errors import DataError, PolymixWarning
from polymix.genotype import Block
from polymix.nn.build import build_seeded
from polymix.nn.tokens import Pool
from polymix.space.mix import MixGenotype
from polymix.testing import ToyGenotype, toy_dataset
from polymix.train.feature_bank import FeatureBank
from polymix.train.view_bank import ViewBank
from train.common import toy

CPU = torch.device("cpu")


class Opened(SealedRows):
    def open(self):
        raise AssertionError("the test rows were opened")


@pytest.fixture(scope="module")
def data():
    made = toy_dataset(150)
    for name, array in made.arrays.items():
        rows = made.split.test.open()
        array[rows] = np.nan if name != "image" else 255
    return replace(made, split=replace(made.split, test=Opened(made.split.test.open())))


def model_of(data, *features, pool=1):
    block = Block.of("mlp-mixer", channels=8, token_dim=4, channel_dim=8, blocks=2, dropout=0.5)
    genotype = ToyGenotype(
        encoders=tuple((name, block if name != "table" else Block.of("mlp", channels=8, layers=2))
                       for name in data.schema.names),
        features=features or (0,) * len(data.schema.names),
    )  # fmt: skip
    model = build_seeded(genotype, data.schema, 0)
    model.pool = None if pool is None else Pool(pool)
    return model


@pytest.mark.parametrize("pool", [1, 3, None])
def test_it_holds_what_the_encoders_give(data, tmp_path, pool):
    model = model_of(data, pool=pool)
    source = FeatureBank(tmp_path, data, CPU).source(model)
    rows = np.sort(np.concatenate([data.split.train, data.split.val]))
    banked = source.batch(rows)
    raw = RowSource(data, CPU).batch(rows)
    model.eval()
    with torch.no_grad():
        direct = model.encode(raw.inputs)
    assert torch.equal(banked.target, raw.target)
    assert torch.equal(banked.present, raw.present)
    for column, name in enumerate(data.schema.names):
        there = raw.present[:, column]
        for kept, fresh in zip(banked.inputs[name], direct[name], strict=True):
            x = fresh.x
            assert kept.x.dtype == torch.float32
            assert kept.grid == (fresh.grid if pool is None else None)
            assert pool is None or kept.x.shape[1] == pool
            torch.testing.assert_close(kept.x[there], x[there], rtol=2**-10, atol=1e-6)
            assert not kept.x[~there].any()


def test_a_second_call_computes_nothing(data, tmp_path, monkeypatch):
    model = model_of(data)
    bank = FeatureBank(tmp_path, data, CPU)
    bank.source(model)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == sum(len(w) for w in model.wants.values())
    monkeypatch.setattr(FeatureBank, "_extract", None)
    bank.source(model)
    model.choice.fill_(1)
    FeatureBank(tmp_path, data, CPU).source(model)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_only_what_is_missing_is_computed(data, tmp_path):
    model = model_of(data)
    bank = FeatureBank(tmp_path, data, CPU)
    model.wants = dict.fromkeys(model.wants, (1,))
    bank.source(model)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    model.wants = dict.fromkeys(model.wants, (0, 1, 1))
    source = bank.source(model)
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written
    batch = source.batch(data.split.val)
    for tokens in batch.inputs.values():
        assert torch.equal(tokens[1].x, tokens[2].x)


@pytest.mark.parametrize("change", ["weights", "version", "data", "split"])
def test_other_features_get_other_files(data, tmp_path, change, monkeypatch):
    model = model_of(data)
    FeatureBank(tmp_path, data, CPU).source(model)
    before = len(list(tmp_path.iterdir()))
    other = data
    if change == "weights":
        with torch.no_grad():
            for parameter in model.encoders.parameters():
                parameter.add_(1e-3)
    elif change == "version":
        from polymix.nn.encoders.mlp import MLPEncoder
        from polymix.nn.mixers.mlp_mixer import MLPMixer

        monkeypatch.setattr(MLPEncoder, "VERSION", 99)
        monkeypatch.setattr(MLPMixer, "VERSION", 99)
    elif change == "data":
        other = replace(data, fingerprint="another")
    else:
        other = replace(data, split=replace(data.split, train=data.split.train[1:]))
    FeatureBank(tmp_path, other, CPU).source(model)
    assert len(list(tmp_path.iterdir())) == 2 * before


def test_features_that_were_changed_are_computed_again(data, tmp_path):
    model = model_of(data)
    before = FeatureBank(tmp_path, data, CPU).source(model).batch(data.split.val)
    for path in tmp_path.glob("*.npy"):
        held = path.read_bytes()
        at = len(held) - 60
        path.write_bytes(held[:at] + bytes([held[at] ^ 4]) + held[at + 1 :])
        with pytest.warns(PolymixWarning, match="is not what was written: it is computed again"):
            again = FeatureBank(tmp_path, data, CPU).source(model).batch(data.split.val)
        assert path.read_bytes() == held
        for name, tokens in again.inputs.items():
            for one, other in zip(tokens, before.inputs[name], strict=True):
                assert torch.equal(one.x, other.x)


def test_fitted_views_that_were_changed_are_fitted_again(data, tmp_path):
    def fitted():
        bank = FeatureBank(tmp_path, data, CPU)
        views = ViewBank(tmp_path, data, CPU, bank)
        block = Block.of("series-kernels")
        genotype = TabularGenotype(views=(("series", block),), learner=Block.of("linear"))
        model = build_seeded(genotype, data.schema, 0)
        views.prepare(model)
        return model.encoders.state_dict()

    before = fitted()
    paths = list(tmp_path.glob("*.safetensors"))
    assert paths
    for path in paths:
        held = path.read_bytes()
        path.write_bytes(held[:-3] + bytes([held[-3] ^ 4]) + held[-2:])
        with pytest.warns(PolymixWarning, match="is not what was written: it is fitted again"):
            again = fitted()
        assert all(torch.equal(again[name], tensor) for name, tensor in before.items())
        assert path.read_bytes() == held


def test_test_rows_are_not_there(data, tmp_path):
    source = FeatureBank(tmp_path, data, CPU).source(model_of(data))
    (path,) = tmp_path.glob("series-*-0-1.npy")
    assert np.load(path).shape == (len(data.split.train) + len(data.split.val), 1, 8)
    assert np.isfinite(np.load(path)).all()
    outside = np.setdiff1d(np.arange(len(data)), np.r_[data.split.train, data.split.val])
    with pytest.raises(DataError, match="no test rows"):
        source.batch(outside[:1])


def test_a_failure_leaves_no_draft(data, tmp_path, monkeypatch):
    model = model_of(data)
    calls = []
    extract = type(model.encoders["series"]).features

    def features(self, x):
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("in the middle")
        return extract(self, x)

    monkeypatch.setattr("polymix.train.feature_bank.CHUNK", 20)
    monkeypatch.setattr(type(model.encoders["series"]), "features", features)
    with pytest.raises(KeyError):
        FeatureBank(tmp_path, data, CPU).source(model)
    assert not list(tmp_path.glob("series*"))
    assert not list(tmp_path.glob("*draft*"))


def test_chunks_do_not_matter(data, tmp_path, monkeypatch):
    model = model_of(data)
    rows = data.split.val
    whole = FeatureBank(tmp_path / "a", data, CPU).source(model).batch(rows)
    monkeypatch.setattr("polymix.train.feature_bank.CHUNK", 7)
    pieces = FeatureBank(tmp_path / "b", data, CPU).source(model).batch(rows)
    for name, tokens in whole.inputs.items():
        for a, b in zip(tokens, pieces.inputs[name], strict=True):
            torch.testing.assert_close(a.x, b.x, rtol=2**-10, atol=1e-5)


def test_a_modality_that_no_row_has(tmp_path):
    made = toy_dataset(60)
    made.present[:, 2] = False
    model = build_seeded(toy(0, 0, 0), made.schema, 0)
    with pytest.raises(DataError, match="no row has modality 'table'"):
        FeatureBank(tmp_path, made, CPU).source(model)


def test_no_modality_is_computed_that_a_model_does_not_read(data, tmp_path):
    model = build_seeded(MixGenotype.single("image", Block.of("mlp", channels=8)), data.schema, 0)
    FeatureBank(tmp_path, data, CPU).source(model)
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"image"}


class Killed(BaseException):
    pass


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr("polymix.train.feature_bank.CHUNK", 20)
    monkeypatch.setattr("polymix.train.resumable_arrays.EVERY", 0.0)


@pytest.mark.parametrize("process", [None, 2**22 + 1])
def test_a_killed_extraction_goes_on(data, tmp_path, monkeypatch, short_chunks, process):
    model, seen = model_of(data), []

    def stop(name, done, rows):
        seen.append((name, done))
        if name == "series" and done == 60:
            raise Killed

    with pytest.raises(Killed):
        FeatureBank(tmp_path, data, CPU, stop).source(model)
    notes = list(tmp_path.glob("series-*.note"))
    assert len(notes) == 1
    if process is not None:  # as if another process, now gone, had left them
        for path in [*tmp_path.glob("*.draft"), *notes]:
            *first, _, last = path.name.split(".")
            path.rename(path.with_name(".".join([*first, str(process), last])))
    resumed = []
    bank = FeatureBank(tmp_path, data, CPU, lambda name, done, rows: resumed.append((name, done)))
    again = bank.source(model)
    total = len(data.split.train) + len(data.split.val)
    assert [done for name, done in resumed if name == "series"] == [60, 80, 100, total]
    whole = FeatureBank(tmp_path / "whole", data, CPU).source(model)
    for name in data.schema.names:
        batches = (again.batch(data.split.train), whole.batch(data.split.train))
        for a, b in zip(*(batch.inputs[name] for batch in batches), strict=True):
            assert torch.equal(a.x, b.x)
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".npy"}


def test_what_a_living_process_writes_is_left_alone(data, tmp_path, short_chunks):
    model = model_of(data)

    def stop(name, done, rows):
        if done == 60:
            raise Killed

    with pytest.raises(Killed):
        FeatureBank(tmp_path, data, CPU, stop).source(model)
    for path in [*tmp_path.glob("*.draft"), *tmp_path.glob("*.note")]:
        *first, _, last = path.name.split(".")
        path.rename(path.with_name(".".join([*first, "1", last])))  # the first process always lives
    left = {path.name for path in tmp_path.iterdir() if ".1." in path.name}
    assert left
    FeatureBank(tmp_path, data, CPU).source(model)
    assert left <= {path.name for path in tmp_path.iterdir()}


def test_spoilt_notes_are_of_no_use(data, tmp_path, short_chunks):
    model = model_of(data)
    gone = 2**22 + 1
    (tmp_path / "whole").mkdir()
    FeatureBank(tmp_path / "whole", data, CPU).source(model)
    for path in (tmp_path / "whole").glob("*.npy"):
        (tmp_path / f"{path.stem}.{gone}.note").write_text("{no json")
        (tmp_path / f"{path.stem}.{gone}.draft").write_bytes(b"no array")
    source = FeatureBank(tmp_path, data, CPU).source(model)
    assert source.batch(data.split.val)
    assert not [*tmp_path.glob("*.note"), *tmp_path.glob("*.draft")]


def test_a_full_disk_is_a_clear_error(data, tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(DataError, match=r"could not be written: .* needed.*Free some space"):
        FeatureBank(tmp_path, data, CPU).source(model_of(data))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "create_array"])
def test_a_disk_that_others_fill_meanwhile_is_a_clear_error(data, tmp_path, monkeypatch, call):
    """What was free when it was asked for is not when it is taken."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    where = (
        "os.posix_fallocate"
        if call == "posix_fallocate"
        else "polymix.train.resumable_arrays.create_array"
    )
    monkeypatch.setattr(where, full)
    with pytest.raises(DataError, match=r"could not be written: .*No space left.*Free some space"):
        FeatureBank(tmp_path, data, CPU).source(model_of(data))
    assert not list(tmp_path.iterdir())


SLOW = """
import sys, time
from pathlib import Path
import torch
from polymix.genotype import Block
from polymix.nn.build import build_seeded
from polymix.nn.tokens import Pool
from polymix.testing import ToyGenotype, toy_dataset
from polymix.train import feature_bank, resumable_arrays

feature_bank.CHUNK, resumable_arrays.EVERY = 10, 0.0
data = toy_dataset(150, ("series",))
block = Block.of("mlp-mixer", channels=8, token_dim=4, channel_dim=8, blocks=2)
model = build_seeded(
    ToyGenotype(encoders=(("series", block),), features=(0,)), data.schema, 0
)
model.pool = Pool(1)
done = []
def tell(name, rows, whole):
    done.append(rows)
    time.sleep(float(sys.argv[2]) if rows >= 40 else 0)
source = feature_bank.FeatureBank(Path(sys.argv[1]), data, torch.device("cpu"), tell).source(model)
total = sum(float(t.x.sum()) for t in source.batch(data.split.train).inputs["series"])
print(done[0], total)
"""


def test_an_extraction_that_was_really_killed_goes_on(tmp_path):
    def begin(folder, pause):
        command = [sys.executable, "-c", SLOW, str(folder), str(pause)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    first = begin(tmp_path / "bank", 600)
    try:
        deadline = time.monotonic() + 120
        while not any('"rows": 40' in p.read_text() for p in (tmp_path / "bank").glob("*.note")):
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        first.kill()
        first.communicate()
    assert first.returncode == -signal.SIGKILL
    begun, total = begin(tmp_path / "bank", 0).communicate()[0].split()
    assert begun == "40"
    again = begin(tmp_path / "whole", 0).communicate()[0].split()
    assert again == ["0", total]
    assert {path.suffix for path in (tmp_path / "bank").iterdir()} == {".npy"}


@pytest.mark.parametrize("sealed", [0, 20])
def test_sealed_rows_of_which_none_has_a_viewed_modality(sealed, tmp_path):
    data = toy_dataset(80, ("series", "table"), absent=0.0)
    rows, present = np.arange(80), data.present.copy()
    present[60 : 60 + sealed, data.schema.index("table")] = False
    split = Split(rows[:40], rows[40:60], SealedRows(rows[60 : 60 + sealed]))
    data = replace(data, present=present, split=split)
    genotype = TabularGenotype(views=(("table", Block.of("codes")),), learner=Block.of("linear"))
    model = build_seeded(genotype, data.schema, 0)
    views = ViewBank(tmp_path, data, CPU, FeatureBank(tmp_path, data, CPU))
    views.prepare(model)
    source = views.source(model, sealed=True)
    batch = source.batch(rows[: 60 + sealed])
    (found,) = batch.inputs["table"]
    alone = views.source(model).batch(rows[:60]).inputs["table"][0].x
    torch.testing.assert_close(found.x[:60], alone, rtol=0, atol=0)
    assert found.x.shape == (60 + sealed, *alone.shape[1:])
    assert not found.x[60:].any()
