"""MM-IMDB's folder: `split.json`, and `dataset/` with a film's `ID.json` and `ID.jpeg`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymix.data.split import TEST, TRAIN, VAL
from polymix.errors import DataError
from polymix.tables.images import pillow

SPLITS = {"train": TRAIN, "dev": VAL, "test": TEST}
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
FORMATS = ("JPEG", "PNG")
PIXELS = 50_000_000
SHOWN = 20


@dataclass(frozen=True)
class Film:
    """A film.

    Attributes:
        name: its number at IMDb.
        code: the split that it is in.
        facts: its JSON file.
        poster: its picture.
    """

    name: str
    code: int
    facts: Path
    poster: Path


@dataclass(frozen=True)
class Facts:
    """What a film's JSON says.

    Attributes:
        plot: the longest of its plots.
        genres: all that it names.
    """

    plot: str
    genres: frozenset[str]


def films_in(raw: Path) -> tuple[Film, ...]:
    """The films of the split: training, validation, test, as `split.json` orders them.

    Raises:
        DataError: `split.json` cannot be used, or files are missing; every problem is listed.
    """
    where = raw / "split.json"
    try:
        split = json.loads(where.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where} cannot be read: {error}") from None
    problems, films, seen = [], [], set()
    for name, code in SPLITS.items():
        listed = split.get(name) if isinstance(split, dict) else None
        if not isinstance(listed, list) or not listed:
            problems.append(f"{where}: '{name}' is to list films, but is {str(listed)[:40]}")
            continue
        for film in map(str, listed):
            if not IDENTIFIER.fullmatch(film):
                problems.append(f"{where}: {film[:60]!r} is no film's number")
            elif film in seen:
                problems.append(f"{where}: film {film} is listed twice")
            else:
                stem = raw / "dataset" / film
                facts, poster = stem.with_suffix(".json"), stem.with_suffix(".jpeg")
                problems += [f"{p} is missing" for p in (facts, poster) if not p.is_file()]
                films.append(Film(film, code, facts, poster))
            seen.add(film)
    if problems:
        raise DataError(shortened(problems))
    return tuple(films)


def read_facts(films: Sequence[Film]) -> list[Facts]:
    """Every film's plot and genres.

    Raises:
        DataError: files cannot be used; they are listed.
    """
    problems, found = [], []
    for film in films:
        try:
            said = json.loads(film.facts.read_text(encoding="utf-8"))
            found.append(_facts(said))
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            problems.append(f"{film.facts} cannot be read: {error or type(error).__name__}")
    if problems:
        raise DataError(shortened(problems))
    return found


def read_posters(films: Sequence[Film], height: int, width: int) -> Iterator[np.ndarray]:
    """Every film's poster, filling `height` by `width`, what is over on two sides cut off.

    Yields:
        `(3, height, width)` uint8, RGB.

    Raises:
        DataError: posters cannot be read; they are listed, after the last.
        MissingExtraError: Pillow is not installed.
    """
    library = pillow()
    problems: list[str] = []
    for film in films:
        try:
            yield read_poster(library, film.poster, height, width)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(shortened(problems))


def read_poster(library: Any, path: Path, height: int, width: int) -> np.ndarray:
    """One poster; see `read_posters`."""
    from PIL import ImageOps

    try:
        with library.open(path, formats=FORMATS) as image:
            if image.width * image.height > PIXELS:
                raise DataError(f"{path} has {image.width} x {image.height} pixels, too many")
            # A JPEG is unpacked at the smallest of its sizes that is large enough.
            image.draft("RGB", (2 * width, 2 * height))
            fitted = ImageOps.fit(image.convert("RGB"), (width, height))
    except (OSError, ValueError, SyntaxError, library.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}") from None
    return np.asarray(fitted, np.uint8).transpose(2, 0, 1)


def shortened(problems: list[str]) -> list[str]:
    """The first of many problems, and how many more there are."""
    more = len(problems) - SHOWN
    return problems if more <= 1 else [*problems[:SHOWN], f"and {more} more like these"]


def _facts(said: Any) -> Facts:
    if not isinstance(said, dict):
        raise TypeError("it holds no facts by name")
    plots, genres = said.get("plot", []), said.get("genres", [])
    plots = [plots] if isinstance(plots, str) else plots
    for name, texts in (("plot", plots), ("genres", genres)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"its '{name}' is no list of texts")
    return Facts(max(plots, key=len, default="").strip(), frozenset(genres))
