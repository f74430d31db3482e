"""AV-MNIST: written digits made poor, and the same digits spoken in noise.

The dataset of Vielzeuf et al., "CentralNet" (2018), as the architecture searches use it (MFAS,
BM-NAS, MixMAS, M2-Mixer), built from raw files by a protocol in which every sound is its
label's. What is not in the papers is decided here:

- **Rows.** 55,000 training and 5,000 validation rows from MNIST's 60,000 training images, drawn
  so that each digit keeps its proportion; MNIST's 10,000 for test. Each image once.
- **Image**, `(1, 28, 28)` uint8. The principal components of the training rows' images
  (validation and test have no part in them), up to and including the one that takes their share
  of the variance over 25%: 4 of MNIST's, 28%. Images are what these keep, rounded, clipped to
  0..255.
- **Speech.** A recording of the row's digit, drawn evenly from all its recordings. Numbers 40-49
  are for test rows alone, all others for training and validation. It starts anywhere from which
  it ends within the second; of a recording longer than a second, the second with most energy is
  taken.
- **Noise.** A second of a noise file: files all alike likely, places in one too. The last fifth
  of each file is for test alone. Channels are averaged, the rate becomes 8 kHz; silence before
  and after is cut first, parts shorter than a second are looped, and seconds 60 dB below their
  part's loudest are not drawn.
- **Mixture.** Speech and noise at `snr_db`: the speech's energy to the noise's over the row's
  second, silence around the speech included. The mixture has the RMS that the noise was recorded
  with, so that rows are as loud or as quiet as their noise, and speech must be heard at any level.
- **Sound**, `(1, 112, 112)` uint8, frequency by time, lowest first: log-power spectrogram, Hann
  window of 28 ms (224 samples), hop 8.75 ms (70), no padding, the constant bin left out. White
  noise of RMS 1 (full scale is 1) lies at 0 dB; bytes are -90..10 dB, 0.39 dB a step, clipped.

Everything is drawn in a plan first (`avmnist_plan`); rows are made from it in chunks of fixed
size, each into its own place, so that the bytes do not depend on the number of workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polymix.data.dataset import DatasetWriter
from polymix.datasets.avmnist.pca import LeadingComponents
from polymix.datasets.avmnist.plan import PairingPlan, make_plan
from polymix.datasets.avmnist.raw import locate
from polymix.datasets.avmnist.sources import Sources, read_sources
from polymix.datasets.builder import Progress, digits_schema, silent
from polymix.datasets.cache import fingerprint_files
from polymix.datasets.digits.mixing import mix, rms
from polymix.datasets.digits.spectrogram import Spectrogram
from polymix.errors import UsageError
from polymix.registry import register

ROWS = (55_000, 5_000, 10_000)
VARIANCE = 0.25
SPECTROGRAM = Spectrogram(112, low=-90.0, high=10.0)
CHUNK = 250


@register
@dataclass(frozen=True)
class AvMnist:
    """Builds AV-MNIST.

    Attributes:
        seed: of every draw.
        snr_db: speech to noise, in dB.
        rows: training, validation and test rows; fewer are drawn so that digits keep their
            proportions.
        workers: threads; as many as there are processors where not given. Not in the bytes.
    """

    NAME: ClassVar[str] = "avmnist"
    SUMMARY: ClassVar[str] = "written digits reduced to 4 components, spoken digits in noise"
    MODALITIES: ClassVar[tuple[str, ...]] = ("image", "audio")
    NEEDS_RAW: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    seed: int = 0
    snr_db: float = -8.0
    rows: tuple[int, int, int] = ROWS
    workers: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        problems = []
        if self.seed < 0:
            problems.append(f"seed >= 0 must hold, but got {self.seed}")
        if not (math.isfinite(self.snr_db) and abs(self.snr_db) <= 200):
            problems.append(f"-200 <= snr_db <= 200 must hold, but got {self.snr_db}")
        if len(self.rows) != 3 or min(self.rows) < 1:
            problems.append(f"rows are three numbers from 1 on, but got {self.rows}")
        if self.workers is not None and self.workers < 1:
            problems.append(f"workers >= 1 must hold, but got {self.workers}")
        if problems:
            raise UsageError(problems)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the raw files."""
        chosen: dict[str, Any] = {"seed": self.seed, "snr_db": float(self.snr_db)}
        return chosen if tuple(self.rows) == ROWS else {**chosen, "rows": list(self.rows)}

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the raw files' bytes."""
        return fingerprint_files(locate(_named(raw)).roles())

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; see `Builder.build`."""
        report = progress or silent
        sources = read_sources(locate(_named(raw)), report)
        plan = make_plan(sources, self.rows, self.seed)
        images = plan.images(sources)
        components = LeadingComponents.fit(images[: self.rows[0]], VARIANCE)
        about = {
            "builder": self.NAME,
            "version": self.VERSION,
            **self.settings,
            "pca": {"components": components.basis.shape[1], "variance": components.explained},
            "speech": len(sources.speech),
            "noise": [noise.name for noise in sources.noise],
        }
        with DatasetWriter(
            path, self.NAME, digits_schema(SPECTROGRAM.size), len(plan), about
        ) as writer:
            writer.arrays["image"][:, 0] = components.reconstruct(images)
            writer.targets[:] = plan.label
            writer.codes[:] = plan.codes
            self._sounds(plan, sources, writer.arrays["audio"], report)
            report(0, 1, "finishing")
        report(1, 1, "finishing")

    def _sounds(
        self,
        plan: PairingPlan,
        sources: Sources,
        out: np.ndarray,
        report: Progress,
    ) -> None:
        """Fill `out`, `(N, 1, size, size)`, each chunk in its own place."""
        chunks = [range(k, min(k + CHUNK, len(plan))) for k in range(0, len(plan), CHUNK)]

        def render(rows: range) -> int:
            out[rows.start : rows.stop, 0] = SPECTROGRAM(waves(plan, sources, rows, self.snr_db))
            return rows.stop

        with ThreadPoolExecutor(self.workers or os.cpu_count()) as pool:
            try:
                for done in pool.map(render, chunks):
                    report(done, len(plan), "mixing sounds")
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def waves(plan: PairingPlan, sources: Sources, rows: range, snr_db: float) -> np.ndarray:
    """The rows' sounds before they become spectrograms, `(B, 8000)` float32, as loud as noise."""
    noise = plan.background(sources, rows)
    loudness = rms(noise).astype(np.float32)[:, None]
    sound: np.ndarray = mix(plan.speech(sources, rows), noise, snr_db) * loudness
    return sound


def _named(raw: Path | None) -> Path:
    if raw is None:
        raise UsageError("dataset 'avmnist' is built from raw files: name their folder, --raw DIR")
    return raw
