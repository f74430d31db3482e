"""AV-MNIST's raw files: where they lie in the user's folder DIR.

- `DIR/mnist`: MNIST's four IDX files, gzipped or not; or in `DIR/MNIST/raw`, or in DIR.
- `DIR/fsdd.zip`: the Free Spoken Digit Dataset; or its folder `recordings`, in DIR or unpacked.
- `DIR/noise`: recordings of noise of any length, rate, channels and format, folders in it too.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polymix.errors import DataError

MNIST_FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
MNIST_FOLDERS = ("mnist", "MNIST/raw", "MNIST", ".")
SPEECH_FOLDERS = (
    "recordings",
    "fsdd/recordings",
    "fsdd",
    "free-spoken-digit-dataset/recordings",
    "free-spoken-digit-dataset-master/recordings",
)
SPEECH_ZIPS = ("fsdd.zip", "free-spoken-digit-dataset.zip", "free-spoken-digit-dataset-master.zip")
RECORDING = re.compile(r"([0-9])_([^_/]+)_([0-9]{1,6})\.wav", re.ASCII)
LARGEST = 64 << 20


@dataclass(frozen=True)
class RawFiles:
    """Where the raw files lie.

    Attributes:
        mnist: path by role, the roles as in `MNIST_FILES`.
        speech: the zip file, or the folder of recordings.
        noise: the noise files, ordered by name.
        noise_folder: where they lie.
    """

    mnist: dict[str, Path]
    speech: Path
    noise: tuple[Path, ...]
    noise_folder: Path

    def roles(self) -> Iterator[tuple[str, Path]]:
        """Every file with a name that does not depend on where the folder lies."""
        yield from self.mnist.items()
        if self.speech.is_dir():
            yield from ((f"speech/{p.name}", p) for p in recordings_in(self.speech))
        else:
            yield "speech", self.speech
        for path in self.noise:
            yield f"noise/{path.relative_to(self.noise_folder).as_posix()}", path


def locate(raw: Path) -> RawFiles:
    """Find the raw files.

    Raises:
        DataError: files are missing; all of them are listed.
    """
    if not raw.is_dir():
        state = "is not a folder" if raw.exists() else "does not exist"
        raise DataError(f"--raw {raw} {state}: name the folder that holds mnist, fsdd.zip, noise")
    problems: list[str] = []
    mnist = {role: _mnist_file(raw, stem, problems) for role, stem in MNIST_FILES.items()}
    places = [raw / name for name in SPEECH_ZIPS if (raw / name).is_file()]
    places += [raw / name for name in SPEECH_FOLDERS if recordings_in(raw / name)]
    if not places:
        problems.append(
            f"{raw / 'fsdd.zip'} is missing: download the Free Spoken Digit Dataset there "
            "(or put its folder 'recordings' there)"
        )
    folder = raw / "noise"
    noise = _noise_files(folder)
    if not noise:
        state = "holds no files" if folder.is_dir() else "is missing"
        problems.append(f"{folder} {state}: put recordings of noise there, in any format")
    if problems:
        raise DataError(problems)
    return RawFiles({r: p for r, p in mnist.items() if p}, places[0], noise, folder)


def recordings_in(folder: Path) -> list[Path]:
    """A folder's recordings of digits, ordered by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if RECORDING.fullmatch(p.name) and p.is_file())


def speech_members(path: Path) -> Iterator[tuple[str, str, bytes | str]]:
    """The recordings of a zip file or a folder, ordered by name; nothing is written to disk.

    Yields:
        The recording's name, how it is called in messages, and its bytes, or what is wrong.

    Raises:
        DataError: the file is not a zip file.
    """
    if path.is_dir():
        for file in recordings_in(path):
            try:
                yield file.name, str(file), file.read_bytes()
            except OSError as error:
                yield file.name, str(file), str(error)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{path} cannot be read as a zip file ({error}): download it again"
        ) from None
    with archive:
        members = [(m.filename.rsplit("/", 1)[-1], m) for m in archive.infolist()]
        members = [(n, m) for n, m in members if RECORDING.fullmatch(n) and not _is_link(m)]
        for name, member in sorted(members, key=lambda pair: (pair[0], pair[1].filename)):
            where = f"{path}: {member.filename}"
            if member.file_size > LARGEST:
                yield name, where, f"{member.file_size} bytes are too many for a spoken digit"
                continue
            try:
                yield name, where, archive.read(member)
            except Exception as error:  # zipfile and its decompressors raise many kinds
                yield name, where, str(error) or type(error).__name__


def _mnist_file(raw: Path, stem: str, problems: list[str]) -> Path | None:
    for folder in MNIST_FOLDERS:
        for name in (stem, stem.replace("-idx", ".idx")):
            for suffix in (".gz", ""):
                path = raw / folder / f"{name}{suffix}"
                if path.is_file():
                    return path
    problems.append(f"{raw / 'mnist' / stem}.gz is missing: download MNIST's four files there")
    return None


def _noise_files(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    inside = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    visible = [
        (relative.as_posix(), path)
        for relative, path in inside
        if not any(part.startswith(".") for part in relative.parts)
    ]
    return tuple(path for _, path in sorted(visible))


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)
