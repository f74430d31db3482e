"""Which image, recording, noise and places make each row of AV-MNIST, before any is made.

A row is made from its own line of the plan and nothing else, so that whoever makes it, and in
whatever order, its sound is its label's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymix import seeds
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.avmnist.sources import Sources
from polymix.datasets.digits.mixing import place
from polymix.datasets.digits.spectrogram import RATE
from polymix.datasets.digits.spread import spread
from polymix.errors import DataError


@dataclass(frozen=True)
class PairingPlan:
    """One line a row; every array is `(N,)`: training rows, then validation, then test.

    Attributes:
        codes: split codes, uint8.
        image: index among MNIST's test images for test rows, else among its training images.
        label: the digit.
        recording: index of the spoken digit.
        place: sample at which it starts in the row's second.
        noise: index of the noise.
        noise_start: sample at which the row's second starts in the noise's part.
    """

    codes: np.ndarray
    image: np.ndarray
    label: np.ndarray
    recording: np.ndarray
    place: np.ndarray
    noise: np.ndarray
    noise_start: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def images(self, sources: Sources) -> np.ndarray:
        """The rows' images as they came, `(N, 28, 28)` uint8."""
        early = self.codes != TEST
        return np.concatenate(
            [sources.images[0][self.image[early]], sources.images[1][self.image[~early]]]
        )

    def speech(self, sources: Sources, rows: range) -> np.ndarray:
        """The rows' spoken digits in silence, `(B, 8000)` float32."""
        return np.stack(
            [place(sources.speech[self.recording[k]].wave, self.place[k]) for k in rows]
        )

    def background(self, sources: Sources, rows: range) -> np.ndarray:
        """The rows' noise, `(B, 8000)` float32."""
        return np.stack(
            [
                sources.noise[self.noise[k]].second(self.codes[k] == TEST, self.noise_start[k])
                for k in rows
            ]
        )


def make_plan(sources: Sources, rows: tuple[int, int, int], seed: int) -> PairingPlan:
    """Draw the plan.

    Args:
        sources: the raw files' content.
        rows: how many training, validation and test rows.
        seed: of every draw.

    Raises:
        DataError: there are fewer images than rows.
    """
    early, late = rows[0] + rows[1], rows[2]
    problems = [
        f"{wanted} {kind} rows are wanted, but MNIST's {half} files hold {len(labels)} images"
        for wanted, kind, half, labels in (
            (early, "training and validation", "train", sources.labels[0]),
            (late, "test", "t10k", sources.labels[1]),
        )
        if wanted > len(labels)
    ]
    if problems:
        raise DataError(problems)
    order = spread(sources.labels[0], seeds.stream(seed, "avmnist", "images"))
    val, train = np.sort(order[: rows[1]]), np.sort(order[rows[1] : early])
    test = np.sort(spread(sources.labels[1], seeds.stream(seed, "avmnist", "test"))[:late])
    codes = np.repeat(np.array([TRAIN, VAL, TEST], np.uint8), rows)
    label = np.concatenate([sources.labels[0][train], sources.labels[0][val]])
    label = np.concatenate([label, sources.labels[1][test]])
    recording, noise, start = (np.zeros(len(codes), np.int64) for _ in range(3))
    for code, name in ((TRAIN, "train"), (VAL, "val"), (TEST, "test")):
        here = codes == code
        speech_rng = seeds.stream(seed, "avmnist", "speech", name)
        recording[here] = _recordings(sources, label[here], code == TEST, speech_rng)
        noise_rng = seeds.stream(seed, "avmnist", "noise", name)
        noise[here], start[here] = _seconds(sources, int(here.sum()), code == TEST, noise_rng)
    room = RATE - np.array([len(r.wave) for r in sources.speech])[recording]
    return PairingPlan(
        codes=codes,
        image=np.concatenate([train, val, test]),
        label=label,
        recording=recording,
        place=seeds.stream(seed, "avmnist", "place").integers(0, room + 1),
        noise=noise,
        noise_start=start,
    )


def _recordings(
    sources: Sources, labels: np.ndarray, test: bool, rng: np.random.Generator
) -> np.ndarray:
    """A recording of each label's digit, of the rows' own pool: `(n,)`."""
    out = np.zeros(len(labels), np.int64)
    for digit in range(10):
        pool = [k for k, r in enumerate(sources.speech) if (r.digit, r.test) == (digit, test)]
        here = labels == digit
        out[here] = rng.choice(pool, int(here.sum()))
    return out


def _seconds(
    sources: Sources, count: int, test: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A noise file, all alike likely, and a place in its part, for each row: `(n,)` each."""
    which = rng.integers(0, len(sources.noise), count)
    where = rng.random(count)
    start = np.zeros(count, np.int64)
    for k in np.unique(which):
        allowed, here = sources.noise[k].starts(test), which == k
        start[here] = allowed[(where[here] * len(allowed)).astype(np.int64)]
    return which, start
