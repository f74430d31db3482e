"""Rows as one vector, for learners that add and multiply: words' weights, levels, numbers.

Token ids become sublinear TF-IDF over the full vocabulary, each text of length one (Salton and
Buckley 1988); categories stay one column a level; numbers become normal ones by their quantiles;
all else is centred and scaled, a whole view at once, so that its mean squared length is one.
What a row lacks is zeros and a flag.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from polymix.comparators.tabular.quantiles import NormalQuantiles
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.views import Layout

CLIP, LEAST = 5.0, 1e-9
CHUNK, COUNTED = 256, 4096
"""Rows that are weighed, and whose tokens are counted, at a time."""


class TokenWeights(nn.Module):
    """TF-IDF of one text, by occurrence.

    Args:
        vocabulary: ids, V.
        slots: tokens that are kept, the most frequent; V for all.
        least: rows that a token is in, at least, to be kept.
    """

    idf: Tensor
    slot: Tensor

    def __init__(self, vocabulary: int, slots: int, least: int = 1) -> None:
        super().__init__()
        self.vocabulary, self.slots, self.least = vocabulary, min(slots, vocabulary), least
        self.register_buffer("idf", torch.zeros(vocabulary, dtype=torch.float64))
        self.register_buffer("slot", torch.zeros(vocabulary, dtype=torch.int32))

    @torch.no_grad()
    def fit(self, ids: Tensor) -> None:
        """Count the rows `(N, T)` that each token is in."""
        counts = torch.zeros(self.vocabulary, dtype=torch.int64)
        for some in torch.split(ids, COUNTED):
            ordered = some.sort(1).values
            first = torch.ones_like(ordered, dtype=torch.bool)
            first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
            counts += torch.bincount(ordered[first], minlength=self.vocabulary)
        counts[0] = 0
        order = torch.argsort(counts, descending=True, stable=True)[: self.slots]
        kept = order[counts[order] >= self.least]
        self.idf.zero_()
        self.slot.zero_()
        self.idf[kept] = torch.log((1 + len(ids)) / (1 + counts[kept].double())) + 1
        self.slot[kept] = torch.arange(len(kept), dtype=torch.int32)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Ids `(B, T)` to each occurrence's slot and its share of the token's weight, `(B, T)`."""
        there = (ids != 0).float()
        # By occurrence: a row has few tokens, and a vector of the whole vocabulary is mostly zeros.
        seen = (ids[:, :, None] == ids[:, None, :]).sum(2).double()
        weight = (1 + seen.log()) * self.idf[ids] * there
        length = (weight * weight / seen).sum(1, keepdim=True).sqrt()
        return self.slot[ids].long(), weight / seen / length.clamp(min=1e-12)


