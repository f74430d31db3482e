"""The contracts, kept by every strategy and every space that polymix has."""

from __future__ import annotations

import pytest

from polymix.genotype import Block
from polymix.methods.auto.auto import Auto
from polymix.methods.bm_nas.bm_nas import BMNAS
from polymix.methods.bm_nas.space import BMNASSpace
from polymix.methods.m2_mixer.m2_mixer import M2Mixer
from polymix.methods.mfas.mfas import MFAS
from polymix.methods.mfas.space import MFASSpace
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.methods.mixmas.space import MixSpace
from polymix.methods.mro.mro import MRO
from polymix.methods.random.random import RandomSearch
from polymix.methods.strategies import STRATEGIES
from polymix.testing import SpaceContract, StrategyContract, ToyAskTell, ToyOneShot, toy_dataset

QUICK = {"epochs": 2, "full_epochs": 2, "networks": ["none", "mlp-mixer"], "fusions": ["concat"]}


@pytest.fixture(scope="module")
def dataset():
    return toy_dataset(100, ("series", "table"))


class TestMixMAS(StrategyContract):
    trials = 12
    kills = (1, 5)

    def make(self):
        return MixMAS(encoders={"series": ["mlp-mixer", "mlp"]}, **QUICK)


class TestMixMASWithSeeds(StrategyContract):
    trials = 9
    kills = (2,)

    def make(self):
        return MixMAS(encoders=["mlp"], seeds=2, epochs=1, full_epochs=1, networks=["none"])


class TestM2Mixer(StrategyContract):
    trials = 5
    kills = (1, 2)

    def make(self):
        return M2Mixer(config="S", epochs=2)


class TestAuto(StrategyContract):
    trials = 10
    kills = (3,)

    def make(self):
        return Auto(encoders={"series": ["mlp-mixer", "mlp"]}, epochs=1, full_epochs=2)


class TestRandomSearch(StrategyContract):
    trials = 10
    kills = (3,)

    def make(self):
        return RandomSearch(draws=4, cohort=2, encoders=["mlp", "mlp-mixer"], **QUICK)


TINY_MFAS = {
    "activations": ["relu"], "length": 2, "iterations": 2, "samples": 2, "width": 6,
    "backbone_epochs": 2, "epochs": 1, "top": 2, "full_width": 8, "full_epochs": 2, "thaw": 1,
    "batch_size": 32, "sharing": True,
}  # fmt: skip


class TestMFAS(StrategyContract):
    """Two backbones, six networks of one layer, then two a step; some rows lack the table."""

    trials = 24
    kills = (3,)

    def make(self):
        return MFAS(backbones={"series": "mlp"}, **TINY_MFAS)


class TestMFASOfThreeModalities(StrategyContract):
    trials = 14
    kills = (2,)

    @pytest.fixture
    def dataset(self):
        return toy_dataset(70)

    def make(self):
        return MFAS(**{**TINY_MFAS, "sharing": False})


TINY_BM_NAS = {
    "channels": 8, "length": 4, "horizon": 3, "backbone_epochs": 2, "probe_epochs": 1,
    "full_epochs": 2, "thaw": 1, "batch_size": 32,
}  # fmt: skip


class TestBMNAS(StrategyContract):
    """Two backbones, three epochs of a supernet; some rows lack the table."""

    trials = 12
    kills = (1, 3)

    def make(self):
        return BMNAS(backbones={"series": "mlp"}, **TINY_BM_NAS)


class TestBMNASOfThreeModalities(StrategyContract):
    trials = 10
    kills = (2,)

    @pytest.fixture
    def dataset(self):
        return toy_dataset(70)

    def make(self):
        return BMNAS(unfreeze=True, second_order=True, steps=1, top=2, **TINY_BM_NAS)


class TestMRO(StrategyContract):
    trials = 10
    kills = (1, 2)

    @pytest.fixture
    def dataset(self):
        return toy_dataset(60)

    def make(self):
        return MRO(
            dim=8, heads=2, ff=1, horizon=3, masks=4, probe_epochs=1, full_epochs=2, top=2,
            init="supernet",
        )  # fmt: skip


class TestToyAskTell(StrategyContract):
    trials = 22
    kills = (2,)

    def make(self):
        return ToyAskTell()


class TestToyAskTellOfThreeModalities(StrategyContract):
    trials = 12
    kills = (1,)

    @pytest.fixture
    def dataset(self):
        return toy_dataset(80)

    def make(self):
        return ToyAskTell(layers=2, cohorts=2, candidates=2)


class TestToyOneShot(StrategyContract):
    kills = (1, 2)

    def make(self):
        return ToyOneShot()


def test_every_strategy_is_checked():
    contracts = [Auto(), MixMAS(), M2Mixer(), MFAS(), BMNAS(), MRO(), RandomSearch()]
    assert {type(strategy) for strategy in contracts} == set(STRATEGIES.values())


class TestMixSpace(SpaceContract):
    def make(self):
        blocks = [Block.of("mlp"), Block.of("mlp-mixer")]
        return MixSpace({"a": blocks, "b": blocks}, ["concat", "max"], [None, Block.of("gmlp")])


class TestMixSpaceOfOneModality(SpaceContract):
    def make(self):
        return MixSpace({"a": [Block.of("mlp"), Block.of("conv")]}, ["concat"], [None])


class TestMixSpaceOfOneGenotype(SpaceContract):
    def make(self):
        return MixSpace({"a": [Block.of("mlp")]}, [], [])


class TestMFASSpace(SpaceContract):
    def make(self):
        return MFASSpace({"a": Block.of("mlp"), "b": Block.of("mlp")}, [2, 1], length=3)


class TestMFASSpaceOfOneGenotype(SpaceContract):
    def make(self):
        return MFASSpace({"a": Block.of("mlp")}, [1], ["relu"], length=1)


class TestBMNASSpace(SpaceContract):
    def make(self):
        blocks = {"a": Block.of("mlp"), "b": Block.of("mlp")}
        return BMNASSpace(blocks, [(0,), (0, 2)], cells=1, steps=1, operations=("zero", "sum"))


class TestBMNASSpaceOfOneGenotype(SpaceContract):
    def make(self):
        blocks = {"a": Block.of("mlp"), "b": Block.of("mlp"), "c": Block.of("mlp")}
        features = [(0,), (0,), (1,)]
        made = BMNASSpace(blocks, features, cells=1, steps=1, operations=("zero",), inputs=3)
        assert len(made) == 27  # one triple, whose step takes any three
        return made
