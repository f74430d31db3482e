"""TF-IDF projected: against scikit-learn's, in its own graph, and where a text is empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize
from tests.nn.descriptions.common import assert_same_graph

from polymix.data.schema import Kind, Modality
from polymix.nn.descriptions import TfIdf

VOCABULARY = 50


@pytest.fixture
def ids():
    """Texts `(N, T)` with repeated tokens, padded by 0, the last one empty."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, VOCABULARY, (40, 12)) // rng.integers(1, 4, (40, 12))
    x[np.arange(12) >= rng.integers(1, 13, (40, 1))] = 0
    x[-1] = 0
    return torch.from_numpy(x)


@pytest.fixture
def fitted(ids):
    modality = Modality(
        name="text", kind=Kind.TEXT, shape=(12,), dtype="int32", vocabulary=VOCABULARY
    )
    view = TfIdf(modality, dims=5)
    view.fit(ids, 0)
    return view


def test_columns_are_scikit_learns_projection_of_rows_of_length_one(fitted, ids):
    rows, places = ids.nonzero(as_tuple=True)
    counts = sparse.coo_matrix(
        (np.ones(len(rows)), (rows.numpy(), ids[rows, places].numpy())), (len(ids), VOCABULARY)
    ).tocsr()
    weighed = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    wanted = normalize(weighed) @ TruncatedSVD(5, random_state=0).fit(weighed).components_.T
    assert np.abs(fitted.columns(ids).numpy() - wanted).max() < 1e-12


def test_a_text_without_tokens_is_zeros(fitted, ids):
    assert not fitted.columns(ids)[-1].any()


def test_its_graph_says_the_same(fitted, ids):
    assert_same_graph(fitted, ids)
