"""Views that need no fitting: token ids, a table's columns, and its categories as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.nn.descriptions import (
    Description,
    Frozen,
    TokenStates,
    description_version,
    make_description,
)
from polymix.nn.encoders.upper import UpperLayers

Form = Literal["ids", "columns", "numbers", "dense", "embedding", "states"]
"""What a view's numbers are to a learner."""


@dataclass(frozen=True)
class Layout:
    """What a learner knows of a view.

    Attributes:
        form: what its numbers are.
        width: how many there are, W; of states, those of a token.
        vocabulary: of token ids.
        picture: whether it is what a network sees in a picture.
        categories: spans (first, width) of columns that are one category.
        length: of states: tokens of a row, T.
        above: of states: the layers that follow them in their network.
    """

    form: Form
    width: int
    vocabulary: int = 0
    picture: bool = False
    categories: tuple[tuple[int, int], ...] = ()
    length: int = 0
    above: UpperLayers | None = field(default=None, compare=False, repr=False)


class TokenIds(Description):
    """The ids as they are, `(B, T)` int64: what counts words fits its own weights of them."""

    name: ClassVar[str] = "token-ids"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TEXT})
    dtype = torch.int32

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality.shape[0])

    def columns(self, x: Tensor) -> Tensor:
        """Ids `(B, T)` as they are."""
        return x


class Columns(Description):
    """A table's columns as they are."""

    name: ClassVar[str] = "columns"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TABULAR})

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality.shape[0])

    def columns(self, x: Tensor) -> Tensor:
        """`(B, D)` in double precision."""
        return x.double()


class Codes(Description):
    """Numbers as they are, each category as the rank of its level by frequency and its share.

    Trees cut a rank where they would have to find each level's column. A row between levels (a
    level unseen where none was learned is the mean of all) has the mean of their ranks.
    """

    name: ClassVar[str] = "codes"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TABULAR})

    shares: Tensor

    def __init__(self, modality: Modality) -> None:
        self.spans = modality.categories
        width = modality.shape[0]
        coded = {i for first, size in self.spans for i in range(first, first + size)}
        self.numbers = [i for i in range(width) if i not in coded]
        super().__init__(len(self.numbers) + 2 * len(self.spans), needs_fit=bool(self.spans))
        self.register_buffer("shares", torch.zeros(width, dtype=torch.float64))

    def columns(self, x: Tensor) -> Tensor:
        """`(B, D)` to the numbers, then rank and share of each category."""
        x = x.double()
        parts = [x[:, self.numbers]]
        for first, size in self.spans:
            levels = x[:, first : first + size]
            rank = levels @ torch.arange(size, dtype=torch.float64, device=x.device)
            share = levels @ self.shares[first : first + size]
            parts.append(torch.stack([rank, share], 1))
        return torch.cat(parts, 1)

    def _fit(self, x: Tensor, seed: int) -> None:  # noqa: ARG002
        """Count each level's share of some rows `(N, D)`."""
        self.shares.copy_(x.double().mean(0))


VIEWS: dict[str, type[TokenIds] | type[Columns] | type[Codes]] = {
    v.name: v for v in (TokenIds, Columns, Codes)
}


def make_view(block: Block, modality: Modality) -> Description:
    """Build a view: one of this file's, or a description.

    Raises:
        GenotypeError: no such one, a modality that it does not take, or an option it has not.
    """
    cls = VIEWS.get(block.name)
    if cls is None:
        return make_description(block, modality)
    if modality.kind not in cls.kinds:
        raise GenotypeError(
            f"'{block.name}' takes no modality of kind {modality.kind} as '{modality.name}' is"
        )
    if block.options or block.preset != "small":
        raise GenotypeError(f"'{block.name}' has no options, but got {block}")
    return cls(modality)


def view_version(block: Block) -> int:
    """The version of a view's code."""
    cls = VIEWS.get(block.name)
    return cls.VERSION if cls else description_version(block)


def layout_of(view: Description, modality: Modality) -> Layout:
    """What a view's numbers are."""
    if isinstance(view, TokenIds):
        assert modality.vocabulary is not None
        return Layout("ids", view.channels, vocabulary=modality.vocabulary)
    if isinstance(view, Columns):
        return Layout("columns", view.channels, categories=modality.categories)
    if isinstance(view, TokenStates):
        return Layout("states", view.channels, length=view.length, above=view.above)
    if isinstance(view, Frozen):
        return Layout("embedding", view.channels, picture=modality.kind is Kind.IMAGE)
    tabular = modality.kind is Kind.TABULAR
    return Layout("numbers" if tabular else "dense", view.channels)
