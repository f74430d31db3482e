"""Fits a recipe: what each modality needs to know of the training rows, and of no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable

import numpy as np

from polymix import seeds
from polymix.errors import DataError
from polymix.tables.cells import level_of
from polymix.tables.dates import date_format
from polymix.tables.files import Table
from polymix.tables.images import fit_image
from polymix.tables.infer_columns import Columns
from polymix.tables.parts import CategoryPart, Part
from polymix.tables.read import clean
from polymix.tables.recipe import (
    ColumnNote,
    ColumnType,
    ModalityRecipe,
    TableRecipe,
    TabularRecipe,
    TargetRecipe,
    TextRecipe,
)
from polymix.tables.series import SUFFIXES, fit_series
from polymix.tables.sounds import fit_audio
from polymix.tables.tabular import fit_category, fit_date, fit_number, is_code, levels_within
from polymix.tables.text_numbers import fit_text_numbers, holds_numbers
from polymix.tables.texts import TextTokenizer, has_pretrained
from polymix.tables.unreadable import Unreadable

PROBED = 128
"""Files that are looked into, for their sizes."""

LONGEST, VOCABULARY = 128, 4000
LONGEST_PRETRAINED = 256
"""Tokens of a text, at most: of byte pairs learned here, and of a pretrained network's."""

PARTS = (ColumnType.NUMERICAL, ColumnType.CATEGORICAL, ColumnType.DATE)
TEXTS = (ColumnType.TEXT, ColumnType.PRETRAINED_TEXT, ColumnType.LEARNED_TEXT)
MANY_LEVELS = 64
"""A category of more levels may hide numbers."""

RESERVED = ("present", "target", "split", "schema", "dataset", "table")


