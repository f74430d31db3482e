"""Recordings of any rate, channels and format, as one channel at 8 kHz."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np

from polymix.datasets.spectrogram import RATE
from polymix.errors import DataError, MissingExtraError

BLOCK = 1 << 19


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


def read_sound(source: Path | bytes, where: str) -> np.ndarray:
    """Read a recording: channels averaged, resampled to 8 kHz, whatever its length.

    It is read in blocks, so that an hour in stereo takes no more memory than its result.

    Args:
        source: a file, or a file's bytes.
        where: how it is called in messages.

    Returns:
        `(n,)` float32, full scale 1.

    Raises:
        DataError: it is not sound, is empty, or holds a value that is not finite.
        MissingExtraError: soundfile or soxr is not installed.
    """
    soundfile, soxr = audio_libraries()
    parts: list[np.ndarray] = []
    try:
        with soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
            rate = file.samplerate
            resampler = None if rate == RATE else soxr.ResampleStream(rate, RATE, 1)
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                mono = np.ascontiguousarray(block.mean(1))
                parts.append(mono if resampler is None else resampler.resample_chunk(mono))
            if resampler is not None:
                parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise DataError(
            f"{where} cannot be read as sound ({reason}): replace it or move it elsewhere"
        ) from None
    wave = np.concatenate([np.zeros(0, np.float32), *parts])
    if not len(wave):
        raise DataError(f"{where} holds no sound: replace it or move it elsewhere")
    if not np.isfinite(wave).all():
        raise DataError(f"{where} holds values that are not finite: replace it")
    return wave


def trim_silence(wave: np.ndarray, floor: float = 1e-4) -> np.ndarray:
    """What is left without the silence before and after; empty where all of it is silent."""
    loud = np.flatnonzero(np.abs(wave) > floor)
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave[:0]
