from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.conftest import ROWS, spoken, write_raw
from polymix.data.dataset import Dataset
from polymix.data.split import TEST
from polymix.datasets.avmnist.builder import CHUNK, SPECTROGRAM, AvMnist, waves
from polymix.datasets.avmnist.pca import LeadingComponents
from polymix.datasets.avmnist.plan import PairingPlan, make_plan
from polymix.datasets.avmnist.raw import locate
from polymix.datasets.avmnist.sources import Noise, Sources, read_sources
from polymix.datasets.builder import silent
from polymix.datasets.digits.mixing import mix, place, rms
from polymix.errors import UsageError

REAL_ROWS = (1200, 150, 250)


def build(path: Path, raw: Path, **settings: object) -> Dataset:
    AvMnist(**{"rows": ROWS, **settings}).build(path, raw)  # type: ignore[arg-type]
    return Dataset.open(path)


def same_bytes(one: Path, other: Path) -> bool:
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in other.iterdir())
    return all((one / n).read_bytes() == (other / n).read_bytes() for n in names)


@pytest.fixture(scope="session")
def real_sources(real_raw: Path) -> Sources:
    return read_sources(locate(real_raw), silent)


@pytest.fixture(scope="session")
def real_dataset(real_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("real") / "avmnist"
    return build(path, real_raw, rows=REAL_ROWS, snr_db=60.0)


def test_rows_shapes_and_split(tmp_path: Path, tiny_raw: Path) -> None:
    dataset = build(tmp_path / "d", tiny_raw)
    assert dataset.schema.names == AvMnist.MODALITIES
    assert dataset.arrays["image"].shape == (80, 1, 28, 28)
    assert dataset.arrays["audio"].shape == (80, 1, 112, 112)
    assert dataset.split.train.tolist() == list(range(40))
    assert dataset.split.val.tolist() == list(range(40, 60))
    assert dataset.split.test.open().tolist() == list(range(60, 80))
    for rows in (dataset.split.train, dataset.split.val, dataset.split.test.open()):
        assert np.bincount(dataset.targets[rows]).tolist() == [len(rows) // 10] * 10


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path, tiny_raw: Path) -> None:
    for name, settings in (
        ("one", {"workers": 1}),
        ("many", {"workers": 7}),
        ("seed", {"seed": 1}),
        ("snr", {"snr_db": -7.0}),
    ):
        AvMnist(rows=(60, 20, 30), **settings).build(tmp_path / name, tiny_raw)  # type: ignore[arg-type]
    assert same_bytes(tmp_path / "one", tmp_path / "many")
    assert not same_bytes(tmp_path / "one", tmp_path / "seed")
    assert not same_bytes(tmp_path / "one", tmp_path / "snr")


def test_more_chunks_than_workers_keep_their_places(tmp_path: Path) -> None:
    raw, rows = write_raw(tmp_path / "raw", 800, 260), (2 * CHUNK + 7, CHUNK, CHUNK)
    for workers in (1, 3):
        AvMnist(rows=rows, workers=workers).build(tmp_path / f"{workers}", raw)
    assert same_bytes(tmp_path / "1", tmp_path / "3")


def test_each_sound_is_its_labels(tmp_path: Path, tiny_raw: Path) -> None:
    dataset = build(tmp_path / "d", tiny_raw, snr_db=150.0)
    for row, digit in enumerate(dataset.targets):
        loudest = dataset.arrays["audio"][row, 0].astype(int).max(1).argmax()
        hertz = (loudest + 1) * 8000 / SPECTROGRAM.window
        assert abs(hertz - (300 + 300 * digit)) < 40


def test_each_real_sound_is_a_recording_of_its_labels_digit(
    real_dataset: Dataset, real_sources: Sources
) -> None:
    """Of all recordings, laid anywhere, the one most like a row's sound says the row's digit."""
    alone = np.stack([place(r.wave, 0) for r in real_sources.speech])
    faint = np.random.default_rng(0).standard_normal(alone.shape).astype(np.float32)
    known = np.concatenate(
        [
            SPECTROGRAM(0.01 * mix(alone[k : k + 250], faint[k : k + 250], 60.0))
            for k in range(0, 3000, 250)
        ]
    )
    # Speech may start between two frames: time's spectrum is compared without its phase.
    digest = lambda p: _unit(np.abs(np.fft.rfft(p.astype(np.float32), axis=2)))  # noqa: E731
    digits = np.array([r.digit for r in real_sources.speech])
    known_digest = digest(known)
    rows = np.random.default_rng(1).choice(sum(REAL_ROWS), 300, replace=False)
    seen = digest(np.asarray(real_dataset.arrays["audio"])[rows, 0])
    nearest = digits[(seen @ known_digest.T).argmax(1)]
    assert (nearest == real_dataset.targets[rows]).mean() > 0.97


def test_rendering_is_the_plans(real_dataset: Dataset, real_sources: Sources) -> None:
    plan = make_plan(real_sources, REAL_ROWS, 0)
    np.testing.assert_array_equal(plan.label, real_dataset.targets)
    np.testing.assert_array_equal(plan.codes == TEST, np.arange(len(plan)) >= 1350)
    for row in (0, 249, 250, 1199, 1200, 1349, 1350, 1599):
        speech = real_sources.speech[plan.recording[row]]
        noise = real_sources.noise[plan.noise[row]]
        part = noise.wave[noise.cut :] if plan.codes[row] == TEST else noise.wave[: noise.cut]
        second = part[plan.noise_start[row] :][:8000]
        mixed = mix(place(speech.wave, plan.place[row])[None], second[None], 60.0)
        picture = SPECTROGRAM(mixed * np.sqrt(np.mean(second**2)))[0].astype(int)
        stored = real_dataset.arrays["audio"][row, 0].astype(int)
        assert np.abs(stored - picture).max() <= 1
    early = plan.codes != TEST
    kept = LeadingComponents.fit(real_sources.images[0][plan.image[:1200]], 0.25)
    images = kept.reconstruct(real_sources.images[0][plan.image[early]])
    np.testing.assert_array_equal(real_dataset.arrays["image"][early, 0], images)


def test_the_ratio_and_the_level(real_sources: Sources) -> None:
    """What is left of a row without its noise is its speech, `snr_db` above that noise."""
    rows, snr_db = range(80), -8.0
    plan = make_plan(real_sources, (40, 20, 20), 0)
    sound = waves(plan, real_sources, rows, snr_db).astype(float)
    noise = plan.background(real_sources, rows).astype(float)
    speech = plan.speech(real_sources, rows).astype(float)
    np.testing.assert_allclose(rms(sound), rms(noise), rtol=1e-4)
    for k in rows:
        gains = np.linalg.lstsq(np.stack([speech[k], noise[k]], 1), sound[k])[0]
        np.testing.assert_allclose(gains @ [speech[k], noise[k]], sound[k], atol=1e-5)
        ratio = rms(gains[0] * speech[k][None]) / rms(gains[1] * noise[k][None])
        assert 20 * np.log10(ratio[0]) == pytest.approx(snr_db, abs=0.01)


def test_the_full_plan(real_sources: Sources) -> None:
    builder = AvMnist()
    plan = make_plan(real_sources, builder.rows, 0)
    assert np.bincount(plan.codes).tolist() == [55_000, 5_000, 10_000]
    early, late = plan.codes != TEST, plan.codes == TEST
    # Every image once, each with its own label.
    assert sorted(plan.image[early]) == list(range(60_000))
    assert plan.image[late].tolist() == list(range(10_000))
    np.testing.assert_array_equal(plan.label[early], real_sources.labels[0][plan.image[early]])
    np.testing.assert_array_equal(plan.label[late], real_sources.labels[1])
    shares = [np.bincount(plan.label[plan.codes == c]) / (plan.codes == c).sum() for c in (0, 1)]
    assert np.abs(shares[0] - shares[1]).max() < 0.001
    check_plan(plan, real_sources)
    # Everything that may be drawn is drawn about as often.
    counts = np.bincount(plan.recording[early], minlength=3000)
    allowed = np.array([not r.test for r in real_sources.speech])
    assert counts[allowed].min() > 0
    assert not counts[~allowed].any()
    assert np.bincount(plan.noise).min() / len(plan) > 0.12


def test_four_components_of_the_real_images(real_sources: Sources) -> None:
    kept = LeadingComponents.fit(real_sources.images[0][::3], 0.25)
    assert kept.basis.shape == (784, 4)
    assert kept.explained == pytest.approx(0.28, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_a_tiny_plan(tiny_raw: Path, seed: int) -> None:
    sources = read_sources(locate(tiny_raw), silent)
    plan = make_plan(sources, ROWS, seed)
    check_plan(plan, sources)
    assert np.isfinite(waves(plan, sources, range(len(plan)), -8.0)).all()


def check_plan(plan: PairingPlan, sources: Sources) -> None:
    """Recordings and noise stay on their side, and say what the label says."""
    test = plan.codes == TEST
    numbers = np.array([int(r.name[:-4].rsplit("_")[-1]) for r in sources.speech])
    digits = np.array([int(r.name[0]) for r in sources.speech])
    lengths = np.array([len(r.wave) for r in sources.speech])
    chosen = numbers[plan.recording]
    np.testing.assert_array_equal(test, (chosen >= 40) & (chosen <= 49))
    np.testing.assert_array_equal(digits[plan.recording], plan.label)
    assert (plan.place >= 0).all()
    assert (plan.place + lengths[plan.recording] <= 8000).all()
    cuts = np.array([noise.cut for noise in sources.noise])[plan.noise]
    sizes = np.array([len(noise.wave) for noise in sources.noise])[plan.noise]
    parts = np.where(test, sizes - cuts, cuts)
    assert (plan.noise_start >= 0).all()
    assert (plan.noise_start <= np.maximum(parts - 8000, parts * (parts < 8000))).all()
    np.testing.assert_allclose(cuts, sizes * 0.8, atol=1)


def test_noise_parts_never_meet(tiny_raw: Path) -> None:
    """Every second that may be drawn holds samples of its own part alone."""
    for length in (7, 900, 12_000, 50_000):
        wave = np.arange(1, length + 1, dtype=np.float32)
        noise = Noise("n", wave, length * 4 // 5)
        for test in (False, True):
            for start in noise.starts(test)[[0, -1]]:
                second = noise.second(test, start)
                assert second.shape == (8000,)
                assert ((second > noise.cut) == test).all()


def test_silent_seconds_are_not_drawn() -> None:
    wave = np.random.default_rng(0).standard_normal(60_000).astype(np.float32)
    wave[10_000:30_000] = 0
    starts = Noise("n", wave, 48_000).starts(False)
    assert not set(starts) & set(range(10_010, 21_990))
    assert {0, 5_000, 25_000, 40_000} <= set(starts)


def test_test_images_have_no_part_in_the_components(tmp_path: Path, tiny_raw: Path) -> None:
    sources = read_sources(locate(tiny_raw), silent)
    dataset = build(tmp_path / "d", tiny_raw)
    plan = make_plan(sources, ROWS, 0)
    train = plan.image[:40]
    kept = LeadingComponents.fit(sources.images[0][train], 0.25)
    np.testing.assert_array_equal(
        dataset.arrays["image"][:40, 0], kept.reconstruct(sources.images[0][train])
    )


def test_recordings_longer_than_a_second_are_cropped(real_sources: Sources) -> None:
    lengths = [len(r.wave) for r in real_sources.speech]
    assert max(lengths) == 8000
    assert sum(length == 8000 for length in lengths) >= 20


def test_progress_runs_to_its_end(tmp_path: Path, tiny_raw: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    builder = AvMnist(rows=ROWS)
    builder.build(tmp_path / "d", tiny_raw, lambda *step: seen.append(step))
    last = {what: (done, total) for done, total, what in seen}
    assert set(last) == {"reading raw files", "mixing sounds", "finishing"}
    assert all(done == total for done, total in last.values())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seed": -1}, "seed >= 0"),
        ({"snr_db": float("nan")}, "snr_db <= 200 must hold, but got nan"),
        ({"rows": (1, 0, 1)}, "rows"),
        ({"workers": 0}, "workers >= 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        AvMnist(**settings)  # type: ignore[arg-type]


def test_the_tiny_recordings_differ() -> None:
    assert len({len(spoken(0, n)) for n in (0, 1, 7, 40)}) == 4


def _unit(digest: np.ndarray) -> np.ndarray:
    flat = digest.reshape(len(digest), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)
