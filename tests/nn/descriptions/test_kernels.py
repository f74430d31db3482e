"""MiniRocket's kernels: a convolution's responses, drawn by the seed, and the same as a graph."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from polymix.nn.descriptions.kernels import Kernels

from .common import assert_same_graph, padded_rows, series


def fitted(modality, x, seed=0, **options):
    described = Kernels(modality, **options)
    described.fit(x, seed)
    return described


def test_responses_are_convolutions():
    x = torch.randn(3, 40, 1, dtype=torch.float64)
    described = fitted(series(40, 1), x)
    assert described.dilations[0] == 1
    assert len(described.dilations) > 1
    weights = torch.full((84, 1, 9), -1.0, dtype=torch.float64)
    for k, chosen in enumerate(combinations(range(9), 3)):
        weights[k, 0, list(chosen)] = 2.0
    for i, d in enumerate(described.dilations):
        expected = torch.nn.functional.conv1d(
            x.transpose(1, 2), weights, padding="same", dilation=d
        )
        torch.testing.assert_close(described._responses(x, i), expected.transpose(1, 2))


def test_a_linear_model_sees_the_shape():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 60, 2)).astype(np.float32)
    y = np.arange(80) % 2
    place = rng.integers(0, 40, 80)
    for row, label, at in zip(x, y, place, strict=True):
        row[at : at + 9, 0] += 3 * np.sin(np.arange(9) * (1.0 if label else 2.5))
    columns = fitted(series(60, 2), torch.from_numpy(x[:50])).columns(torch.from_numpy(x)).numpy()
    scaled = (columns - columns[:50].mean(0)) / (columns[:50].std(0) + 1e-9)
    signs = 2.0 * y - 1
    gram = scaled[:50] @ scaled[:50].T
    weights = np.linalg.solve(gram + 1e3 * np.eye(50), signs[:50])
    said = scaled[50:] @ scaled[:50].T @ weights
    assert ((said > 0) == (y[50:] == 1)).mean() > 0.85


def test_the_seed_draws_and_a_state_is_ready():
    x = padded_rows([30, 12, 20, 30], 30, 4)
    modality = series(30, 5, padded=True)
    one, again, other = (fitted(modality, x, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.columns(x), again.columns(x), rtol=0, atol=0)
    assert not torch.equal(one.columns(x), other.columns(x))
    blank = Kernels(modality)
    assert not blank.ready
    blank.load_state_dict(one.state_dict())
    assert blank.ready
    torch.testing.assert_close(blank.columns(x), one.columns(x), rtol=0, atol=0)


def test_nothing_is_finite():
    x = padded_rows([9, 0], 9, 2)
    for described in (
        Kernels(series(9, 3, padded=True)), fitted(series(9, 3, padded=True), x),
        fitted(series(9, 3, padded=True), torch.zeros_like(x)), Kernels(series(2, 3)),
    ):  # fmt: skip
        found = described(x[:, : 2 if not described.padded else 9]).x
        assert found.shape == (2, 1, described.channels)
        assert found.isfinite().all()
    assert not fitted(series(9, 3, padded=True), x).columns(torch.zeros(1, 9, 3)).any()


def test_a_graph_says_the_same():
    x = padded_rows([40, 12, 33, 1, 7, 0], 40, 3)
    assert_same_graph(fitted(series(40, 4, padded=True), x, dilations=3), x)
