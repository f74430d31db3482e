"""A folder of a pretrained network is data: no code of its own, no other file, nothing fetched."""

from __future__ import annotations

import json
import socket

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.genotype import Block, is_model_name, parse_genotype
from polymix.nn import catalog
from polymix.nn.encoders import pretrained, pretrained_files
from polymix.nn.encoders.pretrained_files import (
    IMAGE_NETWORKS,
    TEXT_NETWORKS,
    blank_network,
    config_of,
    downloads,
    locate,
    read_network,
    self_contained,
)
from polymix.space.mix import MixGenotype

transformers = pytest.importorskip("transformers")
WORDS = Modality(name="words", kind=Kind.TEXT, shape=(5,), dtype="int32", vocabulary=13)
SIZES = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 8, "max_position_embeddings": 20, "pad_token_id": 0}  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No network, nothing loaded before, a cache of its own."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(pretrained, "_SOURCES", {})
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def bert(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path / "a bert")
    return tmp_path / "a bert"


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_folder_with_code_of_its_own_runs_none(bert, tmp_path):
    canary = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n"
    for name in ("evil.py", "modeling_bert.py", "configuration_bert.py"):
        (bert / name).write_text(code)
    (bert / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b"}))
    ways = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    change(bert, auto_map=ways, attn_implementation="evil/kernel", _attn_implementation="evil/k",
           quantization_config={"quant_method": "evil"}, trust_remote_code=True)  # fmt: skip
    net, config = read_network(bert, TEXT_NETWORKS)
    assert type(net) is transformers.BertModel
    assert net.config._attn_implementation in ("eager", "sdpa")
    for name in ("auto_map", "quantization_config", "trust_remote_code"):
        assert not hasattr(config, name)
    change(bert, model_type="evil")
    with pytest.raises(ValueError, match="no network of type 'evil'"):
        read_network(bert, TEXT_NETWORKS)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "detr", "backbone": "a/b", "use_pretrained_backbone": True}, "type 'detr'"),
        ({"model_type": ["bert"]}, "no network of type"),
        ({"hidden_size": 10**9}, "hidden_size must be at most 1,000,000"),
        ({"num_hidden_layers": 10**5}, "num_hidden_layers must be at most 1,000"),
        ({"hidden_act": "../../evil"}, "no word"),
        ({"hidden_size": "x"}, "configuration"),
        ({"hidden_size": 100_000, "num_attention_heads": 1}, "weights are there|are there"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be"),
        ({"num_hidden_layers": 3}, "model.safetensors has no encoder.layer.2"),
    ],
)
def test_a_configuration_that_asks_for_too_much_or_for_others(bert, fields, said):
    change(bert, **fields)
    with pytest.raises(ValueError, match=said):
        read_network(bert, TEXT_NETWORKS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SIZES, "hidden_act", "auto_map"]), JSON, max_size=4))
def test_any_configuration_is_built_or_refused(fields):
    try:
        made = config_of({"model_type": "bert"} | SIZES | fields, TEXT_NETWORKS)
    except ValueError:
        return
    assert type(made) is transformers.BertConfig
    assert not hasattr(made, "auto_map")


def test_parts_of_a_model_are_files_of_its_folder(bert, tmp_path):
    (bert / "model.safetensors").rename(bert / "model-00001-of-00001.safetensors")
    index = bert / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    read_network(bert, TEXT_NETWORKS)
    for name in ("../model-00001-of-00001.safetensors", "/etc/passwd", 3, "evil.bin"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match="names other files"):
            read_network(bert, TEXT_NETWORKS)