class Scaled(nn.Module):
    """A view centred and scaled as a whole.

    Args:
        width: columns, D.
        each: whether each column is scaled by its own deviation first, and clipped.
    """

    shift: Tensor
    scale: Tensor
    whole: Tensor

    def __init__(self, width: int, each: bool) -> None:
        super().__init__()
        self.each = each
        self.register_buffer("shift", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(width, dtype=torch.float64))
        self.register_buffer("whole", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit to `(N, D)`."""
        self.shift.copy_(x.mean(0))
        if self.each:
            deviation = x.std(0, correction=0)
            still = deviation < LEAST
            self.scale.copy_(torch.where(still, 0.0, 1 / deviation.clamp(min=LEAST)))
        self.whole.fill_(1.0)
        length = float((self(x) ** 2).sum(1).mean())
        self.whole.fill_(length**-0.5 if length > LEAST else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D)` scaled."""
        x = (x - self.shift) * self.scale
        return (x.clamp(-CLIP, CLIP) if self.each else x) * self.whole


class Numbers(nn.Module):
    """A table's columns: levels as they are, numbers as normal ones.

    Args:
        layout: of the view.
        weight: of a number.
    """

    def __init__(self, layout: Layout, weight: float) -> None:
        super().__init__()
        levels = {i for first, size in layout.categories for i in range(first, first + size)}
        self.levels = sorted(levels)
        self.numbers = [i for i in range(layout.width) if i not in levels]
        self.weight = weight
        self.quantiles = NormalQuantiles(len(self.numbers))

    def fit(self, x: Tensor) -> None:
        """Fit to `(N, D)`."""
        self.quantiles.fit(x[:, self.numbers])

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D)` to levels, then numbers; what is missing is zero."""
        if not self.numbers:
            return x
        z = self.quantiles(x[:, self.numbers]).clamp(-3, 3)
        z = torch.where(torch.isnan(x[:, self.numbers]), torch.zeros_like(z), z)
        return torch.cat([x[:, self.levels], self.weight * z], 1)


def view_groups(layouts: Sequence[Layout]) -> list[list[int]]:
    """Views that are one block of the vector: a row's pictures together, all else alone.

    What several pictures of one thing show is averaged: side by side, each would be a block of its
    own, and drown numbers that say more.
    """
    found: dict[object, list[int]] = {}
    for i, one in enumerate(layouts):
        if one.form != "ids":
            found.setdefault(("picture", one.width) if one.picture else i, []).append(i)
    return list(found.values())


def mean_view(sample: Sample, group: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The mean of views that are there `(B, D)`, zeros where none is, and whether one is `(B,)`."""
    views = [sample.views[i] for i in group]
    there = [sample.present[i] for i in group]
    pairs = zip(views, there, strict=True)
    shown = [torch.where(own[:, None], x, torch.zeros_like(x)) for x, own in pairs]
    count = torch.stack([own.to(views[0]) for own in there]).sum(0)
    total = torch.stack(shown).sum(0)
    return total / count.clamp(min=1)[:, None], count > 0


class Vectors(nn.Module):
    """Views to one vector a row.

    Args:
        layouts: of the views.
        slots: tokens that are kept of all texts together; none for all.
        least: rows that a token is in, at least.
        numbers: the weight of a number beside words; alone it is one.
    """

    def __init__(
        self, layouts: Sequence[Layout], slots: int | None, least: int, numbers: float
    ) -> None:
        super().__init__()
        texts = [i for i, one in enumerate(layouts) if one.form == "ids"]
        self.texts = texts
        self.groups = view_groups(layouts)
        each = None if slots is None else max(1, slots // max(1, len(texts)))
        self.words = nn.ModuleList(
            TokenWeights(v, v if each is None else each, least)
            for v in (layouts[i].vocabulary for i in texts)
        )
        weight = numbers if texts else 1.0
        first = [layouts[group[0]] for group in self.groups]
        self.parts = nn.ModuleList(
            Numbers(one, weight)
            if one.form in ("columns", "numbers")
            else Scaled(one.width, one.form == "dense")
            for one in first
        )
        self.dense_width = sum(one.width for one in first) + len(layouts)
        self.slot_counts = [words.slots for words in self._words()]

    def _words(self) -> list[TokenWeights]:
        return [one for one in self.words if isinstance(one, TokenWeights)]

    def fit(self, sample: Sample) -> None:
        """Fit to rows."""
        for i, words in zip(self.texts, self._words(), strict=True):
            words.fit(sample.views[i][sample.present[i]])
        for group, part in zip(self.groups, self.parts, strict=True):
            assert isinstance(part, Numbers | Scaled)
            x, there = mean_view(sample, group)
            if there.any():
                part.fit(x[there])

    def dense(self, sample: Sample) -> Tensor:
        """All but words: `(B, D)`, double."""
        found = []
        for group, part in zip(self.groups, self.parts, strict=True):
            x, there = mean_view(sample, group)
            z = part(x)
            found.append(torch.where(there[:, None], z, torch.zeros_like(z)))
        found += [(~there[:, None]).double() for there in sample.present]
        return torch.cat(found, 1)

    def occurrences(self, sample: Sample) -> list[tuple[Tensor, Tensor]]:
        """Slots and weights `(B, T)` of each text."""
        found = []
        for i, words in zip(self.texts, self.words, strict=True):
            slots, weights = words(sample.views[i])
            there = sample.present[i][:, None]
            found.append((slots, torch.where(there, weights, torch.zeros_like(weights))))
        return found

    def forward(self, sample: Sample) -> Tensor:
        """The whole vector, words first: `(B, V + D)`, double."""
        found = []
        for (slots, weights), size in zip(self.occurrences(sample), self.slot_counts, strict=True):
            blank = torch.zeros((slots.shape[0], size), dtype=torch.float64, device=slots.device)
            found.append(blank.scatter_add(1, slots, weights))
        return torch.cat([*found, self.dense(sample)], 1)

    @torch.no_grad()
    def matrix(self, sample: Sample) -> np.ndarray | sparse.csr_matrix:
        """The whole vectors, sparse where there are words: `(N, V + D)`."""
        dense = self.dense(sample).numpy()
        if not self.texts:
            return dense
        parts: list[list[sparse.csr_matrix]] = [[] for _ in self.texts]
        for begin in range(0, len(sample), CHUNK):
            some = sample.take(torch.arange(begin, min(begin + CHUNK, len(sample))))
            for k, (slots, weights) in enumerate(self.occurrences(some)):
                rows = np.repeat(np.arange(len(some)), slots.shape[1])
                triples = (weights.numpy().ravel(), (rows, slots.numpy().ravel()))
                one = sparse.csr_matrix(triples, (len(some), self.slot_counts[k]))
                one.sum_duplicates()
                one.eliminate_zeros()
                parts[k].append(one)
        columns = [sparse.vstack(each) for each in parts]
        return sparse.csr_matrix(sparse.hstack([*columns, sparse.csr_matrix(dense)]))
