from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from polymix.data.arrays import create_array
from polymix.data.dataset import Dataset, DatasetWriter
from polymix.data.folder import write_about
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.errors import DataError


@pytest.fixture
def written(tmp_path, schema, arrays, targets, codes):
    path = tmp_path / "toy"
    with DatasetWriter(path, "toy", schema, len(targets), {"seed": 3}) as writer:
        for name, array in arrays.items():
            writer.arrays[name][:] = array
        writer.targets[:] = targets
        writer.codes[:] = codes
        writer.present[5, 1] = False
    return path


def test_what_was_written_is_opened(written, arrays, targets, schema):
    dataset = Dataset.open(written)
    assert len(dataset) == len(targets)
    assert (dataset.name, dataset.path) == ("toy", written)
    for name, array in arrays.items():
        assert np.array_equal(dataset.arrays[name], array)
        assert isinstance(dataset.arrays[name], np.memmap)
    assert np.array_equal(dataset.targets, targets)
    assert np.argwhere(~dataset.present).tolist() == [[5, 1]]
    assert [len(rows) for rows in (dataset.split.train, dataset.split.val)] == [20, 10]
    assert [m.optional for m in dataset.schema.modalities] == [False, True, False]
    assert schema.names == dataset.schema.names


def test_a_dataset_in_memory_is_the_same_as_on_disk(written, schema, arrays, targets, codes):
    present = np.ones((len(targets), 3), bool)
    present[5, 1] = False
    memory = Dataset.from_arrays("toy", schema, arrays, targets, codes, present)
    disk = Dataset.open(written)
    assert memory.schema == disk.schema
    assert memory.fingerprint == disk.fingerprint
    assert memory.split.fingerprint == disk.split.fingerprint


def test_statistics_are_those_of_the_training_rows_that_have_it(written, arrays):
    schema = Dataset.open(written).schema
    image = arrays["image"][:20].astype(np.float64)
    assert schema["image"].statistics.mean == pytest.approx(image.mean((0, 2, 3)))
    assert schema["image"].statistics.std == pytest.approx(image.std((0, 2, 3)))
    series = np.delete(arrays["series"][:20], 5, 0).astype(np.float64)
    assert schema["series"].statistics.mean == pytest.approx(series.mean((0, 1)))
    assert schema["series"].statistics.std == pytest.approx(series.std((0, 1)), rel=1e-6)
    assert schema["words"].statistics is None


def test_a_column_that_never_changes_is_divided_by_one(codes):
    schema = Schema(
        modalities=(Modality(name="t", kind=Kind.TABULAR, shape=(2,), dtype="float64"),),
        target=Target(name="y", task=Task.REGRESSION),
    )
    table = np.stack([np.full(40, 1e6), np.arange(40.0)], 1)
    dataset = Dataset.from_arrays("t", schema, {"t": table}, np.full(40, 3.0), codes)
    assert dataset.schema["t"].statistics.std[0] == 1.0
    assert dataset.schema["t"].statistics.std[1] == pytest.approx(np.arange(20).std())
    assert dataset.schema.target.statistics.mean == (3.0,)
    assert dataset.schema.target.statistics.std == (1.0,)


def test_a_regression_target_has_statistics_of_the_training_rows(codes):
    schema = Schema(
        modalities=(Modality(name="t", kind=Kind.TABULAR, shape=(1,), dtype="float32"),),
        target=Target(name="y", task=Task.REGRESSION),
    )
    values = np.arange(40, dtype=np.float64) ** 2
    dataset = Dataset.from_arrays("t", schema, {"t": np.zeros((40, 1), "f4")}, values, codes)
    assert dataset.targets.dtype == np.float64
    fitted = dataset.schema.target.statistics
    assert fitted.mean == pytest.approx([values[:20].mean()])
    assert fitted.std == pytest.approx([values[:20].std()])


def test_a_modality_that_no_training_row_has(schema, arrays, targets, codes):
    present = np.ones((40, 3), bool)
    present[:20, 0] = False
    dataset = Dataset.from_arrays("toy", schema, arrays, targets, codes, present)
    assert dataset.schema["image"].statistics is None
    assert dataset.schema["image"].optional


