"""The M2-Mixer's published sizes, exactly."""

import pytest

from polymix.data.schema import Kind, Modality, Schema, Target
from polymix.genotype import Block
from polymix.nn.build import build
from polymix.space.mix import Loss, MixGenotype

AV_MNIST = Schema(
    modalities=(
        Modality(name="image", kind=Kind.IMAGE, shape=(1, 28, 28), dtype="uint8"),
        Modality(name="audio", kind=Kind.AUDIO, shape=(1, 112, 112), dtype="uint8"),
    ),
    target=Target(name="digit", task="multiclass", classes=tuple("0123456789")),
)
MIMIC = Schema(
    modalities=(
        Modality(name="time", kind=Kind.TIMESERIES, shape=(24, 12), dtype="float32"),
        Modality(name="static", kind=Kind.TABULAR, shape=(5,), dtype="float32"),
    ),
    target=Target(name="icd9", task="multiclass", classes=tuple("012345")),
)


def parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def av_mnist(channels, token_dim, channel_dim, blocks, fusion_blocks, fusion_dim, loss="uniform"):
    sizes = {"token_dim": token_dim, "channel_dim": channel_dim, "blocks": blocks}
    return MixGenotype(
        encoders=(
            ("image", Block.of("mlp-mixer", channels=channels, patch=14, **sizes)),
            ("audio", Block.of("mlp-mixer", channels=channels, patch=56, **sizes)),
        ),
        fusion="concat",
        network=Block.of(
            "mlp-mixer", blocks=fusion_blocks, token_dim=token_dim, channel_dim=fusion_dim
        ),
        loss=Loss(kind=loss),
    )


@pytest.mark.parametrize(
    ("genotype", "count"),
    [
        (av_mnist(32, 16, 256, 2, 1, 256), 192_742),
        (av_mnist(64, 16, 1024, 2, 1, 1024), 878_662),
        (av_mnist(64, 16, 1024, 2, 1, 1024, "single"), 877_362),
        (av_mnist(128, 32, 3072, 4, 2, 3078), 8_339_354),
    ],
    ids=["S", "M", "M-single", "B"],
)
def test_av_mnist(genotype, count):
    assert parameters(build(genotype, AV_MNIST)) == count


@pytest.mark.parametrize("loss", ["uniform", "linear"])
def test_mimic(loss):
    sizes = {"channel_dim": 64, "blocks": 1, "dropout": 0.3}
    genotype = MixGenotype(
        encoders=(
            ("time", Block.of("mlp-mixer", channels=64, token_dim=16, **sizes)),
            ("static", Block.of("mlp", channels=64, layers=3)),
        ),
        fusion="concat",
        network=Block.of("mlp-mixer", token_dim=8, **sizes),
        loss=Loss(kind=loss),
    )
    assert parameters(build(genotype, MIMIC)) == 29_355


def test_the_paper_ramlp_has_the_public_code_s_size():
    """19.8 M with its head of 512 x 512 and the classifier; ours are the stages alone."""
    genotype = MixGenotype.single("image", Block.of("ramlp", "paper"))
    stages = parameters(build(genotype, AV_MNIST).encoders)
    assert round((stages + 512 * 512 + 512 * 11) / 1e6, 1) == 19.8


@pytest.mark.parametrize("name", ["image", "audio"])
def test_small_presets_are_small(name):
    from polymix.nn import catalog

    for encoder in set(catalog.encoders_for(AV_MNIST[name].kind)) - set(catalog.PRETRAINED):
        built = catalog.make_encoder(Block.of(encoder), AV_MNIST[name])
        assert parameters(built) < 1_000_000, encoder
