"""Recordings of any rate, channels and format as log-mel spectrograms in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.fft
import scipy.signal

from polymix.errors import DataError, MissingExtraError
from polymix.tables.recipe import AudioRecipe
from polymix.tables.unreadable import Unreadable, file_of

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus")
RATE = 16_000
SHORTEST, LONGEST = 0.5, 10.0
BINS = 64
LOW, HIGH = -80.0, 30.0
"""Levels of bytes 0 and 255, in dB; white noise of RMS 1 is expected at 0."""

BLOCK = 1 << 18
SLOWEST, FASTEST = 50, 1_000_000
"""Samples a second that a recording may have: a header can say anything, and resampling from or to
a far slower rate takes memory by their ratio."""

RATES = f"recordings of {SLOWEST} to {FASTEST:,} are read"

LONGEST_READ = 2 * 60 * 60
"""Seconds of a recording that are read at all."""


def audio_libraries() -> tuple[ModuleType, ModuleType]:
    """The optional libraries `soundfile` and `soxr`.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f'reading sound needs soundfile and soxr ({error}): pip install "polymix[audio]"'
        ) from None
    return soundfile, soxr


def read_wave(source: Path | bytes, where: str, rate: int, most: int | None = None) -> np.ndarray:
    """Read a recording: channels averaged, resampled.

    It is read in blocks, and no further than asked, so that an hour in stereo takes no more memory
    than its result.

    Args:
        source: a file, or a file's bytes.
        where: how it is called in messages.
        rate: samples a second to give.
        most: samples to give, from the start; two hours' where not given.

    Returns:
        `(n,)` float32, full scale 1.

    Raises:
        DataError: it is not sound, is empty, of a rate that no recording has, or holds a value
            that is not finite.
        MissingExtraError: soundfile or soxr is not installed.
    """
    soundfile, soxr = audio_libraries()
    parts: list[np.ndarray] = []
    count, most = 0, LONGEST_READ * rate if most is None else most
    try:
        with soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
            resampler = None
            if not SLOWEST <= file.samplerate <= FASTEST:
                raise DataError(f"{where} says it has {file.samplerate} samples a second: {RATES}")
            if file.samplerate != rate:
                resampler = soxr.ResampleStream(file.samplerate, rate, 1)
            # A block of a slow recording grows as it is resampled.
            grown = max(1.0, rate / file.samplerate)
            size = max(1, int(2 * BLOCK / file.channels / grown))
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                mono = np.ascontiguousarray(block.mean(1))
                parts.append(mono if resampler is None else resampler.resample_chunk(mono))
                count += len(parts[-1])
                if count >= most:
                    break
            else:
                if resampler is not None:
                    parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise DataError(
            f"{where} cannot be read as sound ({reason}): replace it or move it elsewhere"
        ) from None
    wave = np.concatenate([np.zeros(0, np.float32), *parts])[:most]
    if not len(wave):
        raise DataError(f"{where} holds no sound: replace it or move it elsewhere")
    if not np.isfinite(wave).all():
        raise DataError(f"{where} holds values that are not finite: replace it")
    return wave


def read_audio(recipe: AudioRecipe, cell: Any, folder: Path) -> np.ndarray:
    """A recording's spectrogram.

    Returns:
        `(1, bins, frames)` uint8, lowest frequency first.

    Raises:
        Unreadable: it is no sound.
    """
    path = file_of(cell, folder)
    try:
        wave = read_wave(path, str(path), recipe.rate, recipe.samples)
    except MissingExtraError:
        raise
    except DataError as error:
        said = str(error)
        causes = {
            "holds no sound": "holds no sound",
            "not finite": "values that are not finite",
            RATES: "samples a second that no recording has",
        }
        cause = next((c for sign, c in causes.items() if sign in said), "not a sound")
        raise Unreadable(cause) from None
    except Exception:  # a decoder's own trouble with broken bytes
        raise Unreadable("not a sound") from None
    return log_mel(recipe, wave)[None]


def log_mel(recipe: AudioRecipe, wave: np.ndarray) -> np.ndarray:
    """A wave `(n,)` as log-mel power `(bins, frames)` uint8; what is missing behind is silence."""
    hop, window = _steps(recipe.samples, recipe.frames)
    padded = np.zeros(hop * (recipe.frames - 1) + window, np.float32)
    padded[: min(len(wave), len(padded))] = wave[: len(padded)]
    taper = scipy.signal.get_window("hann", window).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * taper
    spectrum = scipy.fft.rfft(frames, axis=1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)) / np.square(taper).sum()
    mel = power @ mel_filters(recipe.rate, window, recipe.bins)
    level = 10 * np.log10(np.maximum(mel, 1e-12))
    scaled = np.clip(np.rint((level - LOW) * (255 / (HIGH - LOW))), 0, 255)
    found: np.ndarray = np.ascontiguousarray(scaled.T.astype(np.uint8))
    return found


def _steps(samples: int, frames: int) -> tuple[int, int]:
    """Samples between frames, and in one."""
    hop = max(1, samples // frames)
    return hop, max(400, 2 * hop)


@lru_cache(maxsize=8)
def mel_filters(rate: int, window: int, bins: int) -> np.ndarray:
    """Triangles on the mel scale, each a weighted mean of powers: `(window // 2 + 1, bins)`.

    Source: Slaney (1998), Auditory Toolbox; with O'Shaughnessy's scale 2595·log10(1 + f/700). A
    triangle narrower than the spectrum's bins takes the nearest one.
    """
    frequencies = np.arange(window // 2 + 1) * rate / window
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bins + 2) / 2595) - 1)
    filters = np.zeros((len(frequencies), bins), np.float32)
    for i, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rise = (frequencies - low) / (middle - low)
        fall = (high - frequencies) / (high - middle)
        weights = np.clip(np.minimum(rise, fall), 0, None)
        if not weights.any():
            weights[np.abs(frequencies - middle).argmin()] = 1.0
        filters[:, i] = weights / weights.sum()
    return filters


def fit_audio(name: str, column: str, cells: Sequence[Any], folder: Path) -> AudioRecipe:
    """A recipe for recordings like these: as long as nine of ten are, half a second to ten.

    Args:
        name: the modality's.
        column: the table's.
        cells: of training rows, not empty.
        folder: what paths are relative to.

    Raises:
        Unreadable: none of them is a sound.
        MissingExtraError: soundfile or soxr is not installed.
    """
    soundfile, _ = audio_libraries()
    seconds = []
    for cell in cells:
        try:
            about = soundfile.info(str(file_of(cell, folder)))
        except (Unreadable, soundfile.LibsndfileError, OSError, RuntimeError, ValueError):
            continue
        if about.frames > 0 and SLOWEST <= about.samplerate <= FASTEST:
            seconds.append(about.frames / about.samplerate)
    if not seconds:
        raise Unreadable("no training row has a sound that can be read")
    length = float(np.clip(np.quantile(seconds, 0.9), SHORTEST, LONGEST))
    frames = 64 if length <= 2 else 256
    samples = int(np.ceil(length * RATE / frames)) * frames
    return AudioRecipe(
        name=name, column=column, rate=RATE, samples=samples, bins=BINS, frames=frames
    )