def test_every_byte_is_in_the_fingerprint(schema, arrays, targets, codes):
    def fingerprint() -> str:
        return Dataset.from_arrays("toy", schema, arrays, targets, codes).fingerprint

    before = fingerprint()
    assert fingerprint() == before
    arrays["words"][39, 6] += 1
    assert fingerprint() != before


def test_all_that_disagrees_is_told_at_once(schema, arrays, targets, codes):
    del arrays["image"]
    arrays["series"] = arrays["series"][:, :5]
    arrays["words"] = arrays["words"].astype(np.int64)
    with pytest.raises(DataError) as error:
        Dataset.from_arrays("toy", schema, arrays, targets, codes, np.ones((3, 3), bool))
    said = "\n".join(error.value.problems)
    assert len(error.value.problems) == 4
    for part in ("'image': no array", "'series': the schema says", "'words'", "present: "):
        assert part in said


def test_targets_of_another_shape(schema, arrays, targets, codes):
    with pytest.raises(DataError, match="target: "):
        Dataset.from_arrays("toy", schema, arrays, targets[:, None], codes)


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_class_that_the_schema_does_not_have(schema, arrays, targets, codes, wrong):
    targets[7] = wrong
    with pytest.raises(DataError, match=f"target 'label': row 7 holds {wrong}"):
        Dataset.from_arrays("toy", schema, arrays, targets, codes)


def test_codes_of_another_length(schema, arrays, targets, codes):
    with pytest.raises(DataError, match="split: "):
        Dataset.from_arrays("toy", schema, arrays, targets, codes[:-1])


def test_numbers_that_are_none(schema, arrays, targets, codes):
    arrays["series"][3, 0, 1] = np.nan
    with pytest.raises(DataError, match="modality 'series': row 3"):
        Dataset.from_arrays("toy", schema, arrays, targets, codes)


def test_a_padded_token_is_there_or_not(codes):
    x = Modality(name="x", kind=Kind.FEATURES, shape=(2, 3), dtype="float32", padded=True)
    schema = Schema(modalities=(x,), target=Target(name="y", task=Task.REGRESSION))
    array = np.ones((40, 2, 3), np.float32)
    targets = np.arange(40, dtype=np.float32)
    Dataset.from_arrays("toy", schema, {"x": array}, targets, codes)
    array[7, 1, 0] = 0.5
    with pytest.raises(DataError, match=r"'x': row 7 holds 0.5: the first column is 1 for a token"):
        Dataset.from_arrays("toy", schema, {"x": array}, targets, codes)


def test_numbers_that_are_none_are_no_matter_where_the_modality_is_absent(
    schema, arrays, targets, codes
):
    arrays["series"][3] = np.nan
    present = np.ones((40, 3), bool)
    present[3, 1] = False
    dataset = Dataset.from_arrays("toy", schema, arrays, targets, codes, present)
    statistics = dataset.schema["series"].statistics
    assert np.isfinite(statistics.mean).all()
    assert np.isfinite(statistics.std).all()


@pytest.mark.parametrize(
    ("task", "wrong"), [("multiclass", 0.5), ("multilabel", 2), ("regression", np.inf)]
)
def test_targets_that_are_none(task, wrong, codes):
    labels = task == "multilabel"
    schema = Schema(
        modalities=(Modality(name="t", kind=Kind.TABULAR, shape=(1,), dtype="float32"),),
        target=Target(name="y", task=task, classes=() if task == "regression" else ("a", "b")),
    )
    targets = np.zeros((40, 2) if labels else 40)
    targets[11] = wrong
    with pytest.raises(DataError, match="target 'y': row 11"):
        Dataset.from_arrays("t", schema, {"t": np.zeros((40, 1), "f4")}, targets, codes)


def test_numbers_too_large_for_a_model(schema, arrays, targets, codes):
    wide = schema["series"].model_copy(update={"dtype": "float64"})
    schema = schema.model_copy(update={"modalities": (wide,)})
    series = arrays["series"].astype(np.float64)
    series[21, 3, 0] = -1e39
    with pytest.raises(DataError, match="modality 'series': row 21 holds -1e"):
        Dataset.from_arrays("toy", schema, {"series": series}, targets, codes)


