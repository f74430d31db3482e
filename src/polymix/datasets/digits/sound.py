"""Recordings of any rate, channels and format, as one channel at 8 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polymix.datasets.digits.spectrogram import RATE
from polymix.tables.sounds import audio_libraries, read_wave

__all__ = ["audio_libraries", "read_sound", "trim_silence"]


def read_sound(source: Path | bytes, where: str) -> np.ndarray:
    """Read a recording at 8 kHz, whatever its length; see `polymix.tables.sounds.read_wave`."""
    return read_wave(source, where, RATE)


def trim_silence(wave: np.ndarray, floor: float = 1e-4) -> np.ndarray:
    """What is left without the silence before and after; empty where all of it is silent."""
    loud = np.flatnonzero(np.abs(wave) > floor)
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave[:0]
