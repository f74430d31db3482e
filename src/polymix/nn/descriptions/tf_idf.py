"""Texts as a description: TF-IDF of token ids, by truncated SVD.

Latent semantic analysis: Deerwester et al. 1990, "Indexing by latent semantic analysis".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor

from polymix.data.schema import Kind, Modality
from polymix.nn.descriptions.description import Description, fill
from polymix.nn.encoder import Options, check_sizes


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
        super().__init__(dims, needs_fit=True)
        self.vocabulary = modality.vocabulary
        self.register_buffer("idf", torch.ones(self.vocabulary, dtype=torch.float64))
        size = (self.vocabulary, dims)
        self.register_buffer("project", torch.zeros(size, dtype=torch.float64))

    def columns(self, x: Tensor) -> Tensor:
        """Ids `(B, T)`, 0 pads, to `(B, D)`."""
        # By occurrence: a vector of the whole vocabulary would be mostly zeros.
        there = (x != 0).double()
        seen = (x[:, :, None] == x[:, None, :]).sum(2).double()
        weighed = (1 + seen.log()) * self.idf[x] * there
        length = (weighed * weighed / seen).sum(1, keepdim=True).sqrt()
        share = weighed / seen / length.clamp(min=1e-12)
        return (self.project[x] * share[..., None]).sum(1)

    def _fit(self, x: Tensor, seed: int) -> None:
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
            fill(self.project, svd.components_)
