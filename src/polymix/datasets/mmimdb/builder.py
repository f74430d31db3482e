"""MM-IMDB: posters and plots of 25,959 films, and their genres (Arevalo et al., 2017).

A film has one or more of 23 genres. The split is the original one: 15,552 films for training,
2,608 for validation, 7,799 for test. Three forms:

- `features` (default), from `multimodal_imdb.hdf5`: image `(4096,)` VGG-16's features of the
  poster, text `(300,)` the mean of the plot's word2vec vectors, float32.
- `images`, from the same file: image `(3, height, width)` uint8 the poster made smaller, text
  as above.
- `folder`, from `split.json` and `dataset/ID.json`, `dataset/ID.jpeg`: image as in `images`, from
  the JPEG; text `(length,)` token ids of the longest plot, of at most `vocabulary` byte pairs
  learned from the training films.

A plot of which word2vec knows no word (NaN in the file), or which has none, is absent.
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
from polymix.datasets.mmimdb import hdf5
from polymix.datasets.mmimdb.folder import Film, films_in, read_facts, read_posters
from polymix.errors import DataError, UsageError
from polymix.registry import register
from polymix.tables.images import pillow
from polymix.tables.texts import TextTokenizer

# By number of films, as the authors' code orders them.
GENRES = (
    "Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror",
    "Documentary", "Mystery", "Sci-Fi", "Fantasy", "Family", "Biography", "War", "History",
    "Music", "Animation", "Musical", "Western", "Sport", "Short", "Film-Noir",
)  # fmt: skip
LIMITS = {"height": (8, 512), "width": (8, 512), "length": (1, 4096), "vocabulary": (100, 100_000)}
FORMS = {"features": "vgg_features", "images": "images", "folder": ""}


@register
@dataclass(frozen=True)
class MmImdb:
    """Builds MM-IMDB.

    Attributes:
        seed: 0; nothing is drawn, the split is the original one.
        form: `features`, `images` or `folder`.
        height: of posters.
        width: of posters.
        length: tokens of a plot (`folder`).
        vocabulary: token ids at most (`folder`).
    """

    NAME: ClassVar[str] = "mmimdb"
    SUMMARY: ClassVar[str] = "MM-IMDB: posters and plots of films, 23 genres, many to a film"
    MODALITIES: ClassVar[tuple[str, ...]] = ("image", "text")
    NEEDS_RAW: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    seed: int = 0
    form: str = "features"
    height: int = 128
    width: int = 80
    length: int = 256
    vocabulary: int = 8_000

    def __post_init__(self) -> None:
        problems = [*unseeded(self, self.seed), *one_of(self, "form", FORMS)]
        if problems := [*problems, *between(self, LIMITS)]:
            raise UsageError(problems)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the raw files."""
        of_pictures = {} if self.form == "features" else {"size": [self.height, self.width]}
        of_plots = {"length": self.length, "vocabulary": self.vocabulary}
        return {"form": self.form, **of_pictures, **(of_plots if self.form == "folder" else {})}

    def fingerprint(self, raw: Path | None) -> str:
        """Sixteen hex digits that stand for the bytes that are used."""
        raw = _named(raw)
        if self.form != "folder":
            return hdf5.fingerprint(_located(raw), self._arrays)
        films = films_in(raw)
        files = [(path.name, path) for film in films for path in (film.facts, film.poster)]
        return fingerprint_files([("split.json", raw / "split.json"), *files])

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:
        """Write the dataset's folder; see `Builder.build`."""
        raw, report = _named(raw), progress or silent
        if self.form == "folder":
            self._from_folder(path, films_in(raw), report)
        else:
            self._from_hdf5(path, _located(raw), report)

    @property
    def _arrays(self) -> tuple[str, str]:
        return FORMS[self.form], "features"

    def _from_hdf5(self, path: Path, source: Path, report: Progress) -> None:
        with hdf5.opened(source, self._arrays) as arrays:
            genres, count = arrays["genres"], len(arrays["genres"])
            names = hdf5.label_names(genres, source, GENRES)
            codes = hdf5.split_codes(genres, source)
            text = Modality(name="text", kind=Kind.FEATURES, shape=(300,), dtype="float32")
            with self._writer(path, text, names, count) as writer:
                writer.codes[:] = codes
                for where, labels in hdf5.rows_of(genres, source):
                    writer.targets[where] = labels > 0
                for column, (name, array) in enumerate(
                    zip(writer.arrays, self._arrays, strict=True)
                ):
                    for where, rows in hdf5.rows_of(arrays[array], source):
                        if array == "images":
                            writer.arrays[name][where] = self._smaller(rows)
                        else:
                            known = np.isfinite(rows).all(1)
                            writer.present[where, column] = known
                            writer.arrays[name][where] = np.where(known[:, None], rows, 0)
                        report(where.stop, count, f"copying {name}")

    def _from_folder(self, path: Path, films: tuple[Film, ...], report: Progress) -> None:
        pillow()
        facts = read_facts(films)
        report(1, 1, "reading plots")
        plots, codes = [fact.plot for fact in facts], np.array([film.code for film in films])
        tokenizer = TextTokenizer(
            [p for p, c in zip(plots, codes, strict=True) if c == TRAIN], self.vocabulary
        )
        text = Modality(
            name="text", kind=Kind.TEXT, shape=(self.length,), dtype="int32",
            vocabulary=max(len(tokenizer), 2),
        )  # fmt: skip
        with self._writer(path, text, GENRES, len(films)) as writer:
            writer.codes[:] = codes
            writer.targets[:] = [[genre in fact.genres for genre in GENRES] for fact in facts]
            writer.arrays["text"][:] = tokenizer(plots, self.length)
            writer.present[:, 1] = writer.arrays["text"].any(1)
            posters = read_posters(films, self.height, self.width)
            for row, poster in enumerate(posters):
                writer.arrays["image"][row] = poster
                report(row + 1, len(films), "reading posters")

    def _smaller(self, posters: np.ndarray) -> np.ndarray:
        """Posters of the file made smaller: `(B, 3, H, W)` to `(B, 3, height, width)` uint8."""
        image, size = pillow(), (self.width, self.height)
        pixels = np.clip(posters, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        resized = [
            np.asarray(image.fromarray(p).resize(size, image.Resampling.BOX)) for p in pixels
        ]
        return np.stack(resized).transpose(0, 3, 1, 2)

    def _writer(
        self, path: Path, text: Modality, genres: tuple[str, ...], rows: int
    ) -> DatasetWriter:
        if self.form == "features":
            image = Modality(name="image", kind=Kind.FEATURES, shape=(4096,), dtype="float32")
        else:
            shape = (3, self.height, self.width)
            image = Modality(name="image", kind=Kind.IMAGE, shape=shape, dtype="uint8")
        schema = Schema(
            modalities=(image, text),
            target=Target(name="genres", task=Task.MULTILABEL, classes=genres),
        )
        about = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        return DatasetWriter(path, self.NAME, schema, rows, about)


def _named(raw: Path | None) -> Path:
    if raw is None:
        raise UsageError("dataset 'mmimdb' is built from raw files: name their folder, --raw DIR")
    return raw


def _located(raw: Path) -> Path:
    path = raw / hdf5.FILE
    if not path.is_file():
        hint = (
            "; what is there, posters and plots, is read with the setting form=folder"
            if (raw / "split.json").is_file()
            else ": download it there"
        )
        raise DataError(f"{path} is missing{hint}")
    return path
