"""Pretrained encoders: networks that others trained, whose hidden states are features.

What they have in common: where weights come from, what stands for them in a genotype, that they
stay as they are unless asked otherwise, and that a run folder needs nothing but itself and the
extra: `pinned` writes the digest of the weights, and what a network is built from without them,
into a block's options, and of a folder its name alone. Weights are read from safetensors, or by
`torch.load(weights_only=True)`; no model's own code is ever run, and nothing is fetched unless
`pretrained_files.downloads` allows it.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polymix.errors import GenotypeError, MissingExtraError
from polymix.genotype import Block, is_model_name
from polymix.nn.encoder import Encoder
from polymix.nn.encoders.pretrained_files import is_self_contained
from polymix.nn.encoders.upper import UpperLayers


class PretrainedEncoder(Encoder):
    """Base of pretrained encoders. A subclass loads `net` and maps inputs to its hidden states.

    Attributes:
        net: the network, in evaluation mode whatever it is told: neither dropout nor batch
            statistics belong in features.
        extra: what to install it with.
        needs: the modules that its network and its weights come from.
        shipped: the model whose weights come with the extra.
        settled: the options that `pinned` adds.
    """

    presets = {"small": {}, "paper": {}}  # noqa: RUF012
    pretrained = True
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    shipped: ClassVar[str]
    net: nn.Module
    settled: Mapping[str, str]

    def _settle(self, name: str, digest: str, config: str, frozen: bool) -> Any:
        """Load, or build from `config` what a state is then loaded into; the network's config."""
        source = _loaded(type(self), name, digest, config)
        self.missing = "" if source.digest else f"no weights of '{name}': {source.error}"
        if digest and source.digest and source.digest != digest:
            raise GenotypeError(
                f"{self.name}: the weights of '{name}' have digest {source.digest}, but the "
                f"genotype was made with {digest}: another version of them is installed"
            )
        self.net = source.share(frozen)
        self.frozen = frozen
        self.register_load_state_dict_post_hook(_found)  # type: ignore[no-untyped-call]
        self.settled = {"digest": source.digest or digest}
        if name != self.shipped:
            named = name if is_model_name(name) else _plain(name)
            told = config or compact(source.config)
            self.settled = {**self.settled, "model": named, "config": told}
        return source.config

    @classmethod
    def installed(cls) -> bool:
        """Whether what it needs can be imported; nothing is."""
        return all(importlib.util.find_spec(module) is not None for module in cls.needs)

    @classmethod
    def load(cls, name: str, digest: str = "") -> tuple[nn.Module, Any]:
        """The network and its config.

        Args:
            name: a hub id; or a folder, where there is no digest.
            digest: of the weights, where a genotype names them.

        Raises:
            OSError: there are no such weights here.
        """
        raise TypeError(f"{cls.__name__} must define load, for {name} {digest}")

    @classmethod
    def blank(cls, config: str) -> tuple[nn.Module, Any]:
        """The network without its weights, from its config as JSON."""
        raise TypeError(f"{cls.__name__} must define blank, for {config}")

    def cut(self, state: int) -> None:
        """Take the layers above one of the features off the network, where nobody reads them.

        A network whose layers cannot be told apart stays whole.

        Args:
            state: which feature is then the last.
        """

    def split(self, state: int) -> UpperLayers:
        """Take the layers above one of the features off the network, so that they can be tuned.

        Args:
            state: which feature is then the last, its tokens kept; the first and the last are none.

        Raises:
            GenotypeError: no layers of this network can be told apart.
        """
        raise GenotypeError(
            f"{self.name}: no layers above state {state} can be told apart in this network"
        )

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Training mode changes nothing in the network."""
        super().train(mode)
        self.net.eval()
        return self

    def check(self) -> None:
        """Refuse to compute with weights that were never loaded."""
        if self.missing:
            raise GenotypeError(self.missing)


def _found(module: nn.Module, _: Any) -> None:
    """A state that was loaded brought the weights."""
    assert isinstance(module, PretrainedEncoder)
    module.missing = ""


class _Source:
    """A network that was loaded once, for all encoders of this process.

    Attributes:
        digest: of its weights; empty where they are not here.
        config: what it was built from.
    """

    def __init__(self, net: nn.Module, config: Any, digest: str, error: str = "") -> None:
        self.net, self.config, self.digest, self.error = net.eval(), config, digest, error

    def share(self, frozen: bool) -> nn.Module:
        """A network of its own; frozen ones share the memory of their weights."""
        if not frozen:
            return copy.deepcopy(self.net)
        shared: dict[int, Any] = {
            id(p): nn.Parameter(p.detach(), requires_grad=False) for p in self.net.parameters()
        }
        shared |= {id(b): b for b in self.net.buffers()}
        return copy.deepcopy(self.net, shared)


_SOURCES: dict[tuple[type, str, str], _Source] = {}


def _loaded(cls: type[PretrainedEncoder], name: str, digest: str, config: str) -> _Source:
    """The network that a block names, loaded once, or built from its configuration."""
    if is_self_contained() and name != cls.shipped:
        return _blank(cls, name, config, "the genotype names them, and a state brings them")
    found = _SOURCES.get((cls, name, digest)) or _SOURCES.get((cls, name, ""))
    if found is not None:
        return found
    # Not where the caller builds: on `meta`, say, where only shapes are asked for.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        try:
            net, made = cls.load(name, digest)
        except ImportError as error:
            raise MissingExtraError(
                f'{cls.name} needs a library ({error}): pip install "polymix[{cls.extra}]"'
            ) from None
        except (OSError, ValueError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            if not config:
                raise GenotypeError(
                    f"{cls.name}: no weights of '{name}': {told.rstrip('.')}. Give the id of a "
                    "model on the hub that was downloaded, or a folder"
                ) from None
            # Not kept: they may be here the next time.
            return _blank(cls, name, config, told)
    source = _Source(net, made, weights_digest(net.state_dict()))
    _SOURCES[cls, name, digest] = _SOURCES[cls, name, source.digest] = source
    return source


def _blank(cls: type[PretrainedEncoder], name: str, config: str, why: str) -> _Source:
    """A network without weights, where the caller builds: on `meta` it takes no memory."""
    try:
        with torch.random.fork_rng(devices=[]):
            net, made = cls.blank(config)
    except ImportError as error:
        raise MissingExtraError(
            f'{cls.name} needs a library ({error}): pip install "polymix[{cls.extra}]"'
        ) from None
    except ValueError as error:
        raise GenotypeError(f"{cls.name}: '{name}' cannot be built: {error}") from None
    return _Source(net, made, "", why)


def _plain(path: str) -> str:
    """A folder's name as a model's: where it lies is no part of a genotype."""
    return "local-" + re.sub(r"[^A-Za-z0-9_]+", "-", Path(path).name).strip("-_")[:80]


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Sixteen hex digits that stand for weights."""
    found = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        found.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def compact(config: Any) -> str:
    """A transformers config as JSON, the same text for the same network wherever it lies."""
    fields = config.to_diff_dict()
    for name in ("_name_or_path", "transformers_version"):
        fields.pop(name, None)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), default=str)


def pinned(block: Block, encoder: Encoder) -> Block:
    """The block that stands for an encoder's very weights; any other encoder's as it is.

    Args:
        block: that `encoder` was made from.
        encoder: made.
    """
    if not isinstance(encoder, PretrainedEncoder):
        return block
    return Block.of(block.name, block.preset, **{**dict(block.options), **encoder.settled})
