"""Every encoder and every stack, on every kind of modality that they take."""

import pytest

from polymix.data.schema import Kind, Modality
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.testing import EXAMPLES, EncoderCase, EncoderContract, StackCase, StackContract

TINY = {  # one line an encoder: options that keep the checks quick
    "conv": Block.of("conv", channels=8, least=4),
    "lenet": Block.of("lenet", channels=4),
    "maxout": Block.of("maxout", channels=6, pieces=3, dropout=0.1),
    "mlp": Block.of("mlp", channels=6),
    "linear-tokens": Block.of("linear-tokens", channels=6),
    "ramlp": Block.of("ramlp", widths=(4, 6, 4, 8), depths=(1, 1, 1, 1), hd=(1, 2, 4, 8)),
    "mlp-mixer": Block.of("mlp-mixer", channels=6, token_dim=5, channel_dim=7, dropout=0.1),
    "hyper-mixer": Block.of("hyper-mixer", channels=6, token_dim=5, channel_dim=7),
    "monarch-mixer": Block.of("monarch-mixer", channels=7),
    "gmlp": Block.of("gmlp", channels=6, channel_dim=8),
    "s2-mlp": Block.of("s2-mlp", channels=6, channel_dim=8),
}
ODD = Modality(name="odd", kind=Kind.IMAGE, shape=(1, 36, 7), dtype="uint8")
VECTOR = Modality(name="vector", kind=Kind.FEATURES, shape=(9,), dtype="float16")
EXTRA = [
    EncoderCase(TINY["ramlp"], ODD),  # a region that does not divide the map
    EncoderCase(TINY["mlp-mixer"], VECTOR),  # one token
    EncoderCase(TINY["monarch-mixer"], VECTOR),
    EncoderCase(TINY["gmlp"], VECTOR),
    EncoderCase(Block.of("conv", channels=9), EXAMPLES[Kind.TIMESERIES]),
]
ENCODERS = [
    EncoderCase(block, EXAMPLES[kind])
    for name, block in TINY.items()
    for kind in sorted(catalog.encoder_class(name).kinds)
]
NETWORKS = {
    "mlp-mixer": Block.of("mlp-mixer", token_dim=5, channel_dim=7),
    "hyper-mixer": Block.of("hyper-mixer", token_dim=5, channel_dim=7),
    "monarch-mixer": Block.of("monarch-mixer", blocks=2),
    "gmlp": Block.of("gmlp", blocks=2, channel_dim=8),
    "s2-mlp": Block.of("s2-mlp", blocks=2, channel_dim=8),
}
STACKS = [
    StackCase(block, *shape)
    for block in NETWORKS.values()
    for shape in ((6, 8, (2, 3)), (5, 6, None), (1, 5, None))
]


class TestEncoders(EncoderContract):
    @pytest.fixture(params=ENCODERS + EXTRA, ids=str)
    def case(self, request):
        return request.param


class TestStacks(StackContract):
    @pytest.fixture(params=STACKS, ids=str)
    def case(self, request):
        return request.param


def test_every_block_of_the_catalog_is_checked():
    # Pretrained ones have tests of their own: an extra may not be installed.
    assert TINY.keys() == set(catalog.encoder_names()) - set(catalog.PRETRAINED)
    assert NETWORKS.keys() == set(catalog.STACKS)


def test_the_catalog_knows_who_takes_what():
    assert catalog.encoders_for(Kind.TABULAR) == ["linear-tokens", "maxout", "mlp"]
    assert "monarch-mixer" not in catalog.encoders_for(Kind.IMAGE)
    assert catalog.encoders_for(Kind.TEXT) == [
        "conv", "gmlp", "hyper-mixer", "linear-tokens", "maxout", "mlp", "mlp-mixer",
        "monarch-mixer", "pretrained-text", "s2-mlp",
    ]  # fmt: skip
