"""The cache: where built datasets are kept, one folder per dataset, settings and raw bytes.

    $POLYMIX_CACHE, or the user's cache folder
      demo/v1,seed=0,raw=<digest>/
      avmnist/v1,seed=0,snr_db=-8.0,raw=<digest>/
      .locks/

A folder that exists is complete; one whose files were changed since is built again. While one is
built, others who want it wait; what a killed build left is swept away by the next build of the same
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import platformdirs
from filelock import FileLock

from polymix.data.dataset import Dataset
from polymix.datasets.builder import Builder, Progress
from polymix.errors import DataError, MissingExtraError, PolymixWarning, UsageError

LONGEST = 150


def cache_folder() -> Path:
    """Where built datasets are kept: `$POLYMIX_CACHE`, else the user's cache folder."""
    named = os.environ.get("POLYMIX_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("polymix"))


def built(name: str, prefix: str = "") -> list[Path]:
    """The complete folders of a dataset whose names start with `prefix`, newest first."""
    folder = cache_folder() / name
    found = [
        (about.stat().st_mtime_ns, about.parent)
        for about in folder.glob("*/dataset.json")
        if about.parent.name.startswith(prefix) and not about.parent.name.startswith(".")
    ]
    return [path for _, path in sorted(found, reverse=True)]


def find_built(builder: Builder, fingerprint: str) -> Dataset | None:
    """The dataset of these settings and bytes, if the cache holds it; no raw file is read."""
    return find_kept(builder.NAME, fingerprint, _prefix(builder))


def find_kept(name: str, fingerprint: str, prefix: str = "") -> Dataset | None:
    """A dataset of these bytes, if the cache holds it under `name`, whatever its settings."""
    for path in built(name, prefix):
        try:
            about = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict) and about.get("fingerprint") == fingerprint:
            with contextlib.suppress(DataError):  # a damaged one is built again, and told then
                return Dataset.open(path)
    return None


def open_built(
    builder: Builder, raw: Path | None = None, progress: Progress | None = None
) -> Dataset:
    """Open a dataset, building it first where the cache does not hold it.

    Where no raw folder is named for a dataset that needs one, or the package that carries the
    raw files is not installed, the newest one built with the same settings is opened.

    Args:
        builder: which dataset, and its settings.
        raw: the folder of its raw files, where it needs some.
        progress: told how far a build is.

    Raises:
        DataError: the raw files cannot be used, or the cache holds something broken.
        MissingExtraError: a package that the build needs is not installed.
        UsageError: raw files are needed and none were named, or the cache cannot be written.
    """
    prefix = _prefix(builder)
    existing = built(builder.NAME, prefix)
    if builder.NEEDS_RAW and raw is None:
        if not existing:
            raise UsageError(
                f"dataset '{builder.NAME}' is built from raw files: name their folder once, "
                f"polymix datasets build {builder.NAME} --raw DIR"
            )
        return _open(existing[0])
    try:
        digest = builder.fingerprint(raw)
    except MissingExtraError:
        if not existing:
            raise
        return _open(existing[0])
    path = cache_folder() / builder.NAME / f"{prefix}{digest}"
    if not path.exists():
        _build(builder, path, raw, progress)
        return _open(path)
    try:
        return Dataset.open(path)
    except DataError as error:
        warnings.warn(
            f"what the cache holds of '{builder.NAME}' cannot be used ({error.problems[0]}): "
            "it is built again",
            PolymixWarning,
            stacklevel=2,
        )
    _build(builder, path, raw, progress)
    return _open(path)


def _build(builder: Builder, path: Path, raw: Path | None, progress: Progress | None) -> None:
    with contextlib.ExitStack() as held:
        try:
            locks = cache_folder() / ".locks"
            locks.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(locks / f"{builder.NAME},{path.name}.lock"))
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(error) from None
        for left in path.parent.glob(f".{path.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        if path.exists():
            try:
                Dataset.open(path)
            except DataError:
                _remove(path)
            else:
                return
        try:
            builder.build(path, raw, progress)
        except BaseException as error:
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            if not isinstance(error, OSError):
                raise
            # A builder meets the cache's disk and the raw files' alike.
            if error.filename is None or _within(Path(os.fsdecode(error.filename))):
                raise _unwritable(error) from None
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None


def _remove(path: Path) -> None:
    """Remove a folder that others may look at: they find the whole of it, or none."""
    gone = path.parent / f".{path.name}-damaged"
    try:
        path.rename(gone)
    except OSError as error:
        raise _unwritable(error) from None
    shutil.rmtree(gone, ignore_errors=True)


def _unwritable(error: OSError) -> UsageError:
    return UsageError(
        f"the cache folder {cache_folder()} cannot be written: {error}; "
        "set POLYMIX_CACHE to a folder that can"
    )


def _within(path: Path) -> bool:
    """Whether a file is the cache's."""
    return path.absolute().is_relative_to(cache_folder().absolute())


def _open(path: Path) -> Dataset:
    try:
        return Dataset.open(path)
    except DataError as error:
        raise DataError([*error.problems, f"remove {path} to have it built again"]) from None


def _prefix(builder: Builder) -> str:
    """The folder's name up to the raw files' digest: readable, and short on any disk."""
    parts = [f"{key}={json.dumps(value)}" for key, value in builder.settings.items()]
    text = ",".join(parts)
    if len(text) > LONGEST or not set(text).isdisjoint('/\\:*?"<>|[] '):
        text = "settings=" + hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"v{builder.VERSION},{text},raw="


def fingerprint_files(files: Iterable[tuple[str, Path]]) -> str:
    """Sixteen hex digits from every file's role and content.

    Content rather than size and date: a copied or touched folder is not built again, and a
    file that was replaced by one of the same size is.

    Args:
        files: each file's role (a name that does not depend on where the folder lies) and path.

    Raises:
        DataError: files cannot be read; all of them are listed.
    """
    whole, problems = hashlib.sha256(), []
    for role, path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        whole.update(f"{len(role)}:{role}".encode() + content)
    if problems:
        raise DataError(problems)
    return whole.hexdigest()[:16]
