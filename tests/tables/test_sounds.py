from __future__ import annotations

import resource
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymix.errors import DataError
from polymix.tables.recipe import AudioRecipe
from polymix.tables.sounds import (
    FASTEST,
    LONGEST_READ,
    SLOWEST,
    fit_audio,
    log_mel,
    mel_filters,
    read_audio,
    read_wave,
)
from polymix.tables.unreadable import Unreadable

RECIPE = AudioRecipe(name="s", column="s", rate=16_000, samples=16_000, bins=64, frames=64)


def tone(hertz: float, rate: int, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_tone_is_found_at_any_rate(rate: int, channels: int, tmp_path: Path) -> None:
    wave = np.repeat(tone(1000, rate)[:, None], channels, 1)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    found = read_audio(RECIPE, "a.wav", tmp_path)
    assert found.shape == (1, 64, 64)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 16_000 / 1400), 66) / 2595) - 1)
    loudest = found[0, :, 5:-5].astype(float).mean(1).argmax()
    assert edges[loudest] <= 1000 <= edges[loudest + 2]


def test_silence_one_sample_and_what_is_longer(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    assert read_audio(RECIPE, "silent.wav", tmp_path).max() == 0
    soundfile.write(tmp_path / "one.wav", np.ones(1) * 0.5, 8000)
    assert read_audio(RECIPE, "one.wav", tmp_path).shape == (1, 64, 64)
    long = np.concatenate([tone(500, 16_000), tone(3000, 16_000, 4)])
    soundfile.write(tmp_path / "long.wav", long, 16_000)
    assert len(read_wave(tmp_path / "long.wav", "long", 16_000, 16_000)) == 16_000
    soundfile.write(tmp_path / "short.wav", long[:16_000], 16_000)
    np.testing.assert_array_equal(
        read_audio(RECIPE, "long.wav", tmp_path), read_audio(RECIPE, "short.wav", tmp_path)
    )


def test_what_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound at all")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 8000, subtype="FLOAT")
    causes = {"text.wav": "not a sound", "none.wav": "holds no sound", "nan.wav": "not finite",
              "gone.wav": "no such file", ".": "a folder"}  # fmt: skip
    for cell, cause in causes.items():
        with pytest.raises(Unreadable, match=cause):
            read_audio(RECIPE, cell, tmp_path)


def claims(path: Path, rate: int, samples: int, channels: int = 1) -> None:
    """A WAV file of 16 bits whose header says whatever rate."""
    data = np.zeros(samples * channels, "<i2").tobytes()
    size = 2 * channels
    head = struct.pack("<HHIIHH", 1, channels, rate, min(rate * size, 2**32 - 1), size, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


@given(
    rate=st.one_of(
        st.integers(1, 200), st.integers(1, 2**32 - 1), st.sampled_from([8000, 44_100, 999_999])
    ),
    samples=st.integers(0, 10_000),
    channels=st.integers(1, 6),
    most=st.sampled_from([None, 64, 160_000]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_header_may_claim_any_rate(
    tmp_path: Path, rate: int, samples: int, channels: int, most: int | None
) -> None:
    path = tmp_path / "claims.wav"
    claims(path, rate, samples, channels)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    wave, said = np.zeros(0), ""
    try:
        wave = read_wave(path, "it", 16_000, most)
    except DataError as error:
        said = str(error)
    assert bool(len(wave)) != bool(said)
    assert len(wave) <= (most or LONGEST_READ * 16_000)
    if not SLOWEST <= rate <= FASTEST:
        assert said
    elif said:
        assert "holds no sound" in said
    assert time.monotonic() - begun < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_a_rate_that_no_recording_has_is_told(tmp_path: Path) -> None:
    claims(tmp_path / "slow.wav", 1, 10_000)
    with pytest.raises(Unreadable, match="samples a second that no recording has"):
        read_audio(RECIPE, "slow.wav", tmp_path)
    with pytest.raises(Unreadable, match="no training row has a sound"):
        fit_audio("s", "s", ["slow.wav"], tmp_path)


def test_white_noise_of_rms_1_lies_at_zero_db() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    level = log_mel(RECIPE, noise)[20:, :60].astype(float).mean() / 255 * 110 - 80
    assert abs(level) < 1.5


def test_filters_are_weighted_means() -> None:
    for window in (400, 2500):
        filters = mel_filters(16_000, window, 64)
        assert filters.shape == (window // 2 + 1, 64)
        np.testing.assert_allclose(filters.sum(0), 1, rtol=1e-5)


def test_the_length_is_chosen_from_the_files(tmp_path: Path) -> None:
    def recipe(*seconds: float) -> tuple[float, int]:
        names = []
        for i, length in enumerate(seconds):
            names.append(f"{i}.wav")
            soundfile.write(tmp_path / names[-1], np.zeros(int(8000 * length)), 8000)
        found = fit_audio("s", "s", [*names, "none.wav"], tmp_path)
        return found.samples / found.rate, found.frames

    assert recipe(1.0, 1.0) == (1.0, 64)
    assert recipe(0.1) == (0.5, 64)
    assert recipe(30.0, 40.0) == (10.0, 256)
    with pytest.raises(Unreadable):
        fit_audio("s", "s", ["none.wav"], tmp_path)
