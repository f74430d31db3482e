"""Which descriptions there are, and which of them describe a modality."""

from __future__ import annotations

from typing import Any

from polymix.data.schema import Modality
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.descriptions.description import Description, Frozen
from polymix.nn.descriptions.gaps import GapStatistics
from polymix.nn.descriptions.kernels import Kernels
from polymix.nn.descriptions.series import SeriesStatistics
from polymix.nn.descriptions.sound import SoundStatistics
from polymix.nn.descriptions.summary import Summary, is_columns
from polymix.nn.descriptions.tf_idf import TfIdf
from polymix.nn.descriptions.token_states import TokenStates
from polymix.nn.encoder import resolve
from polymix.nn.encoders.pretrained import PretrainedEncoder

DESCRIPTIONS: dict[str, type[Description]] = {
    d.name: d for d in (TfIdf, Summary, SoundStatistics, SeriesStatistics, Kernels, GapStatistics)
}


def describers_for(modality: Modality) -> list[Block]:
    """What describes a modality: our own, then encoders that come with weights.

    What is made for sounds or series stands in place of the summary, where it takes the modality;
    short series of one length are columns, which say all there is.
    """
    taken = [d for d in DESCRIPTIONS.values() if modality.kind in d.kinds and d.suits(modality)]
    if len(taken) > 1:
        taken = [d for d in taken if (d is Summary) == is_columns(modality)]
    return [Block.of(d.name) for d in taken] + [
        _viewed(b) for b in catalog.pretrained_for(modality)
    ]


def _viewed(block: Block) -> Block:
    """A frozen encoder, with what it is looked at by where its weights are the shipped ones."""
    view = catalog.ENCODERS[block.name].view
    return Block.of(block.name, block.preset, **{**view, **dict(block.options)})


def make_description(block: Block, modality: Modality) -> Description:
    """Build a description.

    Besides its own options a frozen encoder takes `states`, which of its features are pooled and
    set side by side: the last alone, unless it says otherwise. With `tokens` one of them keeps
    its tokens, the first `length` of a row; see `TokenStates`.

    Raises:
        GenotypeError: no such one, or a modality that it does not take.
    """
    cls = DESCRIPTIONS.get(block.name)
    found = catalog.ENCODERS.get(block.name)
    if cls is None and found and found.pretrained and modality.kind in found.kinds:
        options: dict[str, Any] = dict(block.options)
        states = options.pop("states", (-1,))
        if not isinstance(states, tuple):
            raise GenotypeError(f"{block.name}: option 'states' is a list, but got {states!r}")
        tokens, length = options.pop("tokens", False), options.pop("length", 0)
        encoder = catalog.make_encoder(Block.of(block.name, block.preset, **options), modality)
        if tokens and isinstance(encoder, PretrainedEncoder):
            return TokenStates(encoder, modality, states, length)
        if tokens or length:
            raise GenotypeError(f"{block.name}: its tokens are not kept, or cut: {block}")
        if isinstance(encoder, PretrainedEncoder) and set(states) < set(range(len(encoder.widths))):
            encoder.cut(max(states, default=0))
        return Frozen(encoder, states)
    if cls is None or modality.kind not in cls.kinds:
        hint = did_you_mean(block.name, [b.name for b in describers_for(modality)])
        raise GenotypeError(
            f"'{block.name}' describes no modality of kind {modality.kind} as '{modality.name}' "
            f"is: {hint}"
        )
    made: Any = cls
    described: Description = made(modality, **resolve(block, cls, cls.presets, ()))
    return described


def is_pretrained(block: Block) -> bool:
    """Whether a view is a network's that comes with weights, whose pass is all that it costs."""
    found = catalog.ENCODERS.get(block.name)
    return block.name not in DESCRIPTIONS and found is not None and found.pretrained


def description_version(block: Block) -> int:
    """The version of a description's code."""
    cls = DESCRIPTIONS.get(block.name)
    return cls.VERSION if cls else catalog.version(block)
