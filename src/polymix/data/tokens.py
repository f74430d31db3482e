"""Texts as token ids: byte pairs, learned from the training rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from polymix.errors import DataError, MissingExtraError

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
        library = _library()
        self._tokenizer: Any = library.Tokenizer(library.models.BPE(unk_token=UNKNOWN))
        self._tokenizer.normalizer = library.normalizers.Sequence(
            [library.normalizers.NFKC(), library.normalizers.Lowercase()]
        )
        self._tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            limit_alphabet=vocabulary // 4,
            special_tokens=[PAD, UNKNOWN],
            show_progress=False,
        )
        self._tokenizer.train_from_iterator(texts, trainer)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """A tokenizer that `to_json` wrote.

        Raises:
            DataError: the text is none.
            MissingExtraError: the library `tokenizers` is not installed.
        """
        made = cls.__new__(cls)
        try:
            made._tokenizer = _library().Tokenizer.from_str(text)
        except MissingExtraError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"the text's byte pairs cannot be read: {error}") from None
        return made

    def to_json(self) -> str:
        """All that it learned."""
        text: str = self._tokenizer.to_str()
        return text

    def __len__(self) -> int:
        size: int = self._tokenizer.get_vocab_size()
        return size

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """How many tokens each text has, `(B,)` int64."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return np.array([len(e.ids) for e in encoded], np.int64)

    def __call__(self, texts: Sequence[str], length: int) -> np.ndarray:
        """The first `length` tokens of each text, `(B, length)` int32, padded behind."""
        out = np.zeros((len(texts), length), np.int32)
        for row, encoded in zip(out, self._tokenizer.encode_batch(list(texts)), strict=True):
            ids = encoded.ids[:length]
            row[: len(ids)] = ids
        return out


def _library() -> ModuleType:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise MissingExtraError(
            f'reading text needs tokenizers ({error}): pip install "polymix[tables]"'
        ) from None
    return tokenizers
