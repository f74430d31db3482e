"""Which descriptions describe a modality; what is banked in which precision; when one is ready."""

from __future__ import annotations

import pytest
import torch

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.genotype import Block
from polymix.nn.descriptions import Frozen, describers_for, make_description
from polymix.nn.encoders.conv import ConvEncoder
from polymix.registry import register
from polymix.testing import EXAMPLES, random_rows

from .common import series

AUDIO = Modality(name="a", kind=Kind.AUDIO, shape=(1, 16, 20), dtype="uint8")


@pytest.mark.parametrize(
    ("modality", "names"),
    [
        (EXAMPLES[Kind.IMAGE], ["summary"]),
        (EXAMPLES[Kind.TEXT], ["tf-idf"]),
        (EXAMPLES[Kind.TABULAR], ["summary"]),
        (EXAMPLES[Kind.FEATURES], ["summary"]),
        (EXAMPLES[Kind.AUDIO], ["summary"]),  # too small for statistics
        (AUDIO, ["sound-statistics"]),
        (series(6, 3), ["summary"]),
        (series(100, 3), ["series-statistics", "series-kernels"]),
        (series(6, 3, padded=True), ["series-statistics", "series-kernels"]),
        (series(6, 3, gaps=True), ["gap-statistics"]),
        (series(100, 4, gaps=True, padded=True), ["gap-statistics"]),
    ],
    ids=str,
)
def test_what_describes_a_modality(modality, names):
    blocks = describers_for(modality)
    assert [b.name for b in blocks] == names
    for block in blocks:
        described = make_description(block, modality)
        x = random_rows(modality, 8)
        assert described.dtype == torch.float32
        assert described(x).x.shape == (8, 1, described.channels)
        assert described.ready != described.needs_fit
        described.fit(x, 0)
        assert described.ready


@pytest.fixture
def trained(registrations):
    class Trained(ConvEncoder):
        name = "trained"
        pretrained = True
        view = {"states": (0, -1)}  # noqa: RUF012

    register(Trained)


@torch.no_grad()
def test_a_frozen_encoders_states_side_by_side(trained):
    image = EXAMPLES[Kind.IMAGE]
    block = describers_for(image)[-1]
    assert dict(block.options) == {"states": (0, -1)}
    described = make_description(block, image)
    assert isinstance(described, Frozen)
    assert described.ready
    assert described.dtype == torch.float16
    x = torch.randn(3, *image.shape)
    states = described.encoder.features(x)
    expected = torch.cat([states[0].pooled(), states[-1].pooled()], 1).double()
    torch.testing.assert_close(described.columns(x), expected)
    plain = make_description(Block.of("trained"), image)
    assert plain.channels == states[-1].x.shape[2]


@pytest.mark.parametrize(
    ("states", "said"), [((9,), "0 to"), ((), "0 to"), (3, "is a list, but got 3")]
)
def test_states_that_are_not_there(trained, states, said):
    with pytest.raises(GenotypeError, match=said):
        make_description(Block.of("trained", states=states), EXAMPLES[Kind.IMAGE])
