"""States of tokens: a network cut in two says what it said whole, and padding says nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.descriptions import TokenStates, is_pretrained, make_description
from polymix.nn.encoders.pretrained import PretrainedEncoder
from polymix.nn.encoders.pretrained_text import PretrainedText
from polymix.registry import register

LENGTH, VOCABULARY = 7, 13
WORDS = Modality(
    name="words", kind=Kind.TEXT, shape=(LENGTH,), dtype="int32", vocabulary=VOCABULARY
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=20,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def ids_of(lengths) -> torch.Tensor:
    there = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    return torch.randint(1, VOCABULARY, (len(lengths), LENGTH)) * there


@torch.no_grad()
@pytest.mark.parametrize("state", [1, 2])
@pytest.mark.parametrize("length", [0, 4])
def test_a_network_cut_in_two_is_the_network(bert, state, length):
    block = Block.of("pretrained-text", model=bert, tokens=True, states=(state,), length=length)
    assert is_pretrained(block)
    view = make_description(block, WORDS)
    assert isinstance(view, TokenStates)
    assert view.dtype == torch.float16
    assert view.length == (length or LENGTH)
    ids = ids_of([7, 3, 0, 5, 1, 7])
    (states,) = view.features(ids)
    assert states.x.shape == (6, view.length, 8)
    there = (states.x != 0).any(2)
    assert torch.equal(there, ids[:, : view.length] != 0)
    plain = Block.of("pretrained-text", model=bert)
    whole = catalog.make_encoder(plain, WORDS)(ids[:, : view.length]).x[:, 0]
    torch.testing.assert_close(view.above(states.x, there), whole)
    assert not view.above(states.x, there)[2].any()
    assert not any(p.requires_grad for p in view.parameters())
    assert not [n for n, _ in view.named_parameters() if f"layer.{state}." in n]


@torch.no_grad()
@given(lengths=st.lists(st.integers(0, LENGTH), min_size=1, max_size=12))
def test_a_row_is_the_same_whatever_it_is_batched_with(bert, lengths):
    block = Block.of("pretrained-text", model=bert, tokens=True, states=(1,))
    view, ids = make_description(block, WORDS), ids_of(lengths)
    alone = torch.cat([view.columns(row[None]) for row in ids])
    torch.testing.assert_close(view.columns(ids), alone)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"states": (0, 1)}, "a layer's below the last, 1 to 2"),
        ({"states": (0,)}, "a layer's below the last, 1 to 2"),
        ({"states": (3,)}, "a layer's below the last, 1 to 2"),
        ({}, "a layer's below the last, 1 to 2"),
        ({"states": (1,), "layers": 1}, "a layer's below the last, 1 to 0"),
        (
            {"states": (1,), "length": -1},
            "length must be at least 0, and 0 for an image",
        ),
    ],
)
def test_what_cannot_be_cut(bert, options, told):
    block = Block.of("pretrained-text", model=bert, tokens=True, **options)
    with pytest.raises(GenotypeError, match=told):
        make_description(block, WORDS)


@torch.no_grad()
@pytest.mark.parametrize("state", [11, 14, 15])
def test_an_image_network_cut_in_two_is_the_network(state):
    pytest.importorskip("efficientnet_lite_pytorch")
    photo = Modality(name="p", kind=Kind.IMAGE, shape=(3, 32, 32), dtype="uint8")
    view = make_description(
        Block.of("pretrained-image", tokens=True, states=(state,), side=64), photo
    )
    assert isinstance(view, TokenStates)
    x = torch.rand(3, 3, 32, 32) * 255
    (states,) = view.features(x)
    assert states.x.shape == (3, view.length, view.channels)
    there = torch.tensor([True, False, True])[:, None].expand(3, view.length)
    found = view.above(states.x, there)
    whole = catalog.make_encoder(Block.of("pretrained-image", side=64), photo)(x).x.mean(1)
    torch.testing.assert_close(found[[0, 2]], whole[[0, 2]])
    assert not found[1].any()


def test_a_network_of_another_kind_cannot_be_cut(bert, registrations):
    class Whole(PretrainedText):
        name = "whole-text"

        def split(self, state):
            return PretrainedEncoder.split(self, state)

    register(Whole)
    with pytest.raises(GenotypeError, match="no layers above state 1 can be told apart"):
        make_description(Block.of("whole-text", model=bert, tokens=True, states=(1,)), WORDS)
