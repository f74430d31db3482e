"""MELD: emotion, or sentiment, of 13,708 utterances from Friends (Poria et al. 2019).

From the three official files `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`,
which are the split, and from pickles of features where they lie beside them: a list of three
dicts, for training, development and test, from `dialogue_utterance` to a vector of D numbers.

- **Text** `(length,)` token ids of the utterance, of at most `vocabulary` byte pairs learned from
  the training rows.
- **Glove** `(300,)` float32, from `text_glove_average_TASK.pkl`, if it is there.
- **Audio** `(1611,)` or `(1422,)` float32, from `audio_embeddings_feature_selection_TASK.pkl`, if
  it is there.
- Others by the setting `features`, `{name: file}`, which then names all that are read.
- **Task** `emotion`: seven classes, of which `neutral` is nearly half; **task** `sentiment`: three.

An utterance that a file of features does not have is absent there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polymix.data.dataset import DatasetWriter
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TRAIN
from polymix.datasets.builder import Progress, between, one_of, silent, unseeded
from polymix.datasets.cache import fingerprint_files
from polymix.datasets.meld.files import TABLES, Spoken, read_features, read_tables
from polymix.errors import DataError, UsageError
from polymix.registry import register
from polymix.tables.texts import TextTokenizer

CLASSES = {
    "emotion": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "sentiment": ("neutral", "positive", "negative"),
}
KNOWN = {
    "glove": "text_glove_average_{}.pkl",
    "audio": "audio_embeddings_feature_selection_{}.pkl",
}


@register
@dataclass(frozen=True)
class Meld:
    """Builds MELD.

    Attributes:
        seed: 0; nothing is drawn, the split is the official one.
        task: `emotion` or `sentiment`.
        features: pickles to read, by the modality's name; the official ones that are there where
            not given.
        length: tokens of an utterance.
        vocabulary: token ids at most.
    """

    NAME: ClassVar[str] = "meld"
    SUMMARY: ClassVar[str] = "MELD: emotion, or sentiment, of what is said in Friends"
    MODALITIES: ClassVar[tuple[str, ...]] = ("text", "glove", "audio")
    NEEDS_RAW: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    seed: int = 0
    task: str = "emotion"
    features: dict[str, str] | None = None
    length: int = 32
    vocabulary: int = 4_000

    def __post_init__(self) -> None:
        problems = [*unseeded(self, self.seed), *one_of(self, "task", CLASSES)]
        for name, file in (self.features or {}).items():
            if name == "text" or not file or Path(file).name != file:
                problems.append(
                    "dataset 'meld': features are {name: file in the raw folder}, and text is "
                    f"taken, but got {{{name}: {file}}}"
                )
        problems += between(self, {"length": (1, 512), "vocabulary": (100, 100_000)})
        if problems:
            raise UsageError(problems)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the raw files."""
        return {
            "task": self.task,
            "features": self.features,
            "length": self.length,
            "vocabulary": self.vocabulary,
        }

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the raw files' bytes."""
        folder = _located(raw)
        files = [*TABLES, *self._files(folder).values()]
        return fingerprint_files([(name, folder / name) for name in files])

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; see `Builder.build`."""
        report, folder = progress or silent, _located(raw)
        spoken = read_tables(folder, self.task, CLASSES[self.task])
        files = self._files(folder)
        report(1, 2 + len(files), "reading utterances")
        learned = [s.text for s in spoken if s.code == TRAIN]
        tokenizer = TextTokenizer(learned, self.vocabulary)
        found = {}
        for step, (name, file) in enumerate(files.items()):
            found[name] = read_features(folder / file, spoken)
            report(2 + step, 2 + len(files), f"reading {file}")
        made = self._schema(max(len(tokenizer), 2), {n: x.shape[1] for n, (x, _) in found.items()})
        about = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        with DatasetWriter(path, self.NAME, made, len(spoken), about) as writer:
            self._write(writer, spoken, tokenizer, found)
        report(2 + len(files), 2 + len(files), "writing")

    def _write(
        self,
        writer: DatasetWriter,
        spoken: list[Spoken],
        tokenizer: TextTokenizer,
        found: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        writer.codes[:] = [s.code for s in spoken]
        writer.targets[:] = [s.label for s in spoken]
        writer.arrays["text"][:] = tokenizer([s.text for s in spoken], self.length)
        writer.present[:, 0] = writer.arrays["text"].any(1)
        for column, (name, (vectors, there)) in enumerate(found.items(), 1):
            writer.arrays[name][:] = vectors
            writer.present[:, column] = there

    def _files(self, folder: Path) -> dict[str, str]:
        """The pickles that are read, by modality."""
        if self.features is not None:
            return dict(self.features)
        named = {name: pattern.format(self.task) for name, pattern in KNOWN.items()}
        return {name: file for name, file in named.items() if (folder / file).is_file()}

    def _schema(self, vocabulary: int, widths: Mapping[str, int]) -> Schema:
        text = Modality(
            name="text", kind=Kind.TEXT, shape=(self.length,), dtype="int32", vocabulary=vocabulary
        )
        others = tuple(
            Modality(name=name, kind=Kind.FEATURES, shape=(width,), dtype="float32")
            for name, width in widths.items()
        )
        target = Target(name=self.task, task=Task.MULTICLASS, classes=CLASSES[self.task])
        return Schema(modalities=(text, *others), target=target)


def _located(raw: Path | None) -> Path:
    if raw is None:
        raise UsageError("dataset 'meld' is built from its CSV files: name their folder, --raw DIR")
    missing = [name for name in TABLES if not (raw / name).is_file()]
    if missing:
        raise DataError(
            [f"{raw / name} is missing: see affective-meld.github.io" for name in missing]
        )
    return raw
