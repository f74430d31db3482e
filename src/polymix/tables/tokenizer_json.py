"""Tokenizers from JSON: built anew from their vocabulary and merges, never as the JSON asks.

The library `tokenizers` ends the process on some JSON that is none of its own. So what it is given
here is made of checked words and numbers; a text that asks for more than polymix writes is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PAD, UNKNOWN = "[PAD]", "[UNK]"
MARKS = ("[CLS]", "[SEP]")
"""What MiniLM's network wants before and behind a text."""

MAX_WORDS = 1_000_000
MAX_WORD = 10_000
"""Words of a vocabulary, and characters of one."""

_LEARNED: dict[str, Any] = {
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "model": {
        "type": "BPE", "dropout": None, "unk_token": UNKNOWN, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
    },
}  # fmt: skip
_PRETRAINED: dict[str, Any] = {
    "normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
        "strip_accents": None, "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
    },
    "model": {
        "type": "WordPiece", "unk_token": UNKNOWN, "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
}  # fmt: skip


def rebuild(text: str, library: Any) -> Any:
    """The tokenizer that a text describes.

    Args:
        text: what the library wrote of a tokenizer of polymix's, or of MiniLM's.
        library: `tokenizers`.

    Raises:
        ValueError: it is the text of no such tokenizer.
    """
    try:
        told = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    model = told.get("model") if isinstance(told, dict) else None
    if not isinstance(model, dict):
        raise ValueError("it has no model")
    vocabulary = _vocabulary(model.get("vocab"))
    if _has(told, _LEARNED):
        return _learned(vocabulary, _merges(model.get("merges"), vocabulary), library)
    if _has(told, _PRETRAINED):
        return _pretrained(vocabulary, _special(told, vocabulary), library)
    raise ValueError("it is of a kind that polymix does not write")


def with_bytes(made: Any, library: Any) -> Any:
    """A byte-pair tokenizer whose words are read as polymix reads them: lower-cased, by spaces."""
    made.normalizer = library.normalizers.Sequence(
        [library.normalizers.NFKC(), library.normalizers.Lowercase()]
    )
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    return made


def _learned(vocabulary: dict[str, int], merges: list[tuple[str, str]], library: Any) -> Any:
    model = library.models.BPE(vocab=vocabulary, merges=merges, unk_token=UNKNOWN)
    made = with_bytes(library.Tokenizer(model), library)
    made.add_special_tokens([PAD, UNKNOWN])
    return made


def _pretrained(vocabulary: dict[str, int], special: list[str], library: Any) -> Any:
    made = library.Tokenizer(
        library.models.WordPiece(
            vocab=vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100,
            continuing_subword_prefix="##",
        )
    )  # fmt: skip
    made.normalizer = library.normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    before, behind = MARKS
    made.post_processor = library.processors.TemplateProcessing(
        single=f"{before} $A {behind}", pair=f"{before} $A {behind} $B:1 {behind}:1",
        special_tokens=[(mark, vocabulary[mark]) for mark in MARKS],
    )  # fmt: skip
    made.decoder = library.decoders.WordPiece(prefix="##", cleanup=True)
    made.add_special_tokens(special)
    return made


def _vocabulary(told: object) -> dict[str, int]:
    """Words by their ids, which are 0, 1, …, each once."""
    if not isinstance(told, dict) or not 2 <= len(told) <= MAX_WORDS:
        raise ValueError(f"its vocabulary has not 2 to {MAX_WORDS:,} words")
    ids = list(told.values())
    if not all(type(i) is int for i in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError("the ids of its vocabulary are not 0, 1, 2, …")
    if not all(_is_word(word) for word in told):
        raise ValueError("its vocabulary has a word that is none")
    if PAD not in told or UNKNOWN not in told:
        raise ValueError(f"its vocabulary lacks {PAD} or {UNKNOWN}")
    return told


def _merges(told: object, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    if not isinstance(told, list) or len(told) > MAX_WORDS:
        raise ValueError("it has no merges")
    found = []
    for pair in told:
        match pair:
            case [str(first), str(second)] if {first, second, first + second} <= vocabulary.keys():
                found.append((first, second))
            case _:
                raise ValueError("a merge is not of words of its vocabulary")
    return found


def _special(told: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[str]:
    """Words that are never cut: those of the vocabulary that are said to be."""
    listed = told.get("added_tokens")
    words = [t.get("content") for t in listed if isinstance(t, dict)] if listed else []
    if any(not isinstance(w, str) or w not in vocabulary for w in words):
        raise ValueError("a special word is not in its vocabulary")
    if any(mark not in vocabulary for mark in MARKS):
        raise ValueError(f"its vocabulary lacks {' or '.join(MARKS)}")
    return [str(word) for word in words]


def _is_word(word: str) -> bool:
    if not 0 < len(word) <= MAX_WORD:
        return False
    try:
        word.encode()
    except UnicodeEncodeError:  # half of a character
        return False
    return True


def _has(told: object, wanted: object) -> bool:
    """Whether all that is wanted is there, as it is wanted; more is no matter."""
    if isinstance(wanted, dict):
        return isinstance(told, dict) and all(
            _has(told.get(name), value) for name, value in wanted.items()
        )
    return type(told) is type(wanted) and told == wanted
