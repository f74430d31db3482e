import pytest
import torch

from polymix.nn.fusion import Concat, Max, Mean
from polymix.nn.tokens import Tokens, resize_tokens


def parts(*shapes, grids=None):
    torch.manual_seed(0)
    return [
        Tokens(torch.randn(2, t, c), grid)
        for (t, c), grid in zip(shapes, grids or [None] * len(shapes), strict=True)
    ]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_concat_lays_tokens_end_to_end(k):
    tokens = parts(*((t + 1, 5) for t in range(k)))
    fused = Concat()(tokens)
    assert fused.x.shape == (2, k * (k + 1) // 2, 5)
    assert fused.grid is None
    start = 0
    for part in tokens:
        assert torch.equal(fused.x[:, start : start + part.x.shape[1]], part.x)
        start += part.x.shape[1]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_concat_pooled_keeps_each_modality_s_channels(k):
    tokens = parts(*((3 * i + 1, 2 + i) for i in range(k)))
    pooled = Concat().pooled(tokens)
    assert pooled.shape == (2, sum(2 + i for i in range(k)))
    torch.testing.assert_close(pooled, torch.cat([t.x.mean(1) for t in tokens], 1))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize(("function", "reduce"), [(Mean, torch.mean), (Max, torch.amax)])
def test_elementwise_on_the_shortest_sequence(function, reduce, k):
    tokens = parts(*((2 * i + 3, 5) for i in range(k)))
    fused = function()(tokens)
    stacked = torch.stack([resize_tokens(t.x, 3) for t in tokens])
    torch.testing.assert_close(fused.x, reduce(stacked, 0))
    torch.testing.assert_close(function().pooled(tokens), fused.x.mean(1))


def test_elementwise_is_symmetric_and_concat_is_not():
    tokens = parts((3, 5), (4, 5))
    for function in (Mean(), Max()):
        torch.testing.assert_close(function(tokens).x, function(tokens[::-1]).x)
    assert not torch.equal(Concat()(tokens).x, Concat()(tokens[::-1]).x)


def test_a_grid_that_all_share_is_kept():
    assert Mean()(parts((4, 5), (4, 5), grids=[(2, 2), (2, 2)])).grid == (2, 2)
    assert Mean()(parts((4, 5), (4, 5), grids=[(2, 2), (4, 1)])).grid is None
    assert Max()(parts((4, 5), (4, 5), grids=[(2, 2), None])).grid is None
