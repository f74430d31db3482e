"""Presets are for those who name no limit."""

from __future__ import annotations

import pytest

from polymix.errors import UsageError
from polymix.methods.auto.auto import Auto
from polymix.runs.options import RunOptions
from polymix.runs.presets import PRESETS, with_preset
from polymix.runs.request import Request


def asked(**given):
    return Request.checked("t.csv", {"target": "y", **given}, dry=True).asked


@pytest.mark.parametrize(("preset", "seconds"), [("fast", 60), ("good", 600), ("best", 3600)])
def test_a_preset_is_a_time_limit_where_none_is_named(preset, seconds):
    assert asked(preset=preset).time_limit == seconds
    assert asked(preset=preset, time_limit="90s").time_limit == 90
    assert str(seconds // 60 if seconds < 3600 else "1h") in (
        RunOptions.model_fields["preset"].description or ""
    )


def test_without_one_nothing_is_limited():
    options = asked()
    assert options.time_limit is None
    assert options.preset is None
    assert options.options == {}
    assert asked(trials=3, preset="good").trials == 3


def test_the_best_searches_networks_whatever_else_is_said():
    for more in ({}, {"time_limit": 1200}, {"options": {"epochs": 2}}):
        request = Request.checked("t.csv", {"target": "y", "preset": "best", **more}, dry=True)
        assert isinstance(request.strategy, Auto)
        assert request.strategy.networks is True
    assert asked(preset="best", options={"networks": False}).options == {"networks": False}
    assert asked(preset="best", strategy="mixmas").options == {}
    assert asked(preset="best", strategy=Auto()).options == {}
    assert asked(preset="fast").options == {}


def test_a_preset_that_is_none_is_refused():
    with pytest.raises(UsageError, match="--preset bests: did you mean 'best'"):
        asked(preset="bests")
    assert with_preset(RunOptions(), "auto") == RunOptions()
    assert list(PRESETS) == ["fast", "good", "best"]


def test_it_stands_in_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    config = Request.checked("demo", {"preset": "good", "trials": 1}, dry=True).resolve().config
    assert [config.preset, config.time_limit, config.trials] == ["good", 600, 1]
