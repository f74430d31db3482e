from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from datasets.papers import write_films, write_hdf5
from polymix.data.schema import Kind, Task
from polymix.datasets import open_dataset
from polymix.datasets.mmimdb.builder import GENRES, MmImdb
from polymix.datasets.mmimdb.hdf5 import SIZES, split_codes
from polymix.errors import DataError, MissingExtraError, UsageError
from polymix.tables.texts import TextTokenizer

FOLDER = {"form": "folder", "height": 24, "width": 16, "length": 32, "vocabulary": 200}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_hdf5(tmp_path / "raw")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_films(tmp_path / "films")


def test_features(raw: Path) -> None:
    dataset = open_dataset("mmimdb", raw=raw)
    schema = dataset.schema
    assert schema.target.task is Task.MULTILABEL
    assert schema.target.classes == GENRES
    assert [(m.kind, m.shape, m.dtype) for m in schema.modalities] == [
        (Kind.FEATURES, (4096,), "float32"),
        (Kind.FEATURES, (300,), "float32"),
    ]
    with h5py.File(raw / "multimodal_imdb.hdf5") as file:
        np.testing.assert_array_equal(dataset.targets, file["genres"][:])
        np.testing.assert_array_equal(dataset.arrays["image"], file["vgg_features"][:])
        rest = np.arange(100) != 1
        np.testing.assert_array_equal(dataset.arrays["text"][rest], file["features"][:][rest])
    # No word known to word2vec: absent, not silently zero.
    assert dataset.present[:, 0].all()
    assert np.flatnonzero(~dataset.present[:, 1]).tolist() == [1]
    assert schema["text"].optional
    assert [len(dataset.split.train), len(dataset.split.val), len(dataset.split.test)] == [
        60, 20, 20
    ]  # fmt: skip
    assert dataset.split.train.tolist() == list(range(60))
    assert dataset.split.val.tolist() == list(range(60, 80))


def test_images(raw: Path) -> None:
    options = {"form": "images", "height": 16, "width": 10}
    dataset = open_dataset("mmimdb", raw=raw, options=options)
    image = dataset.schema["image"]
    assert (image.kind, image.shape, image.dtype) == (Kind.IMAGE, (3, 16, 10), "uint8")
    with h5py.File(raw / "multimodal_imdb.hdf5") as file:
        means = file["images"][:].reshape(100, 3, 16, 2, 10, 2).mean((3, 5))
    assert np.abs(dataset.arrays["image"] - means).max() <= 1


def test_the_known_split_and_names_where_the_file_says_none(raw: Path) -> None:
    with h5py.File(raw / "multimodal_imdb.hdf5", "a") as file:
        del file.attrs["split"], file["genres"].attrs["target_names"]
    with pytest.raises(DataError, match="100 rows and does not say how they are split"):
        open_dataset("mmimdb", raw=raw)
    with h5py.File(raw / "big.hdf5", "w") as file:
        file["genres"] = np.zeros((sum(SIZES), 23), np.int8)
        codes = split_codes(file["genres"], raw)
    assert np.bincount(codes).tolist() == [15_552, 2_608, 7_799]
    assert (np.diff(codes.astype(int)) >= 0).all()


def test_only_what_is_used_decides(raw: Path) -> None:
    first = open_dataset("mmimdb", raw=raw)
    with h5py.File(raw / "multimodal_imdb.hdf5", "a") as file:
        file["images"][0] = 0
        file["more"] = [1]
    assert open_dataset("mmimdb", raw=raw).path == first.path
    with h5py.File(raw / "multimodal_imdb.hdf5", "a") as file:
        file["vgg_features"][0, 0] = 7
    assert open_dataset("mmimdb", raw=raw).path != first.path


