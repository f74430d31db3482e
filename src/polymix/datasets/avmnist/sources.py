"""AV-MNIST's raw files in memory: digits written, digits spoken, and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from polymix.datasets.avmnist.idx import read_idx
from polymix.datasets.avmnist.raw import RECORDING, RawFiles, speech_members
from polymix.datasets.builder import Progress
from polymix.datasets.digits.mixing import loudest_second
from polymix.datasets.digits.sound import audio_libraries, read_sound, trim_silence
from polymix.datasets.digits.spectrogram import RATE
from polymix.errors import DataError

TEST_RECORDINGS = range(40, 50)
SHOWN = 20

T = TypeVar("T")


@dataclass(frozen=True)
class Recording:
    """A spoken digit.

    Attributes:
        name: its file's name.
        digit: what is said.
        test: whether it is for test rows alone.
        wave: `(n,)` float32 at 8 kHz, at most a second.
    """

    name: str
    digit: int
    test: bool
    wave: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Noise:
    """A recording of noise, without the silence before and after.

    Attributes:
        name: its file's name.
        wave: `(n,)` float32 at 8 kHz.
        cut: from here on it is for test rows alone.
    """

    name: str
    wave: np.ndarray = field(repr=False, compare=False)
    cut: int

    def part(self, test: bool) -> np.ndarray:
        """The part for test rows, or the part for all others."""
        return self.wave[self.cut :] if test else self.wave[: self.cut]

    def starts(self, test: bool) -> np.ndarray:
        """Where in the part a second may start: `(m,)` int64, never empty.

        Seconds 60 dB below the part's loudest one are left out, for scaled up they would be
        nothing but rounding. A part shorter than a second is looped, and may start anywhere.
        """
        part = self.part(test)
        if len(part) <= RATE:
            return np.arange(len(part))
        energy = np.concatenate([[0.0], np.cumsum(np.square(part, dtype=np.float64))])
        seconds = energy[RATE:] - energy[:-RATE]
        return np.flatnonzero(seconds >= 1e-6 * seconds.max())

    def second(self, test: bool, start: int) -> np.ndarray:
        """The second of the part from `start` on, `(8000,)` float32."""
        part = self.part(test)
        if len(part) < RATE:
            return np.resize(np.roll(part, -start), RATE)
        return part[start : start + RATE]


@dataclass(frozen=True)
class Sources:
    """Everything AV-MNIST is made of.

    Attributes:
        images: MNIST's training and test images, `(N, 28, 28)` uint8.
        labels: their digits, `(N,)` int64.
        speech: all recordings, ordered by name.
        noise: all noise, ordered by name.
    """

    images: tuple[np.ndarray, np.ndarray]
    labels: tuple[np.ndarray, np.ndarray]
    speech: tuple[Recording, ...]
    noise: tuple[Noise, ...]


def read_sources(files: RawFiles, progress: Progress) -> Sources:
    """Read everything into memory.

    Raises:
        DataError: files cannot be used; every problem is listed.
        MissingExtraError: soundfile or soxr is not installed.
    """
    audio_libraries()
    problems: list[str] = []
    train = _tried(problems, lambda: _digits(files, "train"))
    test = _tried(problems, lambda: _digits(files, "test"))
    progress(1, 3, "reading raw files")
    speech = _tried(problems, lambda: read_speech(files.speech))
    progress(2, 3, "reading raw files")
    noise = _tried(problems, lambda: read_noise(files.noise))
    progress(3, 3, "reading raw files")
    if problems or not (train and test and speech and noise):
        raise DataError(problems)
    return Sources((train[0], test[0]), (train[1], test[1]), speech, noise)


def read_speech(path: Path) -> tuple[Recording, ...]:
    """Read the spoken digits: the loudest second of each.

    Raises:
        DataError: recordings cannot be read, or a digit has none; every problem is listed.
    """
    recordings: list[Recording] = []
    problems: list[str] = []
    for name, where, content in speech_members(path):
        match = RECORDING.fullmatch(name)
        assert match is not None
        try:
            if isinstance(content, str):
                raise DataError(f"{where} cannot be read ({content}): download it again")
            wave = read_sound(content, where)
            if not len(trim_silence(wave)):
                raise DataError(f"{where} is silent: remove or replace it")
        except DataError as error:
            problems += error.problems
            continue
        test = int(match[3]) in TEST_RECORDINGS
        recordings.append(Recording(name, int(match[1]), test, loudest_second(wave)))
    have, whole = {(r.digit, r.test) for r in recordings}, not problems
    for test, which in ((False, "other than 40-49"), (True, "40-49")):
        lacking = [str(digit) for digit in range(10) if (digit, test) not in have]
        if lacking and whole:
            problems.append(
                f"{path} has no recording numbered {which} of {', '.join(lacking)}: recordings "
                "are named {digit}_{speaker}_{number}.wav, and numbers 40-49 are for test alone"
            )
    if problems:
        raise DataError(_shortened(problems))
    return tuple(recordings)


def read_noise(paths: tuple[Path, ...]) -> tuple[Noise, ...]:
    """Read the noise files.

    Raises:
        DataError: files are no sound, or silent; all of them are listed.
    """
    noise: list[Noise] = []
    problems: list[str] = []
    for path in paths:
        try:
            wave = trim_silence(read_sound(path, str(path)))
        except DataError as error:
            problems += error.problems
            continue
        cut = len(wave) * 4 // 5
        if cut:
            noise.append(Noise(path.name, wave, cut))
        else:
            problems.append(f"{path} is silent: replace it or move it elsewhere")
    if problems:
        raise DataError(_shortened(problems))
    return tuple(noise)


def _digits(files: RawFiles, half: str) -> tuple[np.ndarray, np.ndarray]:
    where = files.mnist[f"{half} images"]
    problems: list[str] = []
    images = _tried(problems, lambda: read_idx(where, 3))
    labels = _tried(problems, lambda: read_idx(files.mnist[f"{half} labels"], 1))
    if images is not None and images.shape[1:] != (28, 28):
        problems.append(f"{where} holds images of {images.shape[1:]}, not of 28 x 28 pixels")
    if labels is not None and len(labels) and labels.max() > 9:
        problems.append(f"{files.mnist[f'{half} labels']} holds the label {labels.max()}, not 0-9")
    if images is not None and labels is not None and len(images) != len(labels):
        problems.append(
            f"{where} holds {len(images)} images, {files.mnist[f'{half} labels']} "
            f"{len(labels)} labels: are they from two datasets? Download both again"
        )
    if problems or images is None or labels is None:
        raise DataError(problems)
    return images, labels.astype(np.int64)


def _tried(problems: list[str], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except DataError as error:
        problems += error.problems
        return None


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - SHOWN
    return problems if more <= 1 else [*problems[:SHOWN], f"and {more} more like these"]
