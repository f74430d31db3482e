"""Where AV-MNIST's raw files are public, and what they must hold.

- **MNIST**, two mirrors of the original four files. Their SHA-256 are the widely published ones.
- **FSDD**, GitHub's archive of a tag, or of the branch. GitHub packs archives on demand and
  promises no stable bytes, so that no checksum is pinned: every member's CRC is tested, and all
  3,000 recordings (10 digits, 6 speakers, 50 each) must be there.
- **ESC-50**, GitHub's archive too, tested the same way for its 2,000 recordings. All of them
  become noise, in `noise/esc-50` (about 900 MB); the archive is removed afterwards.
"""

from __future__ import annotations

import re
import shutil
import time
import zipfile
from collections import Counter
from pathlib import Path

from polymix.datasets.avmnist.raw import RECORDING
from polymix.datasets.builder import Progress, silent
from polymix.datasets.download import Sleep, UnwritableError
from polymix.datasets.fetch import RemoteFile, fetch_files
from polymix.errors import DataError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
NOISE = re.compile(r"[1-5]-[0-9]{1,9}-[A-Z]-[0-9]{1,2}\.wav", re.ASCII)
SPOKEN, NOISES = 3_000, 2_000
LARGEST = 8 << 30


def fetch_avmnist(folder: Path, progress: Progress = silent, sleep: Sleep = time.sleep) -> None:
    """Fetch all of AV-MNIST's raw files into `folder`; what is there already is not fetched.

    Args:
        folder: where to; `polymix datasets build avmnist --raw` takes it then.
        progress: called as `progress(done, total, what)`.
        sleep: waits between attempts.

    Raises:
        DataError: something cannot be fetched, or is not what it must be.
        MissingExtraError: requests is not installed.
    """
    noise, archive = folder / "noise" / "esc-50", folder / ESC50.path
    files = (*MNIST, FSDD) if noise.is_dir() else (*MNIST, FSDD, ESC50)
    fetch_files(files, folder, progress, sleep)
    if not noise.is_dir():
        unpack_noise(archive, noise, progress)
    archive.unlink(missing_ok=True)


def check_speech(path: Path) -> None:
    """Look whether `path` is the whole of FSDD.

    Raises:
        DataError: it is not.
    """
    names = {name for _, name in _tested(path, RECORDING)}
    digits = Counter(name[0] for name in names)
    if len(names) != SPOKEN or set(digits.values()) != {SPOKEN // 10}:
        raise DataError(
            f"{path}: {SPOKEN} recordings, as many of each digit, expected, but got {len(names)}"
        )


def check_noise(path: Path) -> None:
    """Look whether `path` is the whole of ESC-50.

    Raises:
        DataError: it is not.
    """
    names = {name for _, name in _tested(path, NOISE)}
    if len(names) != NOISES:
        raise DataError(f"{path}: {NOISES} recordings expected, but got {len(names)}")


def unpack_noise(archive: Path, folder: Path, progress: Progress = silent) -> None:
    """Unpack ESC-50's recordings, and nothing else, into `folder`, which is whole or not there.

    Raises:
        DataError: they cannot be unpacked.
    """
    # A name that starts with a dot is no noise to the builder.
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        with zipfile.ZipFile(archive) as packed:
            members = _members(packed, NOISE)
            for done, (member, name) in enumerate(members, 1):
                # By its own name, in one folder: no member leads anywhere else.
                with packed.open(member) as source, (draft / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                progress(done, len(members), "unpacking noise")
        draft.rename(folder)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from None
    except OSError as error:
        raise UnwritableError(
            f"{folder} cannot be written ({error.strerror or error}): make room and run again"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _tested(path: Path, pattern: re.Pattern[str]) -> list[tuple[zipfile.ZipInfo, str]]:
    """The members whose names match, every member's CRC found right."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > LARGEST:
                raise DataError(f"{path} would unpack to {size:,} bytes, which is too much")
            bad = archive.testzip()
            if bad is not None:
                raise DataError(f"{path}: {bad} is damaged")
            return _members(archive, pattern)
    except DataError:
        raise
    except Exception as error:  # zipfile and its decompressors raise many kinds
        raise DataError(f"{path} is not a whole zip file: {error}") from None


def _members(
    archive: zipfile.ZipFile, pattern: re.Pattern[str]
) -> list[tuple[zipfile.ZipInfo, str]]:
    named = [(m, m.filename.rsplit("/", 1)[-1]) for m in archive.infolist()]
    return [(member, name) for member, name in named if pattern.fullmatch(name)]


MNIST = tuple(
    RemoteFile(f"mnist/{name}", tuple(mirror + name for mirror in MIRRORS), sha256)
    for name, sha256 in MNIST_SHA256.items()
)
FSDD = RemoteFile(
    "fsdd.zip",
    tuple(
        f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/{ref}.zip"
        for ref in ("tags/v1.0.10", "heads/master")
    ),
    check=check_speech,
)
ESC50 = RemoteFile(
    "esc50.zip",
    ("https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip",),
    check=check_noise,
)
