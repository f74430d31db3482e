"""One way to register a part, with the same rules for all kinds."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix import Encoder, Stack, Strategy, register
from polymix.datasets import DATASETS, list_datasets, open_dataset
from polymix.errors import UsageError
from polymix.genotype import GENOTYPES, Genotype, parse_genotype
from polymix.methods.bm_nas.operations import OPERATIONS, Operation
from polymix.methods.bm_nas.operations import Sum as SumOperation
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.methods.strategies import STRATEGIES, make_strategy
from polymix.nn.encoder import ENCODERS, STACKS
from polymix.nn.encoders.mlp import MLPEncoder
from polymix.nn.fusion import FUSIONS, Concat, Elementwise, FusionFunction, Mean
from polymix.nn.mixers.gmlp import GMLP
from polymix.nn.model import MODELS, MixModel, Model
from polymix.scoring.metrics import METRICS, Metric
from polymix.space.mix import MixGenotype

KINDS = {
    "encoder": (ENCODERS, MLPEncoder),
    "stack": (STACKS, GMLP),
    "fusion": (FUSIONS, Mean),
    "operation": (OPERATIONS, SumOperation),
    "strategy": (STRATEGIES, MixMAS),
}


@pytest.fixture(autouse=True)
def forgotten(registrations):
    """What a test registers is forgotten."""


def refused(part, **options) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        register(part, **options)
    return caught.value.problems


@pytest.mark.parametrize("kind", KINDS)
class TestNames:
    def test_one_of_your_own(self, kind):
        parts, base = KINDS[kind]
        mine = type("Mine", (base,), {"name": "mine", "__module__": "mine"})
        assert register(mine) is mine
        assert register(mine) is mine
        assert parts["mine"] is mine
        assert list(parts)[-1] == "mine"

    def test_a_taken_name(self, kind):
        parts, base = KINDS[kind]
        other = type("Other", (base,), {"__module__": "mine"})
        (said,) = refused(other)
        assert f"the name '{base.name}' is taken by polymix" in said
        register(other, replace=True)
        assert parts[base.name] is other

    def test_a_cell_that_runs_again(self, kind):
        parts, base = KINDS[kind]
        for _ in range(2):
            last = type("Mine", (base,), {"name": "mine", "__module__": "__main__"})
            register(last)
        assert parts["mine"] is last

    @pytest.mark.parametrize("name", ["", None, 3, "two words", "-x", "a/b", "x" * 101])
    def test_a_bad_name(self, kind, name):
        _, base = KINDS[kind]
        (said,) = refused(type("Bad", (base,), {"name": name, "__module__": "mine"}))
        assert "no name" in said or "make a name" in said


def test_a_replacement_stays_where_polymix_s_own_is_imported_later():
    code = (
        "from polymix import Encoder, Kind, register\n"
        "from polymix.nn.encoder import ENCODERS\n"
        "class Mine(Encoder):\n"
        "    name, VERSION, kinds, presets = 'lenet', 1, frozenset(Kind), {'small': {}}\n"
        "    def features(self, x): return []\n"
        "register(Mine, replace=True)\n"
        "import polymix.nn.encoders.lenet\n"
        "assert ENCODERS['lenet'] is Mine\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_an_encoder_and_a_stack_share_their_names():
    mine = type("Mine", (MLPEncoder,), {"name": "gmlp", "__module__": "mine"})
    assert "taken" in refused(mine)[0]
    assert "taken" in refused(mine, replace=True)[0]


@pytest.mark.parametrize(
    ("base", "lacks"),
    [
        (Encoder, ["no name", "no VERSION", "no kinds", "no method features", "no presets"]),
        (Stack, ["no name", "no VERSION", "no method features", "no presets",
                 "no network_presets"]),
        (FusionFunction, ["no name", "no VERSION", "no method forward"]),
        (Elementwise, ["no name", "no VERSION", "no method combine"]),
        (Operation, ["no name", "no VERSION", "no method forward"]),
        (Strategy, ["no name", "no summary", "no method setup", "no method derive",
                    "no method chosen_encoders", "it neither asks"]),
        (Genotype, ["no kind"]),
        (Model, ["no builds", "no method versions", "no method fuse"]),
    ],
)  # fmt: skip
def test_all_that_lacks_is_told(base, lacks):
    said = refused(type("Poor", (base,), {"__module__": "mine"}))
    assert len(said) == len(lacks)
    for line, reason in zip(said, lacks, strict=True):
        assert line.startswith("Poor is no ")
        assert f" yet: {reason}" in line


def test_half_a_strategy():
    fields = {"name": "half", "__module__": "mine", "__annotations__": {"name": ClassVar[str]}}
    half = type("Half", (Strategy,), {
        **fields, "summary": "x", "setup": lambda self, task: None, "derive": lambda self: [],
        "chosen_encoders": lambda self: {}, "ask": lambda self: [],
        "__annotations__": {"name": ClassVar[str], "summary": ClassVar[str]},
    })  # fmt: skip
    assert refused(half) == ("Half is no strategy yet: no method tell",)


@pytest.mark.parametrize("version", ["1", 0, -1, 1.5, True])
def test_a_version_is_a_whole_number(version):
    cls = type("Mine", (MLPEncoder,), {"name": "mine", "VERSION": version, "__module__": "mine"})
    (said,) = refused(cls)
    assert f"VERSION={version!r}" in said


def test_presets_have_a_small_one():
    cls = type("Mine", (MLPEncoder,), {"name": "mine", "presets": {"big": {}}})
    assert refused(cls) == ("Mine is no encoder yet: presets has no 'small'",)


@given(st.integers() | st.text() | st.just(int) | st.just(dict) | st.builds(object))
def test_what_is_no_part(thing):
    with pytest.raises(UsageError, match="it is no part"):
        register(thing)


def test_an_object_in_place_of_its_class():
    assert "register the class" in refused(Concat())[0]
    assert "register the class" in refused(MixMAS())[0]


def test_a_class_is_of_its_own_kind_alone():
    register(type("Mine", (Mean,), {"name": "mine", "__module__": "mine"}))
    assert "mine" in FUSIONS
    assert "mine" not in ENCODERS


def test_a_metric():
    assert register(Metric("mine", METRICS["accuracy"].tasks, lambda y, p: 0.5)).name == "mine"
    assert METRICS["mine"].score(None, None) == 0.5
    assert "taken" in refused(Metric("accuracy", METRICS["r2"].tasks, lambda y, p: 0.5))[0]
    assert len(refused(Metric("", frozenset(), None))) == 3


def test_a_genotype_and_its_model():
    class Mine(MixGenotype):
        kind = "mine"

    assert "no genotype of kind 'mine'" in str(_parse_fails('{"kind":"mine"}'))
    register(Mine)
    text = '{"encoders":[["a",{"name":"mlp"}]],"kind":"mine"}'
    assert type(parse_genotype(text)) is Mine
    register(type("MineModel", (MixModel,), {"builds": Mine}))
    assert issubclass(MODELS["mine"], MixModel)
    assert GENOTYPES["mine"] is Mine


def _parse_fails(text):
    with pytest.raises(Exception, match="genotype") as caught:
        parse_genotype(text)
    return caught.value


def test_a_dataset():
    class Poor:
        NAME = "poor"

        def build(self, path, raw, progress=None):
            """Nothing."""

    assert [line.partition("yet: ")[2].partition(":")[0] for line in refused(Poor)] == [
        "no SUMMARY", "no MODALITIES", "no VERSION", "no NEEDS_RAW", "no method settings",
        "no method fingerprint", "no dataclass",
    ]  # fmt: skip
    mine = type("Mine", (DATASETS["demo"],), {"NAME": "mine", "__module__": "mine"})
    register(mine)
    assert "mine" in [entry.name for entry in list_datasets()]
    with pytest.raises(UsageError, match="did you mean 'mine'"):
        open_dataset("minee")


def test_a_fusion_function_of_your_own_is_a_candidate():
    with pytest.raises(UsageError, match="no fusion function 'mine'"):
        make_strategy("mixmas", {"fusions": ["mine"]})
    register(type("Mine", (Mean,), {"name": "mine", "__module__": "mine"}))
    assert make_strategy("mixmas", {"fusions": ["mine"]}).fusions == ["mine"]


def test_genotypes_are_known_without_torch_and_built_without_an_import():
    text = (
        '{"kind":"mro","dim":8,"dropout":0.0,"encoders":[["a",{"name":"mlp","options":'
        '[["channels",8]],"preset":"small"}],["b",{"name":"mlp","options":[["channels",8]],'
        '"preset":"small"}]],"ff":1,"heads":2,"mask":[1,1]}'
    )
    code = (
        "import sys\n"
        "from polymix.genotype import parse_genotype, GENOTYPES\n"
        f"found = parse_genotype({text!r})\n"
        "assert all(GENOTYPES[kind].kind == kind for kind in GENOTYPES)\n"
        "assert 'torch' not in sys.modules\n"
        "from polymix import Kind, Modality, Schema, Target\n"
        "from polymix.nn.build import build\n"
        "flat = [Modality(name=n, kind=Kind.TABULAR, shape=(3,), dtype='float32') for n in 'ab']\n"
        "build(found, Schema(modalities=flat, target=Target(name='y', task='regression')))\n"
        "assert 'polymix.methods.mfas.model' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
