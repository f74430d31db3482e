"""Fits a recipe: what each modality needs to know of the training rows, and of no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np

from polymix import seeds
from polymix.errors import DataError
from polymix.tables.cells import date_format
from polymix.tables.files import Table
from polymix.tables.images import fit_image
from polymix.tables.infer_columns import Columns
from polymix.tables.read import clean
from polymix.tables.recipe import (
    ColumnNote,
    ColumnType,
    ModalityRecipe,
    Part,
    TableRecipe,
    TabularRecipe,
    TargetRecipe,
    TextRecipe,
)
from polymix.tables.series import fit_series
from polymix.tables.sounds import fit_audio
from polymix.tables.tabular import fit_category, fit_date, fit_number
from polymix.tables.texts import TextTokenizer
from polymix.tables.unreadable import Unreadable

PROBED = 128
"""Files that are looked into, for their sizes."""

LONGEST, VOCABULARY = 128, 4000
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
                            names.take(group), members, (len(members) // channels, channels), (),
                            table.folder, features=note.type is ColumnType.FEATURES,
                        )
                    )  # fmt: skip
            elif note.type in (ColumnType.NUMERICAL, ColumnType.CATEGORICAL, ColumnType.DATE):
                parts.append(_part(note, table[column][train]))
            elif note.type is not ColumnType.IGNORE:
                cells = table[column][train]
                found.append(_recipe(note, cells, table, names, image_size))
        except Unreadable as error:
            lost[column] = f"left out: {error.cause}"
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
        n.model_copy(update={"type": ColumnType.IGNORE, "reason": lost[n.column]})
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
    if note.type in (ColumnType.TEXT, ColumnType.PRETRAINED_TEXT):
        texts = [clean(cell) for cell in cells[there]]
        learned = note.type is ColumnType.TEXT
        tokenizer = TextTokenizer(texts, VOCABULARY) if learned else TextTokenizer.pretrained()
        return _text(names, column, texts, tokenizer)
    if note.type is ColumnType.IMAGE:
        return names.named(column, lambda n: fit_image(n, column, some, folder, image_size))
    if note.type is ColumnType.AUDIO:
        return names.named(column, lambda n: fit_audio(n, column, some, folder))
    features = note.type is ColumnType.FEATURES
    return names.named(
        column, lambda n: fit_series(n, [column], None, some, folder, features=features)
    )


def _text(names: _Names, column: str, texts: list[str], tokenizer: TextTokenizer) -> TextRecipe:
    lengths = tokenizer.lengths(texts)
    if not lengths.any():
        raise Unreadable("no training row has a word")
    length = int(np.clip(np.ceil(np.quantile(lengths, 0.95)), 4, LONGEST))
    return TextRecipe(
        name=names.take(column), column=column, length=length,
        vocabulary=max(len(tokenizer), 2), tokenizer=tokenizer.to_json(),
    )  # fmt: skip


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
