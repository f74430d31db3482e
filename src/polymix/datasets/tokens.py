"""Texts as token ids: byte pairs, learned from the training rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polymix.errors import MissingExtraError

PAD, UNKNOWN = "[PAD]", "[UNK]"


class Tokenizer:
    """Byte-pair encoding of lower-cased words; 0 pads, 1 is a character never seen in training.

    Args:
        texts: what it learns from.
        vocabulary: ids at most.

    Raises:
        MissingExtraError: the library `tokenizers` is not installed.
    """

    def __init__(self, texts: Sequence[str], vocabulary: int) -> None:
        try:
            import tokenizers
            from tokenizers import models, normalizers, pre_tokenizers, trainers
        except ImportError as error:
            raise MissingExtraError(
                f'reading texts needs tokenizers ({error}): pip install "polymix[mmimdb]"'
            ) from None
        self._tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN))
        self._tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase()]
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            limit_alphabet=vocabulary // 4,
            special_tokens=[PAD, UNKNOWN],
            show_progress=False,
        )
        self._tokenizer.train_from_iterator(texts, trainer)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str], length: int) -> np.ndarray:
        """The first `length` tokens of each text, `(B, length)` int32, padded behind."""
        out = np.zeros((len(texts), length), np.int32)
        for row, encoded in zip(out, self._tokenizer.encode_batch(list(texts)), strict=True):
            ids = encoded.ids[:length]
            row[: len(ids)] = ids
        return out
