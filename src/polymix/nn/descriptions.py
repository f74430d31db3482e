"""Fixed descriptions of a modality: a row as a few numbers, by no gradient.

A description is an encoder that is fitted to training rows once: TF-IDF of token ids by truncated
SVD (latent semantic analysis, Deerwester et al. 1990), or a summary by PCA. All is in double
precision: trees cut columns, and a rounding that differs between machines would move rows.

Shapes: B batch, R numbers of a row before they are projected, D after.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.encoder import Encoder, Options, check_sizes, resolve
from polymix.nn.tokens import Tokens

SHORT = 256
"""Numbers that a short series has at most."""

SIDE = 12
"""Images and spectrograms are averaged down to so many rows and columns at most."""


class Description(Encoder):
    """One modality to one token, fitted to rows.

    Attributes:
        ready: whether there is nothing left to fit.
    """

    pads = False
    ready: bool = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widths = (width,)

    @abstractmethod
    def columns(self, x: Tensor) -> Tensor:
        """Inputs to `(B, D)`."""

    @abstractmethod
    def fit(self, x: Tensor, seed: int) -> None:
        """Fit to the inputs of some training rows."""

    def features(self, x: Tensor) -> list[Tokens]:
        """The one token, `(B, 1, D)`."""
        return [Tokens(self.columns(x)[:, None])]


class TfIdf(Description):
    """Token ids: sublinear TF-IDF, rows of length one, projected by truncated SVD.

    Args:
        modality: of kind text.
        dims: columns.
    """

    name: ClassVar[str] = "tf-idf"
    VERSION: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.TEXT})
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    idf: Tensor
    project: Tensor

    def __init__(self, modality: Modality, *, dims: int = 64) -> None:
        check_sizes(self.name, dims=dims)
        assert modality.vocabulary is not None
        super().__init__(dims)
        self.vocabulary = modality.vocabulary
        self.register_buffer("idf", torch.ones(self.vocabulary, dtype=torch.float64))
        size = (self.vocabulary, dims)
        self.register_buffer("project", torch.zeros(size, dtype=torch.float64))

    def columns(self, x: Tensor) -> Tensor:
        """Ids `(B, T)`, 0 pads, to `(B, D)`."""
        counts = torch.zeros((x.shape[0], self.vocabulary), dtype=torch.float64, device=x.device)
        counts = counts.scatter_add(1, x, (x != 0).double())
        there = counts > 0
        weighed = torch.where(there, 1 + torch.where(there, counts, 1.0).log(), 0.0) * self.idf
        length = (weighed * weighed).sum(1, keepdim=True).sqrt()
        return weighed @ self.project / length.clamp(min=1e-12)

    @torch.no_grad()
    def fit(self, x: Tensor, seed: int) -> None:
        """Fit to ids `(N, T)`."""
        ids = x.cpu().numpy()
        rows = np.repeat(np.arange(len(ids)), ids.shape[1])
        kept = ids.ravel() != 0
        ones = np.ones(int(kept.sum()))
        counts = sparse.csr_matrix(
            (ones, (rows[kept], ids.ravel()[kept])), (len(ids), self.vocabulary)
        )
        counts.sum_duplicates()
        if not counts.nnz:
            return
        tfidf = TfidfTransformer(sublinear_tf=True).fit(counts)
        self.idf.copy_(torch.from_numpy(tfidf.idf_))
        count = min(self.channels, self.vocabulary - 1, len(ids) - 1)
        if count > 0:
            svd = TruncatedSVD(count, random_state=seed).fit(tfidf.transform(counts))
            _fill(self.project, svd.components_)


class Summary(Description):
    """Anything else as numbers: columns as they are, sequences' moments, pictures averaged down.

    Short sequences of one length are columns, too: each step means the same in every row. Of all
    else, more than `dims` numbers are standardised and projected by PCA.

    Args:
        modality: of any kind but text.
        dims: columns, at most.
    """

    name: ClassVar[str] = "summary"
    VERSION: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind) - {Kind.TEXT}
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    shift: Tensor
    scale: Tensor
    project: Tensor
    down: Tensor
    across: Tensor

    def __init__(self, modality: Modality, *, dims: int = 64) -> None:
        check_sizes(self.name, dims=dims)
        self.padded = modality.padded
        self.picture = modality.kind in (Kind.IMAGE, Kind.AUDIO)
        columns = is_columns(modality)
        self.sequence = not self.picture and not columns and len(modality.shape) == 2
        if self.picture:
            sides = [min(SIDE, n) for n in modality.shape[1:]]
            raw = modality.shape[0] * sides[0] * sides[1]
        elif self.sequence:
            raw = 5 * (modality.shape[1] - self.padded)
        else:
            raw = math.prod(modality.shape)
        self.projected = not columns and raw > dims
        super().__init__(dims if self.projected else raw)
        if self.picture:
            for name, size, side in zip(("down", "across"), modality.shape[1:], sides, strict=True):
                self.register_buffer(name, _averages(size, side), persistent=False)
        if self.projected:
            self.register_buffer("shift", torch.zeros(raw, dtype=torch.float64))
            self.register_buffer("scale", torch.ones(raw, dtype=torch.float64))
            self.register_buffer("project", torch.zeros((raw, dims), dtype=torch.float64))

    def _numbers(self, x: Tensor) -> Tensor:
        """Inputs to `(B, R)`."""
        x = x.double()
        if self.picture:
            return (self.down @ x @ self.across.T).flatten(1)
        return _moments(x, self.padded) if self.sequence else x.flatten(1)

    def columns(self, x: Tensor) -> Tensor:
        """Inputs to `(B, D)`."""
        numbers = self._numbers(x)
        if not self.projected:
            return numbers
        return ((numbers - self.shift) / self.scale) @ self.project

    @torch.no_grad()
    def fit(self, x: Tensor, seed: int) -> None:
        """Fit to the inputs of N rows."""
        if not self.projected:
            return
        numbers = self._numbers(x).cpu().numpy()
        mean, std = numbers.mean(0), numbers.std(0)
        std[std < 1e-9] = 1.0
        self.shift.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(std))
        count = min(self.channels, len(numbers) - 1)
        if count > 0:
            solver = "randomized" if min(numbers.shape) > 2 * count else "full"
            pca = PCA(count, svd_solver=solver, random_state=seed).fit((numbers - mean) / std)
            _fill(self.project, pca.components_)


def is_columns(modality: Modality) -> bool:
    """Whether its numbers are columns to a tree: a table's, or a short series' of one length."""
    if modality.kind is Kind.TIMESERIES:
        return not modality.padded and math.prod(modality.shape) <= SHORT
    return modality.kind is Kind.TABULAR


def _fill(project: Tensor, components: np.ndarray) -> None:
    """Components `(K, R)` as the first columns of `(R, D)`; the others are zeros."""
    project.zero_()
    project[:, : len(components)] = torch.from_numpy(np.ascontiguousarray(components.T))


def _averages(size: int, side: int) -> Tensor:
    """The matrix `(side, size)` that averages neighbours, as adaptive pooling does."""
    found = torch.zeros((side, size), dtype=torch.float64)
    for i in range(side):
        begin, end = i * size // side, -(-(i + 1) * size // side)
        found[i, begin:end] = 1 / (end - begin)
    return found


def _moments(x: Tensor, padded: bool) -> Tensor:
    """Mean, deviation, least, greatest and last of each channel: `(B, T, C)` to `(B, 5C)`."""
    there = x[..., :1] != 0 if padded else torch.ones_like(x[..., :1], dtype=torch.bool)
    x = x[..., 1:] if padded else x
    count = there.sum(1).clamp(min=1).double()
    mean = torch.where(there, x, 0.0).sum(1) / count
    apart = torch.where(there, x - mean[:, None], 0.0)
    deviation = ((apart * apart).sum(1) / count).sqrt()
    some = there.any(1)
    least = torch.where(some, torch.where(there, x, torch.inf).amin(1), 0.0)
    most = torch.where(some, torch.where(there, x, -torch.inf).amax(1), 0.0)
    steps = torch.arange(x.shape[1], device=x.device)[:, None]
    final = torch.where(there, steps, 0).amax(1)[:, None].expand(-1, 1, x.shape[2])
    last = torch.where(some, torch.gather(x, 1, final)[:, 0], 0.0)
    return torch.cat([mean, deviation, least, most, last], 1)


class Frozen(Description):
    """An encoder as it is, its last feature pooled: for those that come with weights."""

    ready = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.channels)
        self.encoder = encoder.requires_grad_(False)

    def columns(self, x: Tensor) -> Tensor:
        """Inputs to `(B, D)`."""
        found: Tensor = self.encoder(x).pooled().double()
        return found

    def fit(self, x: Tensor, seed: int) -> None:
        """Nothing to fit."""


DESCRIPTIONS: dict[str, type[TfIdf] | type[Summary]] = {d.name: d for d in (TfIdf, Summary)}


def describers_for(modality: Modality) -> list[Block]:
    """What describes a modality: our own, then encoders that come with weights."""
    own = [Block.of(name) for name, cls in DESCRIPTIONS.items() if modality.kind in cls.kinds]
    return own + catalog.pretrained_for(modality)


def make_description(block: Block, modality: Modality) -> Description:
    """Build a description.

    Raises:
        GenotypeError: no such one, or a modality that it does not take.
    """
    cls = DESCRIPTIONS.get(block.name)
    found = catalog.ENCODERS.get(block.name)
    if cls is None and found and found.pretrained and modality.kind in found.kinds:
        return Frozen(catalog.make_encoder(block, modality))
    if cls is None or modality.kind not in cls.kinds:
        hint = did_you_mean(block.name, [b.name for b in describers_for(modality)])
        raise GenotypeError(
            f"'{block.name}' describes no modality of kind {modality.kind} as '{modality.name}' "
            f"is: {hint}"
        )
    return cls(modality, **resolve(block, cls, cls.presets, ()))  # type: ignore[arg-type]


def description_version(block: Block) -> int:
    """The version of a description's code."""
    cls = DESCRIPTIONS.get(block.name)
    return cls.VERSION if cls else catalog.version(block)