def test_presence_is_yes_or_no(schema, arrays, targets, codes):
    with pytest.raises(DataError, match=r"bool expected, but got .* int64"):
        Dataset.from_arrays("toy", schema, arrays, targets, codes, np.ones((40, 3), np.int64))


@pytest.mark.parametrize("wrong", [50, -1])
def test_a_token_outside_the_vocabulary(schema, arrays, targets, codes, wrong):
    arrays["words"][9, 2] = wrong
    with pytest.raises(DataError, match="modality 'words': row 9"):
        Dataset.from_arrays("toy", schema, arrays, targets, codes)


class TestOpening:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(DataError, match="is not a dataset"):
            Dataset.open(tmp_path / "none")

    @pytest.mark.parametrize("text", ["", "[]", "3", "{", "null", "\x00"])
    def test_about_is_no_object(self, written, text):
        (written / "dataset.json").write_text(text)
        with pytest.raises(DataError, match=r"dataset"):
            Dataset.open(written)

    @pytest.mark.parametrize("missing", ["name", "rows", "fingerprint", "files", "seal"])
    def test_about_lacks_something(self, written, missing):
        about = json.loads((written / "dataset.json").read_text())
        del about[missing]
        (written / "dataset.json").write_text(json.dumps(about))
        with pytest.raises(DataError, match="was changed" if missing == "seal" else missing):
            Dataset.open(written)

    def test_a_newer_format(self, written):
        about = json.loads((written / "dataset.json").read_text())
        (written / "dataset.json").write_text(json.dumps(about | {"format": 99}))
        with pytest.raises(DataError, match="format 99, this version reads 2: build it again"):
            Dataset.open(written)

    def test_the_schema_is_missing(self, written):
        (written / "schema.json").unlink()
        with pytest.raises(DataError, match=r"schema\.json"):
            Dataset.open(written)

    def test_every_broken_array_is_listed(self, written):
        (written / "image.npy").unlink()
        (written / "series.npy").write_bytes((written / "series.npy").read_bytes()[:-8])
        np.save(written / "words.npy", np.zeros((40, 7), np.int64))
        with pytest.raises(DataError) as error:
            Dataset.open(written)
        said = "\n".join(error.value.problems)
        for name in ("image.npy", "series.npy", "words.npy"):
            assert name in said

    def test_a_pickled_array_is_never_loaded(self, written, tmp_path):
        from cli_support import Canary

        canary = tmp_path / "sang"
        np.save(written / "words.npy", np.array([Canary(canary)], object), allow_pickle=True)
        with pytest.raises(DataError, match="words"):
            Dataset.open(written)
        assert not canary.exists()

    @given(data=st.data())
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_byte_that_was_changed_is_never_believed(self, written, data):
        file = data.draw(st.sampled_from(sorted(written.iterdir())))
        before = file.read_bytes()
        place = data.draw(st.integers(0, len(before) - 1))
        other = before[place] ^ data.draw(st.integers(1, 255))
        after = before[:place] + bytes([other]) + before[place + 1 :]
        if file.suffix == ".json":
            with contextlib.suppress(ValueError):
                # Of a JSON file's own spaces, one is as good as another, in `dataset.json`.
                same = file.name == "dataset.json" and json.loads(after) == json.loads(before)
                assume(not same)
        try:
            file.write_bytes(after)
            with pytest.raises(DataError, match=re.escape(str(written))):
                Dataset.open(written)
        finally:
            file.write_bytes(before)
        assert len(Dataset.open(written)) == 40

    def test_split_codes_that_change_places(self, written):
        codes = np.load(written / "split.npy")
        np.save(written / "split.npy", np.roll(codes, 7))
        with pytest.raises(DataError, match=r"split\.npy is not what was written"):
            Dataset.open(written)

    def test_a_file_is_read_for_its_digest_once_a_process(self, written, monkeypatch):
        Dataset.open(written)
        monkeypatch.setattr("hashlib.file_digest", None)
        Dataset.open(written)

    def test_digests_of_files_elsewhere(self, written):
        about = json.loads((written / "dataset.json").read_text())
        write_about(written, about | {"files": {"../../secret": "0" * 64}})
        with pytest.raises(DataError, match="names files outside of its folder"):
            Dataset.open(written)

    def test_a_pipe_is_not_waited_for(self, written):
        (written / "present.npy").unlink()
        os.mkfifo(written / "present.npy")
        with pytest.raises(DataError, match=r"present\.npy cannot be read: it is no plain file"):
            Dataset.open(written)

    def test_the_files_are_never_changed(self, written):
        before = (written / "image.npy").read_bytes()
        Dataset.open(written).arrays["image"][:] = 0
        assert (written / "image.npy").read_bytes() == before


