import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.tokens import (
    PatchTokens,
    TextTokens,
    Tokens,
    VectorTokens,
    default_patch,
    flatten_grid,
    resize_tokens,
    tokenizer,
)


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)
)
def test_the_matrix_product_is_the_convolution(depth, rows, columns, patch, channels):
    tokens = PatchTokens((depth, rows * patch, columns * patch), channels, patch).double()
    x = torch.randn(2, depth, rows * patch, columns * patch, dtype=torch.float64)
    found, expected = tokens(x), flatten_grid(tokens.project(x))
    torch.testing.assert_close(found.x, expected.x)
    assert found.grid == expected.grid == (rows, columns)
    assert tokens.tokens == found.x.shape[1]


def test_patches_of_any_memory_layout():
    tokens = PatchTokens((3, 8, 8), 5, 4)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(tokens(x.to(memory_format=torch.channels_last)).x, tokens(x).x)


@pytest.mark.parametrize("patch", [0, -4, 29, 56])
def test_a_patch_that_does_not_fit_is_refused(patch):
    with pytest.raises(GenotypeError, match=rf"fit into the 28 x 28 input, but got patch={patch}"):
        PatchTokens((1, 28, 28), 8, patch)


@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_what_a_patch_does_not_divide_is_padded_with_zeros(height, width, data):
    patch = data.draw(st.integers(1, max(height, width)))
    tokens = PatchTokens((2, height, width), 3, patch).double()
    x = torch.randn(2, 2, height, width, dtype=torch.float64)
    rows, columns = tokens.grid
    assert (rows - 1) * patch < height <= rows * patch
    assert (columns - 1) * patch < width <= columns * patch
    whole = torch.zeros(2, 2, rows * patch, columns * patch, dtype=torch.float64)
    whole[:, :, :height, :width] = x
    torch.testing.assert_close(tokens(x).x, flatten_grid(tokens.project(whole)).x)


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_default_patch_divides(height, width):
    patch = default_patch((1, height, width))
    assert height % patch == width % patch == 0


@pytest.mark.parametrize(("side", "patch"), [(28, 7), (112, 28), (16, 4), (7, 1), (1, 1)])
def test_the_default_patch_gives_nearest_to_sixteen(side, patch):
    assert default_patch((1, side, side)) == patch


def test_each_kind_has_its_tokenizer():
    def tokens(kind, shape, **more):
        modality = Modality(name="m", kind=kind, shape=shape, dtype="float32", **more)
        built = tokenizer(modality, 6)
        return built.tokens, type(built).__name__

    assert tokens(Kind.IMAGE, (1, 8, 8)) == (16, "PatchTokens")
    assert tokens(Kind.AUDIO, (1, 8, 4)) == (8, "PatchTokens")
    assert tokens(Kind.TIMESERIES, (24, 12)) == (24, "SequenceTokens")
    assert tokens(Kind.TEXT, (9,), vocabulary=5) == (9, "TextTokens")
    assert tokens(Kind.FEATURES, (9, 3)) == (9, "SequenceTokens")
    assert tokens(Kind.FEATURES, (9,)) == (1, "VectorTokens")
    assert tokens(Kind.TABULAR, (9,)) == (1, "VectorTokens")


def test_padding_embeds_to_zeros():
    text = TextTokens(5, 3, 4)
    assert (text(torch.tensor([[2, 0, 0]])).x[0, 1:] == 0).all()


def test_a_vector_is_one_token():
    assert VectorTokens(3, 4)(torch.randn(2, 3)).x.shape == (2, 1, 4)


def test_pooling_is_the_mean_over_tokens():
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(Tokens(x).pooled(), x.mean(1))
    assert torch.equal(Tokens(x[:, :1]).pooled(), x[:, 0])


def test_resizing():
    x = torch.arange(12.0).reshape(1, 6, 2)
    assert resize_tokens(x, 6) is x
    torch.testing.assert_close(resize_tokens(x, 1), x.mean(1, keepdim=True))
    torch.testing.assert_close(resize_tokens(x, 3), x.reshape(1, 3, 2, 2).mean(2))
    assert resize_tokens(x, 4).shape == (1, 4, 2)
