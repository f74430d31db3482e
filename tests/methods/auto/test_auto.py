"""What `auto` chooses, and that it says why."""

from __future__ import annotations

import json

import pytest
from torch import nn

from polymix.data.schema import Kind
from polymix.genotype import Block
from polymix.methods.auto.auto import (
    DEFAULT_SHIFT,
    MAX_FULL_EPOCHS,
    MAX_PROBE_EPOCHS,
    SMALL_TABLE_ROWS,
    Auto,
)
from polymix.methods.mixmas.candidates import CANDIDATES
from polymix.nn.descriptions import Frozen, describers_for, make_description
from polymix.nn.encoder import Encoder
from polymix.nn.encoders.conv import ConvEncoder
from polymix.predictor import Predictor
from polymix.registry import register
from polymix.testing import toy_dataset
from search.common import task

SCHEMA = toy_dataset(40).schema


def chosen(schema=SCHEMA, options=None, **changes):
    """What networks are searched, and what is said of them."""
    strategy = Auto(**{"portfolio": False, **(options or {})})
    strategy.setup(task(schema, **{"rows": 50_000, **changes}))
    return strategy, " | ".join(strategy.reasons())


def encoders(strategy):
    found = {}
    for proposal in strategy.expected():
        for name, block in proposal.genotype.encoders:
            found.setdefault(name, {})[block.name] = None
    return {name: list(blocks) for name, blocks in found.items()}


def renamed(count):
    one = SCHEMA["series"]
    names = [one.model_copy(update={"name": f"s{i}"}) for i in range(count)]
    return SCHEMA.model_copy(update={"modalities": tuple(names)})


def test_plenty_of_rows_are_mixmas_as_it_is():
    strategy, said = chosen()
    assert encoders(strategy) == {m.name: [*CANDIDATES[m.kind]] for m in SCHEMA.modalities}
    assert said == (
        "mixmas on 50000 training rows of image (image), series (timeseries), table (tabular)"
    )
    assert strategy.derive()[0].fidelity.epochs == 30


def test_a_table_has_fitted_models_whether_or_not_its_rows_are_folded():
    for folds, scored in ((0, "validation rows"), (5, "5 folds")):
        strategy, said = chosen(options={"portfolio": None}, folds=folds, most_rows=50_000)
        assert f"compared on {scored}" in said
        asked = [strategy.ask()[0] for _ in range(3)]
        assert [p.keep for p in asked] == [not folds] * 3
        assert [p.fidelity.folds for p in asked] == [folds] * 3
        learners = [p.genotype.learner.name for p in asked]
        assert learners == ["linear", "gradient-boosting", "gradient-boosting"]
        assert [len(p.genotype.base) for p in asked] == [0, 1, 0]
    strategy, said = chosen(renamed(2), {"portfolio": None})
    assert "fitted models" not in said  # nothing of a table, and no folds


def test_the_first_of_the_portfolio_is_begun_whatever_it_is_expected_to_take():
    asked = {"portfolio": None, "networks": True}
    strategy, _ = chosen(options=asked, seconds=60.0, most_rows=50_000)
    assert [strategy.ask()[0].share for _ in range(2)] == [float("inf"), 60.0]
    strategy.tell([])
    (first, *others) = strategy.derive()
    assert first.genotype.learner.name == "linear"  # nothing was scored: the first guess is left
    assert all(hasattr(p.genotype, "encoders") for p in others)


def test_networks_are_not_begun_beside_fitted_models_where_time_is_tight():
    def slow(_):
        return 1e4

    told = {"seconds": 60.0, "most_rows": 50_000, "predict": slow}
    strategy, said = chosen(options={"portfolio": None}, **told)
    assert not strategy.has_random
    assert said.endswith("the time limit is too tight for networks beside fitted models")
    assert "mixmas" not in said
    strategy, said = chosen(options={"portfolio": None, "networks": True}, **told)
    assert strategy.has_random
    assert "the time limit is tight: only encoders that are quick" in said


def test_more_of_the_budget_is_searched_where_what_is_found_was_fitted_to_most_rows():
    assert Auto().search_share == 0.5
    for folds, share in ((0, 0.5), (5, 0.7)):
        strategy, _ = chosen(options={"portfolio": None}, folds=folds, most_rows=500)
        assert strategy.search_share == share


def test_one_modality_has_nothing_to_fuse():
    strategy, said = chosen(renamed(1))
    assert {len(p.genotype.encoders) for p in strategy.expected()} == {1}
    assert "nothing to fuse" in said


