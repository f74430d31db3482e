"""Sounds as statistics: what they are of a known spectrogram, and the same as a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polymix.data.batch import convert
from polymix.data.schema import Kind, Modality, Statistics
from polymix.errors import GenotypeError
from polymix.nn.descriptions.sound import LEVEL, SoundStatistics

from .common import assert_same_graph

CPU = torch.device("cpu")


def sound(bins=24, frames=40, dtype="uint8", channels=1, **fields):
    return Modality(name="sound", kind=Kind.AUDIO, shape=(channels, bins, frames), dtype=dtype,
                    **fields)  # fmt: skip


def spectrograms(modality, count=5, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, *modality.shape), np.uint8))


def test_normalised_bytes_are_bytes_again():
    plain = sound()
    fitted = sound(statistics=Statistics(mean=(93.7,), std=(31.3,)))
    raw = spectrograms(plain)
    expected = SoundStatistics(plain).columns(raw)
    found = SoundStatistics(fitted).columns(convert(fitted, raw, CPU))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_its_first_numbers_are_cepstra_of_active_frames():
    modality = sound()
    raw = spectrograms(modality, 1).float() * 0.2
    raw[..., :10] = 0  # more than 30 dB below the loudest: not heard
    raw[..., 10:] += 150
    level = raw[0, 0, :, 10:].double().round().numpy() * LEVEL
    bins = np.arange(24) + 0.5
    rows = np.cos(np.pi / 24 * bins * np.arange(20)[:, None]) * np.sqrt(2 / 24)
    cepstra = rows @ level
    found = SoundStatistics(modality).columns(raw)[0, :60].numpy()
    apart = cepstra - cepstra.mean(1, keepdims=True)
    deviation = np.sqrt(cepstra.var(1) + 2.0**-18)
    skewness = (apart**3).mean(1) / deviation**3
    expected = np.concatenate([cepstra.mean(1), deviation, skewness])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_beat_shows_in_the_rhythm():
    modality = sound(16, 64)
    described = SoundStatistics(modality)
    time = torch.arange(64, dtype=torch.float64) / 64
    waves = [torch.sin(2 * torch.pi * rate * time).expand(16, 64) for rate in (12, 4)]
    level = torch.stack(waves)
    power = described._rhythm(level, level.mean(1))[0].reshape(2, 13, -1)
    # Of rates 1 to 31 in ten octave-like bands: 12 is in [10, 13), and 4 in [4, 6).
    assert power.mean(1).argmax(1).tolist() == [6, 3]


@pytest.mark.parametrize(
    "modality",
    [sound(64, 128), sound(16, 16), sound(dtype="float32"), sound(channels=2)],
    ids=["large", "least", "float", "stereo"],
)
def test_silence_is_finite_and_widths_hold(modality):
    described = SoundStatistics(modality)
    x = torch.zeros(3, *modality.shape)
    found = described(x).x
    assert found.shape == (3, 1, described.channels)
    assert found.dtype == torch.float64
    assert found.isfinite().all()
    assert described.ready
    assert not described.state_dict()
    assert described.columns(x * 1e9 - 1e9).isfinite().all()


def test_rows_are_described_alone():
    modality = sound()
    x = spectrograms(modality)
    described = SoundStatistics(modality)
    torch.testing.assert_close(described.columns(x[3:4]), described.columns(x)[3:4])


def test_a_graph_says_the_same():
    modality = sound(statistics=Statistics(mean=(100.0,), std=(40.0,)))
    x = convert(modality, spectrograms(modality, 12), CPU)
    x[-1] = (0 - 100.0) / 40.0  # silence
    assert_same_graph(SoundStatistics(modality), x)


def test_small_spectrograms_are_refused():
    with pytest.raises(GenotypeError, match=r"16 bins and 16 frames at least.*use summary"):
        SoundStatistics(sound(12, 40))