def test_the_folder(films: Path) -> None:
    dataset = open_dataset("mmimdb", raw=films, options=FOLDER)
    image, text = dataset.schema.modalities
    assert (image.kind, image.shape, image.dtype) == (Kind.IMAGE, (3, 24, 16), "uint8")
    assert (text.kind, text.shape, text.dtype) == (Kind.TEXT, (32,), "int32")
    assert text.vocabulary is not None
    ids = dataset.arrays["text"]
    assert ids.min() >= 0
    assert ids.max() < text.vocabulary <= 200
    assert dataset.present.all()
    split = json.loads((films / "split.json").read_text())
    assert [len(dataset.split.train), len(dataset.split.val), len(dataset.split.test)] == [
        30, 10, 10
    ]  # fmt: skip
    for row, name in enumerate([*split["train"], *split["dev"], *split["test"]]):
        genres = json.loads((films / "dataset" / f"{name}.json").read_text())["genres"]
        named = {GENRES[k] for k in np.flatnonzero(dataset.targets[row])}
        assert named == set(genres) - {"Talk-Show"}


def test_a_poster_is_cut_not_squeezed(films: Path) -> None:
    name = json.loads((films / "split.json").read_text())["train"][0]
    pixels = np.zeros((240, 800, 3), np.uint8)
    pixels[:, 320:480, 1] = 255  # the middle, of the proportions that are asked for, is green
    Image.fromarray(pixels).save(films / "dataset" / f"{name}.jpeg", "JPEG", quality=95)
    poster = open_dataset("mmimdb", raw=films, options=FOLDER).arrays["image"][0].astype(int)
    assert poster[1, :, 2:-2].min() > 200
    assert poster[[0, 2]][:, :, 2:-2].max() < 60


def test_plots_that_are_empty_are_absent(films: Path) -> None:
    split = json.loads((films / "split.json").read_text())
    for name, facts in (
        (split["train"][0], {"plot": [], "genres": ["War"]}),
        (split["dev"][0], {}),
    ):
        (films / "dataset" / f"{name}.json").write_text(json.dumps(facts))
    dataset = open_dataset("mmimdb", raw=films, options=FOLDER)
    assert np.flatnonzero(~dataset.present[:, 1]).tolist() == [0, 30]
    assert not dataset.targets[30].any()


def test_tokens_are_learned_from_training_plots_alone(films: Path) -> None:
    first = open_dataset("mmimdb", raw=films, options=FOLDER)
    split = json.loads((films / "split.json").read_text())
    for name in (*split["dev"], *split["test"]):
        facts = {"plot": ["zzyzx Ω " * 30], "genres": ["War"]}
        (films / "dataset" / f"{name}.json").write_text(json.dumps(facts))
    second = open_dataset("mmimdb", raw=films, options=FOLDER)
    assert second.path != first.path
    train = first.split.train
    np.testing.assert_array_equal(second.arrays["text"][train], first.arrays["text"][train])
    assert (second.arrays["text"][first.split.val] == 1).any()  # Ω was never seen


