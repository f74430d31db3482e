"""MM-IMDB's file `multimodal_imdb.hdf5`, as its authors made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from polymix.data.split import TEST, TRAIN, VAL
from polymix.errors import DataError, MissingExtraError

FILE = "multimodal_imdb.hdf5"
WIDTHS = {"features": (300,), "vgg_features": (4096,), "images": (3, None, None)}
SIZES = (15_552, 2_608, 7_799)
CHUNK = 256
WIDEST, MOST = 1024, 1_000_000


def hdf5_library() -> ModuleType:
    """The optional library `h5py`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f'reading {FILE} needs h5py ({error}): pip install "polymix[mmimdb]"'
        ) from None
    module: ModuleType = h5py
    return module


@contextmanager
def opened(path: Path, names: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """The file's arrays of these names and `genres`, all of as many rows, none read yet.

    Raises:
        DataError: it is no such file; every problem is listed.
        MissingExtraError: h5py is not installed.
    """
    h5py = hdf5_library()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}): download it again") from None
    with file:
        arrays, problems = {}, []
        for name in (*names, "genres"):
            array = file.get(name)
            if isinstance(array, h5py.Dataset):
                arrays[name] = array
                problems += _faults(path, name, array)
            else:
                had = ", ".join(list(file)[:12]) or "nothing"
                problems.append(f"{path} holds no array '{name}': it has {had}")
        rows = {name: array.shape[:1] for name, array in arrays.items()}
        if not problems and len(set(rows.values())) > 1:
            problems.append(f"{path}: arrays differ in rows: {rows}")
        if problems:
            raise DataError(problems)
        yield arrays


def rows_of(array: Any, path: Path) -> Iterator[tuple[slice, np.ndarray]]:
    """An array's rows, some at a time.

    Yields:
        Where they belong, and `(B, ...)`.
    """
    for start in range(0, len(array), CHUNK):
        where = slice(start, min(start + CHUNK, len(array)))
        try:
            yield where, np.asarray(array[where])
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}): download it again") from None


def fingerprint(path: Path, names: tuple[str, ...]) -> str:
    """Sixteen hex digits for the arrays that are used: the whole file is twenty times as large."""
    digest = hashlib.sha256()
    with opened(path, names) as arrays:
        for name, array in arrays.items():
            digest.update(f"{name}:{array.shape}:{array.dtype.str}:".encode())
            for _, rows in rows_of(array, path):
                digest.update(np.ascontiguousarray(rows).tobytes())
        digest.update(split_codes(arrays["genres"], path).tobytes())
        digest.update("/".join(label_names(arrays["genres"], path, ())).encode())
    return digest.hexdigest()[:16]


def split_codes(genres: Any, path: Path) -> np.ndarray:
    """The original split, `(N,)` uint8: as the file says it, or by the known numbers of rows.

    Raises:
        DataError: it is not known.
    """
    rows, codes = len(genres), {"train": TRAIN, "dev": VAL, "test": TEST}
    table = genres.file.attrs.get("split")
    if table is None and rows == sum(SIZES):
        return np.repeat(np.array([TRAIN, VAL, TEST], np.uint8), SIZES)
    out = np.full(rows, 255, np.uint8)
    try:
        for entry in table if table is not None else ():
            if _text(entry["source"]) == "genres" and _text(entry["split"]) in codes:
                out[int(entry["start"]) : int(entry["stop"])] = codes[_text(entry["split"])]
    except (TypeError, ValueError, LookupError) as error:
        raise DataError(f"{path}: its attribute 'split' cannot be read: {error}") from None
    if (out == 255).any():
        raise DataError(
            f"{path} has {rows} rows and does not say how they are split; the original has "
            f"{sum(SIZES)}, for training, validation and test {', '.join(map(str, SIZES))}"
        )
    return out


def label_names(genres: Any, path: Path, known: tuple[str, ...]) -> tuple[str, ...]:
    """The columns' genres: as the file says them, else those `known`.

    Raises:
        DataError: there are not as many as columns.
    """
    said = genres.attrs.get("target_names")
    try:
        names = known if said is None else tuple(str(name) for name in json.loads(_text(said)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: the genres' names cannot be read: {error}") from None
    columns = genres.shape[1]
    if names and (len(names) != columns or len(set(names)) != columns):
        raise DataError(f"{path}: {columns} columns of genres, but the names {', '.join(names)}")
    return names


def _faults(path: Path, name: str, array: Any) -> list[str]:
    shape, kind = array.shape, array.dtype.kind
    wanted = WIDTHS.get(name, (None,))
    fits = len(shape) == len(wanted) + 1 and all(
        (size is None and 0 < got <= WIDEST) or size == got
        for size, got in zip(wanted, shape[1:], strict=True)
    )
    fits = fits and 0 < shape[0] <= MOST
    if not fits or kind not in "biuf":
        sizes = ", ".join("N" if size is None else str(size) for size in (None, *wanted))
        return [f"{path}: '{name}' is {shape} {array.dtype}, not numbers of shape ({sizes})"]
    return []


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