class TestWriting:
    def test_a_failure_leaves_nothing(self, tmp_path, schema):
        def fail(writer: DatasetWriter) -> None:
            writer.targets[:] = 1
            raise RuntimeError

        writing = DatasetWriter(tmp_path / "toy", "toy", schema, 10)
        with pytest.raises(RuntimeError), writing as writer:
            fail(writer)
        assert not list(tmp_path.iterdir())

    def test_rows_that_cannot_be_leave_nothing(self, tmp_path, schema):
        with (
            pytest.raises(DataError, match=r"target 'label': row 3 holds 9: classes are 0\.\.1"),
            DatasetWriter(tmp_path / "toy", "toy", schema, 10) as writer,
        ):
            writer.codes[:], writer.targets[3] = np.arange(10) % 3, 9
        assert not list(tmp_path.iterdir())

    def test_a_split_that_is_none_leaves_nothing(self, tmp_path, schema):
        with (
            pytest.raises(DataError, match="needs training and validation rows"),
            DatasetWriter(tmp_path / "toy", "toy", schema, 10),
        ):
            pass
        assert not list(tmp_path.iterdir())

    def test_a_place_that_is_taken(self, written, schema):
        before = sorted(p.name for p in written.parent.iterdir())
        with pytest.raises(DataError, match="exists"):
            DatasetWriter(written, "toy", schema, 10)
        assert sorted(p.name for p in written.parent.iterdir()) == before

    def test_a_disk_that_is_too_full(self, tmp_path, schema, monkeypatch):
        usage = shutil._ntuple_diskusage(100, 90, 10)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(DataError, match="but its disk has 10: free some"):
            DatasetWriter(tmp_path / "toy", "toy", schema, 10)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("array", range(6))
    def test_a_disk_that_fills_as_room_is_taken(self, tmp_path, schema, monkeypatch, array):
        made = []

        def fill(path, dtype, shape):
            if len(made) == array:
                raise OSError(errno.ENOSPC, "No space left on device")
            made.append(path)
            return create_array(path, dtype, shape)

        monkeypatch.setattr("polymix.data.dataset.create_array", fill)
        with pytest.raises(DataError, match=r"could not have them \(No space left on device\)"):
            DatasetWriter(tmp_path / "toy", "toy", schema, 10)
        assert not list(tmp_path.iterdir())

    def test_settings_are_kept(self, written):
        assert json.loads((written / "dataset.json").read_text())["settings"] == {"seed": 3}


class TestFewerRows:
    def test_only_training_rows_are_cut(self, written):
        whole = Dataset.open(written)
        part = whole.with_train_rows(8, seed=0)
        assert len(part.split.train) == 8
        assert np.isin(part.split.train, whole.split.train).all()
        assert part.split.val is whole.split.val
        assert part.split.test is whole.split.test
        assert part.fingerprint == whole.fingerprint
        assert part.split.fingerprint != whole.split.fingerprint

    def test_the_statistics_are_of_the_rows_that_stay(self, written, arrays):
        part = Dataset.open(written).with_train_rows(8, seed=0)
        here = arrays["image"][part.split.train].astype(np.float64)
        assert part.schema["image"].statistics.mean == pytest.approx(here.mean((0, 2, 3)))

    def test_the_same_seed_keeps_the_same_rows(self, written):
        whole = Dataset.open(written)
        rows = [whole.with_train_rows(8, seed).split.train.tolist() for seed in (0, 0, 1)]
        assert rows[0] == rows[1] != rows[2]

    def test_all_rows_are_the_same_data(self, written):
        whole = Dataset.open(written)
        assert whole.with_train_rows(20, seed=0) is whole

    def test_more_rows_than_there_are(self, written):
        with pytest.raises(DataError, match="--rows 21: 'toy' has 20 training rows"):
            Dataset.open(written).with_train_rows(21, seed=0)
