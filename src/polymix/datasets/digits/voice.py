"""One recorded voice made many: changes of speed and pitch."""

from __future__ import annotations

import numpy as np

FRAME, HOP, REACH = 256, 128, 64


def change_voice(wave: np.ndarray, speed: float, pitch: float) -> np.ndarray:
    """Speak `speed` times as fast and `pitch` times as high.

    Args:
        wave: `(n,)` float32.
        speed: 1 leaves the length as it is.
        pitch: 1 leaves the pitch as it is.

    Returns:
        About `(n / speed,)` float32.
    """
    # Resampling changes both pitch and length; stretching then sets the length alone.
    positions = np.arange(0, len(wave) - 1, pitch)
    resampled = np.interp(positions, np.arange(len(wave)), wave).astype(np.float32)
    return stretch(resampled, pitch / speed)


def stretch(wave: np.ndarray, ratio: float) -> np.ndarray:
    """Make a sound `ratio` times as long at the same pitch (WSOLA; Verhelst & Roelands, 1993).

    Frames are laid at a fixed hop, each taken from near its place in the input, there where it
    best continues the frame before.

    Args:
        wave: `(n,)` float32.
        ratio: of the lengths.

    Returns:
        `(n * ratio,)` float32, rounded.
    """
    length = round(len(wave) * ratio)
    padded = np.pad(wave, (REACH, 2 * FRAME + 2 * REACH))
    taper = np.hanning(FRAME + 1)[:FRAME].astype(np.float32)
    out, weight = np.zeros((2, length + FRAME), np.float32)
    continued: np.ndarray | None = None
    for start in range(0, length, HOP):
        ideal = min(int(start / ratio), len(wave))
        near = padded[ideal : ideal + FRAME + 2 * REACH]
        shift = REACH
        if continued is not None and continued.any():
            shift = int(np.argmax(np.correlate(near, continued, "valid")))
        chosen = ideal + shift
        out[start : start + FRAME] += taper * padded[chosen : chosen + FRAME]
        weight[start : start + FRAME] += taper
        continued = np.resize(padded[chosen + HOP : chosen + HOP + FRAME], FRAME)
    return out[:length] / np.maximum(weight[:length], np.float32(0.1))
