"""The blocks that genotypes name: encoders, mixer stacks, fusion functions.

Each is imported when it is asked for; `polymix.register` adds one of your own.
"""

from __future__ import annotations

import contextlib

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.nn.encoder import ENCODERS, STACKS, Encoder, Stack, StackEncoder, resolve
from polymix.nn.encoders.mlp import PooledNetwork
from polymix.nn.encoders.pretrained import pinned
from polymix.nn.encoders.pretrained_image import PretrainedImage
from polymix.nn.encoders.pretrained_text import PretrainedText
from polymix.nn.fusion import FUSIONS, FusionFunction

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "PRETRAINED",
    "STACKS",
    "encoder_class",
    "encoder_names",
    "encoders_for",
    "fusion_class",
    "make_encoder",
    "make_network",
    "make_pooled_network",
    "network_names",
    "pretrained_for",
    "version",
]

PRETRAINED: dict[str, type[Encoder]] = {e.name: e for e in (PretrainedText, PretrainedImage)}
"""Those that need an extra, and whose weights are checked by their digest."""


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


def fusion_class(name: str) -> type[FusionFunction]:
    """The fusion function behind a name.

    Raises:
        GenotypeError: there is no such function.
    """
    if name not in FUSIONS:
        raise GenotypeError(FUSIONS.unknown(name))
    return FUSIONS[name]


def version(block: Block) -> int:
    """The version of an encoder's or a network's code."""
    if block.name in STACKS:
        return STACKS[block.name].VERSION
    return ENCODERS[block.name].VERSION if block.name in ENCODERS else PooledNetwork.VERSION
