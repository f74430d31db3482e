"""The blocks that genotypes name. One import and one line add one.

`register` adds a block of your own, under its `name`, to the same tables.
"""

from __future__ import annotations

import contextlib

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.nn.encoder import Encoder, Stack, StackEncoder, resolve
from polymix.nn.encoders.conv import ConvEncoder
from polymix.nn.encoders.lenet import LeNet
from polymix.nn.encoders.linear_tokens import LinearTokens
from polymix.nn.encoders.maxout import Maxout
from polymix.nn.encoders.mlp import MLPEncoder, PooledNetwork
from polymix.nn.encoders.pretrained import pinned
from polymix.nn.encoders.pretrained_image import PretrainedImage
from polymix.nn.encoders.pretrained_text import PretrainedText
from polymix.nn.encoders.ramlp import RaMLP
from polymix.nn.fusion import Concat, FusionFunction, Max, Mean
from polymix.nn.mixers.gmlp import GMLP
from polymix.nn.mixers.hyper_mixer import HyperMixer
from polymix.nn.mixers.mlp_mixer import MLPMixer
from polymix.nn.mixers.monarch import MonarchMixer
from polymix.nn.mixers.s2mlp import S2MLP

STACKS: dict[str, type[Stack]] = {
    s.name: s for s in (MLPMixer, HyperMixer, MonarchMixer, GMLP, S2MLP)
}
ENCODERS: dict[str, type[Encoder]] = {
    e.name: e for e in (ConvEncoder, LeNet, Maxout, RaMLP, MLPEncoder, LinearTokens)
}
PRETRAINED: dict[str, type[Encoder]] = {e.name: e for e in (PretrainedText, PretrainedImage)}
"""Those that need an extra, and whose weights are checked by their digest."""
ENCODERS.update(PRETRAINED)
FUSIONS: dict[str, type[FusionFunction]] = {f.name: f for f in (Concat, Mean, Max)}


def register(cls: type[Encoder] | type[Stack]) -> None:
    """Add an encoder, or a stack (an encoder and a fusion network), under its `name`.

    Raises:
        GenotypeError: another class has the name.
    """
    table: dict[str, type] = STACKS if issubclass(cls, Stack) else ENCODERS
    taken = {**STACKS, **ENCODERS}.get(cls.name)
    if taken is not None and taken is not cls:
        raise GenotypeError(f"the name '{cls.name}' is taken by {taken.__qualname__}")
    table[cls.name] = cls


def encoder_names() -> list[str]:
    """Every encoder's name."""
    return sorted({*STACKS, *ENCODERS})


def network_names() -> list[str]:
    """Every fusion network's name."""
    return sorted({*STACKS, PooledNetwork.name})


def encoder_class(name: str) -> type[Encoder] | type[Stack]:
    """The class behind a name.

    Raises:
        GenotypeError: there is no such encoder.
    """
    found = ENCODERS.get(name) or STACKS.get(name)
    if found is None:
        raise GenotypeError(f"no encoder '{name}': {did_you_mean(name, encoder_names())}")
    return found


def encoders_for(kind: Kind) -> list[str]:
    """The encoders that take a kind of modality."""
    return [name for name in encoder_names() if kind in encoder_class(name).kinds]


def pretrained_for(modality: Modality) -> list[Block]:
    """The encoders that come with weights of their own and suit a modality, weights pinned."""
    found = []
    for name, encoder in sorted(ENCODERS.items()):
        if encoder.pretrained and modality.kind in encoder.kinds and encoder.suits(modality):
            block = Block.of(name)
            with contextlib.suppress(GenotypeError):  # more tokens than it reads, say
                found.append(pinned(block, make_encoder(block, modality)))
    return found


def make_encoder(block: Block, modality: Modality) -> Encoder:
    """Build an encoder.

    Raises:
        GenotypeError: no such encoder, preset or option, or a modality that it does not take.
    """
    cls = encoder_class(block.name)
    if modality.kind not in cls.kinds:
        raise GenotypeError(
            f"{block.name} does not take modality '{modality.name}' of kind {modality.kind}: "
            f"{', '.join(encoders_for(modality.kind))} do"
        )
    if issubclass(cls, Stack):
        options = resolve(block, cls, cls.presets, ("channels", "patch"))
        return StackEncoder(cls, modality, options)
    return cls(modality, **resolve(block, cls, cls.presets, ()))


def make_network(block: Block, tokens: int, channels: int) -> Stack:
    """Build a fusion network over tokens.

    Raises:
        GenotypeError: no such network, preset or option.
    """
    if block.name not in STACKS:
        known = [*STACKS, PooledNetwork.name]
        raise GenotypeError(f"no fusion network '{block.name}': {did_you_mean(block.name, known)}")
    cls = STACKS[block.name]
    return cls(tokens, channels, **resolve(block, cls, cls.network_presets, ()))


def make_pooled_network(block: Block, width: int) -> PooledNetwork:
    """Build late fusion's MLP over pooled features."""
    options = resolve(block, PooledNetwork, PooledNetwork.network_presets, ())
    return PooledNetwork(width, **options)  # type: ignore[arg-type]


def version(block: Block) -> int:
    """The version of an encoder's or a network's code."""
    if block.name in STACKS:
        return STACKS[block.name].VERSION
    return ENCODERS[block.name].VERSION if block.name in ENCODERS else PooledNetwork.VERSION