def test_many_modalities_have_fewer_candidates():
    strategy, said = chosen(renamed(6))
    assert encoders(strategy)["s5"] == ["mlp-mixer", "conv", "mlp"]
    assert "6 modalities: fewer candidates of each" in said


def test_few_rows_are_seen_whole_and_long():
    strategy, said = chosen(rows=300)
    probes = strategy.expected()
    assert {p.fidelity.rows for p in probes} == {300}
    alone = [p for p in probes if len(p.genotype.encoders) == 1]
    assert len(alone) == 2 * len({p.genotype for p in alone})
    assert strategy.derive()[0].fidelity.epochs == MAX_FULL_EPOCHS
    assert f"fewer than {SMALL_TABLE_ROWS} rows" in said
    assert f"up to {MAX_FULL_EPOCHS} epochs" in said


def test_few_rows_make_longer_probes():
    lengths = {r: chosen(rows=r)[0].expected()[0].fidelity.epochs for r in (300, 1400, 50_000)}
    assert lengths == {300: MAX_PROBE_EPOCHS, 1400: 23, 50_000: 10}
    assert "up to 23 epochs of a probe" in chosen(rows=1400)[1]


def test_few_recordings_move_in_training():
    sound = SCHEMA["image"].model_copy(update={"name": "sound", "kind": Kind.AUDIO})
    schema = SCHEMA.model_copy(update={"modalities": (*SCHEMA.modalities, sound)})
    strategy, said = chosen(schema, rows=1000)
    assert {p.recipe.shift for p in [*strategy.expected(), *strategy.derive()]} == {DEFAULT_SHIFT}
    assert "sound moved at random in training, by up to 12.5% of the time" in said
    for rows, options in ((50_000, {}), (1000, {"shift": 0.0})):
        strategy, said = chosen(schema, options, rows=rows)
        assert {p.recipe.shift for p in strategy.expected()} == {0.0}
        assert "moved" not in said
    assert chosen(rows=1000)[0].expected()[0].recipe.shift == 0.0
    assert chosen(schema, {"shift": 0.25})[0].expected()[0].recipe.shift == 0.25


def test_a_tight_limit_leaves_what_is_quick():
    def slow(proposal):
        return 0.2 * proposal.fidelity.epochs * proposal.fidelity.rows / 1000

    strategy, said = chosen(seconds=0.5, predict=slow)
    assert encoders(strategy)["series"] == ["mlp-mixer", "conv", "mlp"]
    assert "the time limit is tight" in said
    assert "tight" not in chosen(seconds=1e6, predict=slow)[1]


def test_what_is_asked_for_is_kept():
    strategy, _ = chosen(options={"encoders": ["mlp"], "epochs": 4, "full_epochs": 7}, rows=100)
    assert set(map(tuple, encoders(strategy).values())) == {("mlp",)}
    assert {p.fidelity.epochs for p in strategy.expected()} == {4}
    assert strategy.derive()[0].fidelity.epochs == 7


def test_the_reasons_are_written_down(tmp_path):
    data = toy_dataset(100, ("table",))
    predictor = Predictor(path=tmp_path / "run", device="cpu")
    predictor.fit(
        data, strategy="auto", options={"portfolio": False, "epochs": 1, "full_epochs": 1}, trials=6
    )
    about = json.loads((tmp_path / "run" / "description.json").read_text())
    assert about["searched"]["strategy"] == "auto"
    assert about["searched"]["why"][0] == "mixmas on 60 training rows of table (tabular)"
    assert set(about["searched"]["why"]) <= set(predictor.leaderboard_json()["notes"])


@pytest.fixture
def pretrained(registrations):
    class Trained(ConvEncoder):
        name = "trained"
        pretrained = True

    return register(Trained)


def test_encoders_with_weights_of_their_own_are_candidates(pretrained):
    assert not Encoder.pretrained
    assert issubclass(pretrained, nn.Module)
    strategy, _ = chosen()
    assert encoders(strategy)["image"] == [*CANDIDATES[Kind.IMAGE], "trained"]
    assert "trained" not in encoders(strategy)["table"]
    assert [b.name for b in describers_for(SCHEMA["image"])] == ["summary", "trained"]
    described = make_description(Block.of("trained"), SCHEMA["image"])
    assert isinstance(described, Frozen)
    assert not any(p.requires_grad for p in described.parameters())
