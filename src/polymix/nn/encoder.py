"""What an encoder promises, and what a stack of mixer blocks promises.

An `Encoder` maps one modality to tokens and lists its intermediate features. A `Stack` maps
tokens to tokens: behind a tokenizer it is an encoder, behind a fusion function a fusion network.
`polymix.testing.EncoderContract` and `StackContract` check the promises.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymix import built_in, registry
from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block, Scalar
from polymix.nn.tokens import Tokens, tokenizer
from polymix.registry import Parts, classes_of

Options = Mapping[str, Scalar]
ALL_KINDS = frozenset(Kind)


class Encoder(nn.Module):
    """One modality to tokens.

    A subclass sets the class attributes, takes the modality first and its options as keywords
    with defaults, and sets `channels` and `widths` in its constructor.

    Attributes:
        name: what genotypes call it.
        VERSION: raise it when outputs change for the same weights; it is in the ledger's key.
        kinds: the kinds of modality it takes.
        presets: options by preset; `small` must be there.
        widths: channels of each feature, in the order of `features`.
        pads: whether a token of zeros in the last feature is padding.
        pretrained: whether it comes with weights of its own; it is then a candidate wherever it
            `suits`, and describes its modality to gradient boosting as it is.
        view: options with which a pretrained one describes its modality, frozen.
        dtype: in which its features are banked.
        cuts: whether it cuts a batch into what it computes at once, and so may be given any.
        frozen: whether it is never trained: a pretrained one, unless its options say otherwise.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]
    kinds: ClassVar[frozenset[Kind]]
    presets: ClassVar[Mapping[str, Options]]
    widths: tuple[int, ...]
    pads: bool = False
    pretrained: ClassVar[bool] = False
    view: ClassVar[Options] = {}
    dtype: torch.dtype = torch.float16
    cuts: bool = False
    frozen: bool = False

    @property
    def channels(self) -> int:
        """Channels of the last feature."""
        return self.widths[-1]

    @classmethod
    def suits(cls, modality: Modality) -> bool:  # noqa: ARG003
        """Whether to try it on a modality of its kinds, where nobody names it."""
        return True

    def features(self, x: Tensor) -> list[Tokens]:  # noqa: ARG002
        """Every intermediate feature, `(B, T_i, C_i)`, the output last."""
        raise TypeError(f"{type(self).__name__} must define features")

    def banking(self) -> AbstractContextManager[object]:
        """What banked features are computed under: reduced precision, say, where it suffices."""
        return nullcontext()

    def forward(self, x: Tensor) -> Tokens:
        """The last feature, `(B, T, C)`."""
        return self.features(x)[-1]


class Stack(nn.Module):
    """Tokens to tokens of the same shape: a stack of mixer blocks.

    A subclass sets the class attributes and takes `tokens` (T, as built; a stack that takes any
    T ignores it), `channels` (C), then its options as keywords with defaults.

    Attributes:
        name: what genotypes call it.
        VERSION: raise it when outputs change for the same weights.
        kinds: the kinds of modality it makes an encoder for.
        any_length: whether it takes another T than it was built for.
        depth: number of features it lists.
        presets: options by preset, as an encoder (`channels` and `patch` among them).
        network_presets: options by preset, as a fusion network.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]
    kinds: ClassVar[frozenset[Kind]] = ALL_KINDS - {Kind.TABULAR}
    any_length: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Options]]
    network_presets: ClassVar[Mapping[str, Options]]
    depth: int

    def features(self, tokens: Tokens) -> list[Tokens]:  # noqa: ARG002
        """Each block's output, `(B, T, C)`; the closing LayerNorm belongs to the last."""
        raise TypeError(f"{type(self).__name__} must define features")

    def forward(self, tokens: Tokens) -> Tokens:
        """The last feature, `(B, T, C)`."""
        return self.features(tokens)[-1]


class StackEncoder(Encoder):
    """A stack behind the modality's tokenizer."""

    def __init__(self, stack: type[Stack], modality: Modality, options: Options) -> None:
        super().__init__()
        rest = dict(options)
        channels, patch = rest.pop("channels", 64), rest.pop("patch", 0)
        assert isinstance(channels, int)
        assert isinstance(patch, int)
        check_sizes(stack.name, channels=channels)
        self.tokenize = tokenizer(modality, channels, patch)
        self.stack = stack(self.tokenize.tokens, channels, **rest)
        self.widths = (channels,) * self.stack.depth

    def features(self, x: Tensor) -> list[Tokens]:
        """Each block's output."""
        return self.stack.features(self.tokenize(x))


def _lacks(cls: type[Encoder]) -> Iterator[str]:
    meaning = {**registry.VERSION, "kinds": "a frozenset of the kinds of modality it takes"}
    yield from registry.lacking(cls, Encoder, meaning, ["features"])
    yield from registry.presets(cls, "presets")


def _stack_lacks(cls: type[Stack]) -> Iterator[str]:
    yield from registry.lacking(cls, Stack, registry.VERSION, ["features"])
    yield from registry.presets(cls, "presets", "network_presets")
    if cls.__dict__.get("name") == "none":
        yield "name='none' stands for no fusion network: take another"


STACKS: Parts[type[Stack]] = Parts(
    "a mixer stack",
    "a class of polymix.Stack",
    classes_of(Stack),
    _stack_lacks,
    modules=built_in.STACKS,
)
"""Each is an encoder behind a tokenizer, and a fusion network behind a fusion function."""

ENCODERS: Parts[type[Encoder]] = Parts(
    "an encoder",
    "a class of polymix.Encoder",
    classes_of(Encoder),
    _lacks,
    modules=built_in.ENCODERS,
    beside=[STACKS],
)


def check_sizes(name: str, dropout: float = 0.0, **sizes: int) -> None:
    """What every block asks of its options.

    Raises:
        GenotypeError: a size below 1, or a dropout outside [0, 1).
    """
    if min(sizes.values()) < 1 or not 0 <= dropout < 1:
        shown = ", ".join(f"{key}={value}" for key, value in {**sizes, "dropout": dropout}.items())
        raise GenotypeError(f"{name}: sizes >= 1 and 0 <= dropout < 1 must hold, but got {shown}")


def resolve(
    block: Block, cls: type, presets: Mapping[str, Options], extra: tuple[str, ...]
) -> Options:
    """A block's options: its preset's, then its own.

    Args:
        block: name, preset, options.
        cls: the class that takes them.
        presets: of that class, for this use.
        extra: options taken on top of the constructor's.

    Raises:
        GenotypeError: no such preset or option, or a value of another type; all problems at once.
    """
    problems = []
    if block.preset not in presets:
        problems.append(
            f"{block.name} has no preset '{block.preset}': {did_you_mean(block.preset, presets)}"
        )
    parameters = inspect.signature(cls).parameters.values()
    known = {p.name: type(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    known |= dict.fromkeys(extra, int)
    for key, value in block.options:
        if key not in known:
            problems.append(f"{block.name} has no option '{key}': {did_you_mean(key, known)}")
        elif type(value) is not known[key] and (known[key], type(value)) != (float, int):
            problems.append(
                f"{block.name}: option '{key}' is of type {known[key].__name__}, but got {value!r}"
            )
    if problems:
        raise GenotypeError(problems)
    return {**presets[block.preset], **dict(block.options)}
