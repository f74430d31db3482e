from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from polymix.datasets.avmnist.pca import LeadingComponents
from polymix.datasets.digits.mixing import loudest_second, mix, place
from polymix.datasets.digits.sound import read_sound, trim_silence
from polymix.datasets.digits.spectrogram import Spectrogram
from polymix.datasets.digits.spread import spread
from polymix.datasets.digits.voice import change_voice
from polymix.errors import DataError, MissingExtraError


def tone(hertz: float, count: int = 8000) -> np.ndarray:
    return (np.sqrt(2) * np.sin(2 * np.pi * hertz * np.arange(count) / 8000)).astype(np.float32)


@pytest.mark.parametrize("size", [64, 112])
def test_a_tone_lies_at_its_frequency_and_white_noise_at_0_db(size: int) -> None:
    spectrogram = Spectrogram(size)
    picture = spectrogram(tone(1000)[None])
    assert picture.shape == (1, size, size)
    assert picture.dtype == np.uint8
    peak = round(1000 * spectrogram.window / 8000) - 1
    assert set(picture[0].argmax(0)) <= {peak - 1, peak, peak + 1}
    noise = np.random.default_rng(0).standard_normal((50, 8000)).astype(np.float32)
    level = spectrogram(noise).astype(float) * 80 / 255 - 50
    assert 10 * np.log10((10 ** (level / 10)).mean()) == pytest.approx(0, abs=0.2)


def test_time_runs_along_the_last_axis_and_silence_is_zero() -> None:
    wave = np.zeros((1, 8000), np.float32)
    wave[0, 6000:] = tone(500, 2000)
    picture = Spectrogram()(wave)[0]
    assert not picture[:, :80].any()
    assert picture[:, 90:].any()


def test_a_row_has_the_same_spectrogram_alone_and_in_a_batch() -> None:
    waves = np.random.default_rng(0).standard_normal((7, 8000)).astype(np.float32)
    together = Spectrogram()(waves).astype(int)
    alone = np.concatenate([Spectrogram()(wave[None]) for wave in waves]).astype(int)
    assert np.abs(together - alone).max() <= 1


@given(snr_db=st.floats(-200, 200))
def test_any_ratio_gives_a_finite_mixture_of_rms_1(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    speech, noise = rng.standard_normal((2, 3, 8000)).astype(np.float32)
    mixed = mix(speech * 1e-4, noise * 30, snr_db)
    np.testing.assert_allclose(np.sqrt((mixed.astype(float) ** 2).mean(1)), 1, rtol=1e-4)


def test_loudest_second() -> None:
    wave = np.zeros(20_000, np.float32)
    wave[9_000:12_000] = 1
    assert loudest_second(wave).sum() == 3000
    assert len(loudest_second(wave)) == 8000
    assert loudest_second(wave[:100]) is not None


def test_place() -> None:
    second = place(np.ones(3, np.float32), 7997)
    assert second.shape == (8000,)
    assert second.sum() == second[7997:].sum() == 3


def test_components_up_to_the_one_over_the_share() -> None:
    rng = np.random.default_rng(0)
    # Three directions with 60, 30 and 10 of the variance.
    images = 128 + rng.standard_normal((4000, 3)) * np.sqrt([600, 300, 100])
    images = np.rint(images).clip(0, 255).astype(np.uint8)
    assert LeadingComponents.fit(images, 0.25).basis.shape == (3, 1)
    two = LeadingComponents.fit(images, 0.7)
    assert two.basis.shape == (3, 2)
    assert two.explained == pytest.approx(0.9, abs=0.02)
    all_three = LeadingComponents.fit(images, 0.99)
    np.testing.assert_array_equal(all_three.reconstruct(images), images)
    kept = two.reconstruct(images).astype(float)
    assert np.abs(kept - images).mean(0).argmax() == 2


def test_images_that_are_all_alike() -> None:
    with pytest.raises(DataError, match="all alike"):
        LeadingComponents.fit(np.full((9, 28, 28), 7, np.uint8), 0.25)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (16_000, 3), (7999, 1)])
def test_any_rate_and_channels_become_one_channel_at_8_khz(
    tmp_path: Path, rate: int, channels: int
) -> None:
    time = np.arange(rate * 2) / rate
    wave = np.repeat(0.5 * np.sin(2 * np.pi * 440 * time)[:, None], channels, 1)
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, rate)
    for source in (path, path.read_bytes()):
        read = read_sound(source, "a.wav")
        assert read.dtype == np.float32
        assert abs(len(read) - 16_000) <= 4
        assert np.abs(np.fft.rfft(read[:8000])).argmax() == 440


@pytest.mark.parametrize("content", [b"", b"not sound at all", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_sound_is_named(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.wav"):
        read_sound(content, "x.wav")


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0, np.nan, 1]), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match="not finite"):
        read_sound(tmp_path / "a.wav", "a.wav")


def test_a_missing_library_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingExtraError, match=r'pip install "polymix\[audio\]"'):
        read_sound(b"", "x.wav")


def test_trim_silence() -> None:
    wave = np.array([0, 0, 1, 0, -1, 0], np.float32)
    assert trim_silence(wave).tolist() == [1, 0, -1]
    assert len(trim_silence(np.zeros(5, np.float32))) == 0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 99))
def test_every_beginning_of_a_spread_is_stratified(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    order = spread(array, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(array)))
    for digit in set(labels):
        share = (array == digit).mean()
        seen = np.cumsum(array[order] == digit)
        # Other classes' places are off by one each at most, and so is its own.
        assert np.abs(seen - share * np.arange(1, len(array) + 1)).max() <= 1 + len(set(labels))


@pytest.mark.parametrize(("speed", "pitch"), [(0.75, 1.3), (1.0, 1.0), (1.35, 0.8)])
def test_speed_changes_the_length_and_pitch_the_frequency(speed: float, pitch: float) -> None:
    changed = change_voice(tone(800, 4000), speed, pitch)
    assert len(changed) == pytest.approx(4000 / speed, rel=0.01)
    peak = np.abs(np.fft.rfft(changed)).argmax() * 8000 / len(changed)
    assert peak == pytest.approx(800 * pitch, rel=0.03)
    assert np.abs(changed).max() < 2