def fit_recipe(
    table: Table,
    columns: Columns,
    target: TargetRecipe,
    train: np.ndarray,
    image_size: int | None = None,
) -> TableRecipe:
    """The recipe of a table.

    A column whose training rows give nothing at all is left out, with the reason for it.

    Args:
        table: with the columns.
        columns: what they are.
        target: what is predicted.
        train: the training rows, `(n,)`.
        image_size: side of images, in place of the one that the files call for.

    Raises:
        DataError: no column is left to learn from.
        MissingExtraError: a package that reading a column needs is not installed.
    """
    names = _Names(RESERVED)
    target_name = names.take(target.column)
    grouped = {c: g for g, (members, _) in columns.groups.items() for c in members}
    found: list[ModalityRecipe] = []
    parts: list[Part] = []
    lost: dict[str, str] = {}
    done: set[str] = set()
    for note in columns.notes:
        column = note.column
        try:
            if column in grouped:
                group = grouped[column]
                if group not in done:
                    done.add(group)
                    members, channels = columns.groups[group]
                    found.append(
                        fit_series(
                            names.take(group), members, (len(members) // channels, channels),
                            np.stack([table[c][train] for c in members], 1),
                            table.folder, features=note.type is ColumnType.FEATURES,
                        )
                    )  # fmt: skip
            elif note.type in PARTS:
                parts.append(_part(note, table[column][train]))
                if note.type is ColumnType.NUMERICAL and is_code(table[column][train]):
                    parts.append(fit_category(column, table[column][train]))
            elif note.type is not ColumnType.IGNORE:
                cells = table[column][train]
                found.append(_recipe(note, cells, table, names, image_size))
        except Unreadable as error:
            lost[column] = f"left out: {error.cause}"
    parts = _narrowed(parts, table, train)
    parts += _text_numbers(columns, table, train, lost, alone=not parts)
    if parts:
        found.append(TabularRecipe(name=names.take("tabular"), parts=tuple(parts)))
    if not found:
        said = "; ".join(
            f"'{n.column}' {lost.get(n.column, n.reason)}" for n in columns.notes
            if n.column != target.column
        )  # fmt: skip
        raise DataError(
            f"'{table.name}' has no column to learn from ({said or 'there is no other'}): "
            "set a column's type if it was not recognised"
        )
    notes = tuple(
        n.model_copy(update={"type": ColumnType.IGNORE, "reason": lost[n.column], "lost": True})
        if n.column in lost else n for n in columns.notes
    )  # fmt: skip
    return TableRecipe(
        name=table.name, notes=notes, modalities=tuple(found), target=target,
        target_name=target_name,
    )  # fmt: skip


def _part(note: ColumnNote, cells: np.ndarray) -> Part:
    if note.type is ColumnType.NUMERICAL:
        return fit_number(note.column, cells)
    if note.type is ColumnType.CATEGORICAL:
        return fit_category(note.column, cells)
    there = [cell for cell in cells if cell is not None]
    layout = date_format(there, 0.5)
    if layout is None:
        raise Unreadable("no training row has a date that can be read")
    return fit_date(note.column, cells, layout)


def _recipe(
    note: ColumnNote, cells: np.ndarray, table: Table, names: _Names, image_size: int | None
) -> ModalityRecipe:
    column, folder = note.column, table.folder
    there = np.array([i for i, cell in enumerate(cells) if cell is not None], np.int64)
    if not len(there):
        raise Unreadable("every cell of the training rows is empty")
    rng = seeds.stream(0, "probe", column)
    some = cells[np.sort(rng.permutation(there)[:PROBED])]
    if note.type in TEXTS:
        texts = [clean(cell) for cell in cells[there]]
        return _text(names, column, texts, note.type)
    if note.type is ColumnType.IMAGE:
        return names.named(column, lambda n: fit_image(n, column, some, folder, image_size))
    if note.type is ColumnType.AUDIO:
        return names.named(column, lambda n: fit_audio(n, column, some, folder))
    features = note.type is ColumnType.FEATURES
    inline = not any(str(cell).strip().lower().endswith(SUFFIXES) for cell in some)
    arrays = cells[there] if inline else some  # a file is opened only to be looked into
    return names.named(
        column, lambda n: fit_series(n, [column], None, arrays, folder, features=features)
    )


def _text(names: _Names, column: str, texts: list[str], kind: ColumnType) -> TextRecipe:
    if kind is ColumnType.PRETRAINED_TEXT or (kind is ColumnType.TEXT and has_pretrained()):
        tokenizer, longest = TextTokenizer.pretrained(), LONGEST_PRETRAINED
    else:
        tokenizer, longest = TextTokenizer(texts, VOCABULARY), LONGEST
    lengths = tokenizer.lengths(texts)
    if not lengths.any():
        raise Unreadable("no training row has a word")
    length = int(np.clip(np.ceil(np.quantile(lengths, 0.95)), 4, longest))
    return TextRecipe(
        name=names.take(column), column=column, length=length,
        vocabulary=max(len(tokenizer), 2), tokenizer=tokenizer.to_json(),
    )  # fmt: skip


def _narrowed(parts: list[Part], table: Table, train: np.ndarray) -> list[Part]:
    """Parts of which categories have fewer levels, where all together are too wide."""
    most = levels_within(parts)
    return [
        fit_category(part.column, table[part.column][train], most)
        if isinstance(part, CategoryPart) and len(part.levels) > most
        else part
        for part in parts
    ]


def _text_numbers(
    columns: Columns, table: Table, train: np.ndarray, lost: Container[str], *, alone: bool
) -> list[Part]:
    """The numbers in texts and in categories of many levels.

    Alone, they make a modality of their own only of texts half of which have a number: what is
    left, such as how long a review is, its encoder sees as well.
    """
    found: list[Part] = []
    for column in columns.of(*TEXTS, ColumnType.CATEGORICAL):
        cells = table[column][train]
        levels = {level_of(cell) for cell in cells if cell is not None}
        few = columns.type_of(column) is ColumnType.CATEGORICAL and len(levels) <= MANY_LEVELS
        if few or column in lost:
            continue
        part = fit_text_numbers(column, cells)
        if part is not None and (not alone or holds_numbers(part, cells)):
            found.append(part)
    return found


class _Names:
    """Names for modalities: letters and digits, none twice, however cased."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def take(self, wanted: str) -> str:
        """A name like the one that is wanted."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted).strip("_-")[:60] or "column"
        name, count = plain, 1
        while name.lower() in self._taken:
            count += 1
            name = f"{plain}_{count}"
        self._taken.add(name.lower())
        return name

    def named(self, wanted: str, make: Callable[[str], ModalityRecipe]) -> ModalityRecipe:
        """What `make` makes with a name; the name is free again where it fails."""
        name = self.take(wanted)
        try:
            return make(name)
        except Unreadable:
            self._taken.discard(name.lower())
            raise
