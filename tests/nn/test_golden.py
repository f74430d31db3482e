import json
from pathlib import Path

import pytest

from polymix.nn.mixers.mlp_mixer import MLPMixer
from polymix.testing import GoldenOutputs, golden_outputs, write_golden
from polymix.testing.golden import differences


class TestGolden(GoldenOutputs):
    path = Path(__file__).with_name("golden.json")


def test_a_change_without_a_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "golden.json"
    path.write_text(TestGolden.path.read_text("utf-8"), "utf-8")
    presets = {**MLPMixer.presets, "small": {**MLPMixer.presets["small"], "token_dim": 31}}
    monkeypatch.setattr(MLPMixer, "presets", presets)
    told = write_golden(path)
    assert told
    assert all(line.startswith("mlp-mixer/small/") for line in told)
    assert path.read_text("utf-8") == TestGolden.path.read_text("utf-8")
    monkeypatch.setattr(MLPMixer, "VERSION", MLPMixer.VERSION + 1)
    assert write_golden(path) == []
    assert json.loads(path.read_text("utf-8"))["mlp-mixer/small/image"]["version"] == 2


def test_the_test_fails_on_a_change(monkeypatch):
    def features(self, tokens, whole=MLPMixer.features):
        return [t._replace(x=t.x * 1.001) for t in whole(self, tokens)]

    monkeypatch.setattr(MLPMixer, "features", features)
    with pytest.raises(AssertionError, match=r"mlp-mixer/small/audio: values(.|\n)*raise VERSION"):
        TestGolden().test_golden()


def test_every_value_says_something():
    for key, entry in golden_outputs().items():
        if "/small/" in key and key != "zero/small/operation":
            assert len(set(entry["values"])) >= 4, key
            assert max(map(abs, entry["values"])) < 1e3, key


def test_a_block_without_an_entry_is_told():
    assert differences(None, {}) == ["only found"]
    assert differences({}, None) == ["only kept"]