@pytest.mark.parametrize(
    "name", ["a/b", "bert-base", "a/b/c", "../x", "/no/where", "a/../b", "-x", ""]
)
def test_a_name_is_looked_up_here_alone(name, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: asked.append((a, k)))
    with pytest.raises(OSError, match=r"--allow-download fetches it|no such folder"):
        locate(name, "")
    assert not asked
    with downloads(True):
        if is_model_name(name):
            with pytest.raises(TypeError):  # the stand-in gives no path
                locate(name, "")
            ((_, told),) = asked
            assert told["token"] is False
        else:
            with pytest.raises(OSError, match="no such folder"):
                locate(name, "")


def test_a_genotype_names_no_path(bert):
    block = Block.of("pretrained-text", model=str(bert))
    encoder = catalog.make_encoder(block, WORDS)
    made = pretrained.pinned(block, encoder)
    assert dict(made.options)["model"] == "local-a-bert"
    genotype = MixGenotype.single("words", made)
    assert str(bert.parent) not in genotype.to_json()
    assert parse_genotype(genotype.to_json()) == genotype
    with pytest.raises(GenotypeError, match="names models by their hub id, not"):
        parse_genotype(MixGenotype.single("words", block).to_json())
    # Found again by its digest, wherever this process starts from.
    pretrained._SOURCES.clear()
    assert not catalog.make_encoder(made, WORDS).missing
    (bert / "model.safetensors").write_bytes(b"")
    pretrained._SOURCES.clear()
    assert "not safetensors" in catalog.make_encoder(made, WORDS).missing


def test_other_weights_under_the_same_name_are_refused(bert):
    block = Block.of("pretrained-text", model=str(bert))
    made = pretrained.pinned(block, catalog.make_encoder(block, WORDS))
    pretrained._SOURCES.clear()
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(bert)
    with pytest.raises(GenotypeError, match="another version of them is installed"):
        catalog.make_encoder(made, WORDS)


def test_what_brings_its_weights_looks_nowhere(bert, monkeypatch):
    block = Block.of("pretrained-text", model=str(bert))
    made = pretrained.pinned(block, catalog.make_encoder(block, WORDS))
    monkeypatch.setattr(pretrained_files, "locate", None)
    with self_contained():
        assert catalog.make_encoder(made, WORDS).missing
        with pytest.raises(GenotypeError, match="cannot be built"):
            catalog.make_encoder(block, WORDS)
        with torch.device("meta"):
            assert next(catalog.make_encoder(made, WORDS).parameters()).is_meta


def test_the_networks_that_are_known_name_no_backbone():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    for kind in (*TEXT_NETWORKS, *IMAGE_NETWORKS):
        config = CONFIG_MAPPING[kind]()
        assert type(config) in MODEL_MAPPING, kind
        assert not {"backbone", "backbone_config", "text_config"} & set(vars(config)), kind


def test_an_image_network_and_its_colours(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
             "intermediate_size": 8, "image_size": 32, "patch_size": 16}  # fmt: skip
    transformers.ViTModel(transformers.ViTConfig(**sizes)).save_pretrained(tmp_path / "vit")
    path = tmp_path / "vit" / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 2]}))
    photo = Modality(name="photo", kind=Kind.IMAGE, shape=(3, 32, 32), dtype="uint8")
    block = Block.of("pretrained-image", model=str(tmp_path / "vit"))
    encoder = catalog.make_encoder(block, photo)
    made = pretrained.pinned(block, encoder)
    assert json.loads(dict(made.options)["config"])["image_mean"] == [0.1, 0.2, 0.3]
    again, _ = blank_network(str(dict(made.options)["config"]), IMAGE_NETWORKS)
    assert again.state_dict().keys() == encoder.net.state_dict().keys()
    for wrong in ([0, 1, 1], [1, 1], "x", [1e400, 1, 1]):
        path.write_text(json.dumps({"image_std": wrong}))
        with pytest.raises(ValueError, match="image_std"):
            read_network(tmp_path / "vit", IMAGE_NETWORKS)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "x" * 16])
def test_a_digest_that_leads_elsewhere(digest):
    with pytest.raises(GenotypeError, match="16 hex digits"):
        locate("a/b", digest)
