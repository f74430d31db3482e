"""Speech somewhere in a second of noise, at a set signal-to-noise ratio."""

from __future__ import annotations

import numpy as np

from polymix.datasets.digits.spectrogram import RATE


def loudest_second(wave: np.ndarray) -> np.ndarray:
    """The second with most energy of a recording; all of it where it is not longer."""
    if len(wave) <= RATE:
        return wave
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    start = int(np.argmax(energy[RATE:] - energy[:-RATE]))
    return wave[start : start + RATE]


def place(speech: np.ndarray, start: int) -> np.ndarray:
    """A second of silence, `(8000,)` float32, with `speech` `(n <= 8000,)` from `start` on."""
    second = np.zeros(RATE, np.float32)
    second[start : start + len(speech)] = speech
    return second


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: np.ndarray | float) -> np.ndarray:
    """Add speech and noise at a ratio of their mean powers over the second, to an RMS of 1.

    Args:
        speech: `(B, 8000)` float32, none of it silent.
        noise: `(B, 8000)` float32, likewise.
        snr_db: the ratio in dB, one number or `(B,)`.

    Returns:
        `(B, 8000)` float32.
    """
    gain = np.power(10.0, np.broadcast_to(np.asarray(snr_db, float) / 20, len(speech)))
    # Neither factor grows with the ratio's size, so that any ratio stays in float32's range.
    loud, quiet = gain / np.hypot(gain, 1), 1 / np.hypot(gain, 1)
    mixed = _unit(speech) * loud.astype(np.float32)[:, None]
    mixed += _unit(noise) * quiet.astype(np.float32)[:, None]
    return _unit(mixed)


def rms(waves: np.ndarray) -> np.ndarray:
    """The root of the mean power over the second: `(B,)` float64."""
    power = np.einsum("bt,bt->b", waves, waves, dtype=np.float64) / waves.shape[1]
    root: np.ndarray = np.sqrt(power)
    return root


def _unit(waves: np.ndarray) -> np.ndarray:
    """The waves, each of RMS 1 over the second."""
    scaled: np.ndarray = waves * (1 / rms(waves)).astype(np.float32)[:, None]
    return scaled
