"""CMU-MOSI: film reviews spoken to a camera, utterance by utterance (Zadeh et al., 2016).

2,199 utterances of 93 videos, as features of Poria et al. (2017) and Ghosal et al. (2018): a
vector of words, one of sound, one of sight for each. A row is one utterance; its tokens are the
utterance and its `context` neighbours on either side in the same video, in the order spoken, and
padding where the video begins or ends.

- **Text** `(2·context + 1, 1 + 100)`, **audio** `(…, 1 + 73)`, **vision** `(…, 1 + 100)`, float32;
  the first column says which tokens are there (`Modality.padded`).
  The utterance in the middle is the row's own (`Modality.focus`).
- **Target** `sentiment`: negative or positive, of the utterance in the middle.
- **Split**: the published test videos are the test rows; of the other videos, some are drawn for
  validation. A video, and with it a neighbour, lies on one side only.

Beware: the features were learned with the training videos' labels. A logistic regression on the
text of most training videos is right on 0.98 to 0.99 of the others, and on 0.76 of the test rows;
sight has 0.83 to 0.91 and 0.52. Validation scores are far too high, and favour these two.

The files, without headings: `text_train.csv`, `text_test.csv` and so on, features and then the
label; `index_train.csv` and `index_test.csv`, the row's line in `transcripts.csv`, from 0; and
`transcripts.csv`: video_utterance, transcript, utterances in the video's corpus, label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polymix import seeds
from polymix.data.dataset import DatasetWriter
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.builder import Progress, silent
from polymix.datasets.cache import fingerprint_files
from polymix.datasets.mosi.files import FILES, WIDTHS, Utterances, read_utterances
from polymix.errors import UsageError
from polymix.registry import register

MAX_STEPS = 32


@register
@dataclass(frozen=True)
class Mosi:
    """Builds CMU-MOSI from its utterance features.

    Attributes:
        seed: of the videos drawn for validation.
        context: neighbours on either side of an utterance.
        val: share of the training rows that validate, about: whole videos are drawn.
    """

    NAME: ClassVar[str] = "mosi"
    SUMMARY: ClassVar[str] = "CMU-MOSI: sentiment of spoken reviews from words, sound and sight"
    MODALITIES: ClassVar[tuple[str, ...]] = ("text", "audio", "vision")
    NEEDS_RAW: ClassVar[bool] = True
    VERSION: ClassVar[int] = 2

    seed: int = 0
    context: int = 2
    val: float = 0.2

    def __post_init__(self) -> None:
        problems = []
        if not (isinstance(self.context, int) and 0 <= self.context <= MAX_STEPS):
            problems.append(
                f"dataset 'mosi': context is a number from 0 to {MAX_STEPS}, but got "
                f"{self.context!r}"
            )
        if not (isinstance(self.val, float) and 0 < self.val < 1):
            problems.append(f"dataset 'mosi': val lies between 0 and 1, but got {self.val!r}")
        if problems:
            raise UsageError(problems)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the raw files."""
        return {"seed": self.seed, "context": self.context, "val": self.val}

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the raw files' bytes."""
        folder = _located(raw)
        return fingerprint_files([(name, folder / name) for name in FILES])

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; see `Builder.build`."""
        report = progress or silent
        said = read_utterances(_located(raw))
        report(1, 2, "reading utterances")
        tokens = neighbours(said.video, said.number, self.context)
        about = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        rows = len(said.label)
        with DatasetWriter(path, self.NAME, schema(self.context), rows, about) as writer:
            there = tokens >= 0
            for name, features in said.features.items():
                writer.arrays[name][..., 0] = there
                writer.arrays[name][..., 1:] = np.where(there[..., None], features[tokens], 0)
            writer.targets[:] = said.label
            writer.codes[:] = split_codes(said, self.val, self.seed)
        report(2, 2, "reading utterances")


def neighbours(video: np.ndarray, number: np.ndarray, context: int) -> np.ndarray:
    """The rows that are each row's tokens, `(N, 2·context + 1)` int64, -1 for padding.

    Args:
        video: of each row, `(N,)`.
        number: of the utterance within its video, `(N,)`: 2 comes before 10.
        context: neighbours on either side.
    """
    order = np.lexsort((number, video))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    wanted = place[:, None] + np.arange(-context, context + 1)
    inside = (wanted >= 0) & (wanted < len(order))
    found = order[np.where(inside, wanted, 0)]
    return np.where(inside & (video[found] == video[:, None]), found, -1)


def split_codes(said: Utterances, val: float, seed: int) -> np.ndarray:
    """Split codes, `(N,)` uint8: videos are drawn for validation until their rows are enough."""
    codes = np.where(said.test, TEST, TRAIN).astype(np.uint8)
    videos = np.unique(said.video[~said.test])
    wanted = val * np.count_nonzero(~said.test)
    for video in seeds.stream(seed, "mosi validation").permutation(videos)[:-1]:
        if np.count_nonzero(codes == VAL) >= wanted:
            break
        codes[said.video == video] = VAL
    return codes


def schema(context: int) -> Schema:
    """The schema with so many neighbours on either side."""
    length = 2 * context + 1
    return Schema(
        modalities=tuple(
            Modality(
                name=name,
                kind=Kind.FEATURES,
                shape=(length, 1 + width),
                dtype="float32",
                padded=True,
                focus=context,
            )
            for name, width in WIDTHS.items()
        ),
        target=Target(name="sentiment", task=Task.BINARY, classes=("negative", "positive")),
    )


def _located(raw: Path | None) -> Path:
    if raw is None:
        raise UsageError("dataset 'mosi' is built from its CSV files: name their folder, --raw DIR")
    return raw
