"""One second of sound as a picture: a log-power spectrogram in bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.signal

RATE = 8000


@dataclass(frozen=True)
class Spectrogram:
    """How a second of sound becomes a square of `size` frequencies by `size` frames.

    The window has `2 * size` samples, so that its spectrum has `size` bins above the mean
    (the constant part, which carries no speech, is left out), and the hop is the largest
    with which `size` windows fit into the second without padding. Power is scaled so that
    white noise of RMS 1 has an expectation of 0 dB in every bin; the range is fixed, so that
    a byte means the same level in every row, and what lies outside is clipped.

    Attributes:
        size: frequencies and frames.
        low: level of byte 0, in dB.
        high: level of byte 255, in dB.
    """

    size: int = 112
    low: float = -50.0
    high: float = 30.0

    @property
    def window(self) -> int:
        """Samples a frame."""
        return 2 * self.size

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return (RATE - self.window) // (self.size - 1)

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        """The spectrograms of a batch, lowest frequency first.

        Args:
            waves: `(B, 8000)` float32.

        Returns:
            `(B, size, size)` uint8, frequency by time.
        """
        taper = scipy.signal.get_window("hann", self.window).astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(waves, self.window, axis=1)
        frames = frames[:, :: self.hop][:, : self.size] * taper
        spectrum = scipy.fft.rfft(frames, axis=2)[:, :, 1:]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        power /= np.square(taper).sum()
        level = np.log10(np.maximum(power, np.float32(1e-12)))
        level *= np.float32(10 * 255 / (self.high - self.low))
        level -= np.float32(self.low * 255 / (self.high - self.low))
        np.rint(level, out=level)
        np.clip(level, 0, 255, out=level)
        picture: np.ndarray = level.astype(np.uint8).transpose(0, 2, 1)
        return picture