def test_the_same_tokens_in_another_process() -> None:
    script = (
        "import hashlib, random\n"
        "from polymix.tables.texts import TextTokenizer\n"
        "draw = random.Random(3)\n"
        "words = [''.join(draw.choices('abcdefgh', k=draw.randint(2, 7))) for _ in range(300)]\n"
        "texts = [' '.join(draw.choices(words, k=40)) for _ in range(200)]\n"
        "ids = TextTokenizer(texts, 400)(texts, 50)\n"
        "print(hashlib.sha256(ids.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", script]
    said = {subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(said) == 1
    tokens = TextTokenizer(["Ab ab AB cd cd"], 100)
    assert tokens(["ab", "ab cd ab", ""], 2).tolist()[2] == [0, 0]
    assert (tokens(["ab"], 2)[0] == tokens(["AB"], 2)[0]).all()


def edit_split(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    split = json.loads((folder / "split.json").read_text())
    (folder / "split.json").write_text(json.dumps(change(split)))


def some(folder: Path, suffix: str) -> Path:
    return sorted((folder / "dataset").glob(f"*.{suffix}"))[0]


FILM_FAULTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no split": (lambda f: (f / "split.json").unlink(), ("split.json cannot be read",)),
    "split is no JSON": (lambda f: (f / "split.json").write_text("{"), ("split.json cannot",)),
    "split is a list": (lambda f: edit_split(f, lambda s: [1]), ("'train'", "'dev'", "'test'")),
    "a way out": (
        lambda f: edit_split(f, lambda s: {**s, "dev": ["../../etc/passwd"]}),
        ("'../../etc/passwd' is no film's number",),
    ),
    "twice": (lambda f: edit_split(f, lambda s: {**s, "dev": s["train"][:1]}), ("listed twice",)),
    "missing files": (
        lambda f: [some(f, "json").unlink(), some(f, "jpeg").unlink()],
        ("json is missing", "jpeg is missing"),
    ),
    "no JSON": (lambda f: some(f, "json").write_text("x"), ("json cannot be read",)),
    "a plot that is no text": (
        lambda f: some(f, "json").write_text('{"plot": [1]}'),
        ("its 'plot' is no list of texts",),
    ),
    "no facts": (lambda f: some(f, "json").write_text("[]"), ("no facts",)),
    "no picture": (lambda f: some(f, "jpeg").write_text("x"), ("cannot be read as a picture",)),
    "a cut picture": (
        lambda f: some(f, "jpeg").write_bytes(some(f, "jpeg").read_bytes()[:900]),
        ("cannot be read as a picture",),
    ),
    "a huge picture": (
        lambda f: Image.new("1", (9000, 9000)).save(some(f, "jpeg"), "PNG"),
        ("9000 x 9000 pixels, too many",),
    ),
}


@pytest.mark.parametrize("fault", FILM_FAULTS)
def test_each_fault_of_the_folder_is_one_clear_error(films: Path, fault: str, cache: Path) -> None:
    damage, says = FILM_FAULTS[fault]
    damage(films)
    with pytest.raises(DataError) as caught:
        open_dataset("mmimdb", raw=films, options=FOLDER)
    for words in says:
        assert words in str(caught.value)
    assert not (cache / "mmimdb").exists()


def rewrite(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with h5py.File(folder / "multimodal_imdb.hdf5", "a") as file:
            new = change(file[name][:])
            del file[name]
            if new is not None:
                file[name] = new

    return damage


def attribute(value: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with h5py.File(folder / "multimodal_imdb.hdf5", "a") as file:
            file["genres"].attrs["target_names"] = value

    return damage


def cut(folder: Path) -> None:
    path = folder / "multimodal_imdb.hdf5"
    path.write_bytes(path.read_bytes()[:100_000])


HDF5_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "cannot be read as HDF5"),
    "no features": (rewrite("features", lambda a: None), "no array 'features': it has genres"),
    "another width": (rewrite("features", lambda a: a[:, :9]), r"not numbers of shape \(N, 300\)"),
    "other rows": (rewrite("genres", lambda a: a[:9]), "differ in rows"),
    "texts": (rewrite("genres", lambda a: np.full(a.shape, b"x")), "not numbers"),
    "other genres": (rewrite("genres", lambda a: a[:, :5]), "does not say|the names"),
    "names that are no JSON": (attribute("x"), "names cannot be read"),
    "few names": (attribute('["War"]'), "23 columns of genres, but the names War"),
}


@pytest.mark.parametrize("fault", HDF5_FAULTS)
def test_each_fault_of_the_file_is_one_clear_error(raw: Path, fault: str, cache: Path) -> None:
    damage, says = HDF5_FAULTS[fault]
    damage(raw)
    with pytest.raises(DataError, match=says) as caught:
        open_dataset("mmimdb", raw=raw)
    assert "multimodal_imdb.hdf5" in str(caught.value)
    assert not (cache / "mmimdb").exists()


def test_what_cannot_be_asked_for(films: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'folder'") as caught:
        MmImdb(seed=1, form="folders", height=0, vocabulary=3)
    assert len(caught.value.problems) == 4
    with pytest.raises(DataError, match=r"hdf5 is missing.*form=folder"):
        open_dataset("mmimdb", raw=films)
    with pytest.raises(DataError, match=r"hdf5 is missing: download"):
        open_dataset("mmimdb", raw=tmp_path)
    with pytest.raises(UsageError, match="--raw DIR"):
        open_dataset("mmimdb")


@pytest.mark.parametrize(
    ("package", "form", "extra"),
    [
        ("h5py", "features", "mmimdb"),
        ("PIL", "folder", "image"),
        ("tokenizers", "folder", "tables"),
    ],
)
def test_without_its_packages(
    package: str, form: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_films(write_hdf5(tmp_path / "both"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "polymix\[{extra}\]"'):
        open_dataset("mmimdb", raw=raw, options={"form": form})
