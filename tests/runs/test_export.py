"""ONNX: the graph predicts what the model predicts, row for row, whatever a row lacks."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from polymix.data.schema import Task
from polymix.errors import MissingExtraError, SearchError, UsageError
from polymix.genotype import Block
from polymix.methods.mfas.space import MFASGenotype
from polymix.methods.mro.space import MROGenotype
from polymix.nn import catalog
from polymix.runs.export import OUTPUT, TOLERANCE, export_onnx, run_graph
from polymix.runs.rows import GivenRows
from polymix.space.mix import MixGenotype

from .common import MODALITIES, dataset, served

onnxruntime = pytest.importorskip("onnxruntime")


def mix(fusion: str, network: str | None, **encoders: str) -> MixGenotype:
    return MixGenotype(
        encoders=tuple((name, Block.of(block)) for name, block in encoders.items()),
        fusion=fusion,
        network=None if network is None else Block.of(network),
    )


GENOTYPES = {
    "mixers": mix(
        "mean", "mlp-mixer", photo="mlp-mixer", sound="gmlp", series="s2-mlp", words="mlp-mixer"
    ),
    "any-length": mix(
        "max", "hyper-mixer", photo="hyper-mixer", sound="monarch-mixer", words="hyper-mixer",
        columns="mlp",
    ),
    "plain": mix("concat", "mlp", photo="mlp", words="mlp", columns="mlp", vectors="mlp"),
    "maps": mix("concat", "monarch-mixer", photo="lenet", sound="conv", words="maxout"),
    "ramlp": mix("concat", "gmlp", photo="ramlp", columns="maxout"),
    "linear": mix("mean", "s2-mlp", series="linear-tokens", vectors="linear-tokens"),
    "conv-1d": mix("concat", None, series="conv", words="conv", photo="conv"),
    "mfas": MFASGenotype(
        backbones=(("photo", Block.of("conv")), ("columns", Block.of("mlp"))),
        layers=(((1, 0), "relu"), ((0, 0), "sigmoid"), ((1, 0), "leaky-relu")),
        width=6,
    ),
    "mro": MROGenotype(
        encoders=(
            ("sound", Block.of("conv")),
            ("words", Block.of("hyper-mixer")),
            ("vectors", Block.of("linear-tokens")),
        ),
        mask=(0, 1, 1, 0, 1, 1),
        dim=8,
        heads=2,
    ),
}  # fmt: skip


def names_of(genotype):
    pairs = genotype.backbones if isinstance(genotype, MFASGenotype) else genotype.encoders
    return [name for name, _ in pairs]


def test_every_block_is_exported_by_some_case():
    mixes = [g for g in GENOTYPES.values() if isinstance(g, MixGenotype)]
    trained = {n for n in catalog.encoder_names() if not n.startswith("pretrained-")}
    assert {b.name for g in mixes for _, b in g.encoders} == trained
    assert {g.network.name for g in mixes if g.network} == set(catalog.network_names())
    assert {g.fusion for g in mixes} == set(catalog.FUSIONS)


QUICK = ("plain", "mfas", "mro")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in GENOTYPES]
)
def test_the_graph_predicts_what_the_model_predicts(name, tmp_path):
    genotype = GENOTYPES[name]
    data = dataset(*[n for n in MODALITIES if n in names_of(genotype)])
    every = GivenRows(data, np.arange(len(data)), "given", len(data))
    model = served(genotype, data)
    found = export_onnx(model, tmp_path / "m.onnx", every)
    assert found["largest_difference"] <= TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    masks = {n: data.present[:, data.schema.index(n)] for n in data.schema.names}
    for count in (24, 1, 7):  # any batch
        rows = np.arange(count)
        theirs = run_graph(
            session,
            {n: a[:count] for n, a in data.arrays.items()},
            {n: m[:count] for n, m in masks.items()},
        )
        assert theirs == pytest.approx(model.predict(data, rows), abs=TOLERANCE)
    assert [tuple(i.shape[1:]) for i in session.get_inputs()] == [
        tuple(entry["shape"][1:]) for entry in found["inputs"]
    ]
    assert [o.name for o in session.get_outputs()] == [OUTPUT]


@pytest.mark.parametrize("task", [Task.MULTILABEL, Task.REGRESSION])
def test_a_missing_photo_is_not_a_black_one(task, tmp_path):
    genotype = mix("mean", None, photo="mlp", columns="mlp")
    data = dataset("photo", "columns", task=task)
    data.arrays["photo"][:] = 0
    np.nan_to_num(data.arrays["columns"], copy=False)
    data.present[:] = True
    model = served(genotype, data)
    export_onnx(model, tmp_path / "m.onnx", GivenRows(data, np.arange(24), "given", 24))
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    here = {"photo": np.ones(24, bool), "columns": np.ones(24, bool)}
    black = run_graph(session, data.arrays, here)
    missing = run_graph(session, data.arrays, here | {"photo": np.zeros(24, bool)})
    assert np.abs(black - missing).max(1).min() > 1e-3
    assert black == pytest.approx(model.predict(data, np.arange(24)), abs=1e-4, rel=1e-4)


class TestRefusals:
    @pytest.fixture
    def model(self):
        return served(mix("mean", None, photo="mlp", columns="mlp"), dataset("photo", "columns"))

    @pytest.fixture
    def rows(self):
        data = dataset("photo", "columns")
        return GivenRows(data, np.arange(len(data)), "given", len(data))

    def test_a_graph_that_says_something_else_is_not_kept(self, model, rows, tmp_path, monkeypatch):
        monkeypatch.setattr("polymix.runs.export.run_graph", lambda *a: np.ones((24, 3)))
        monkeypatch.setattr("polymix.runs.export._write", lambda module, path: path.touch())
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: None)
        with pytest.raises(SearchError, match="predictions differ by"):
            export_onnx(model, tmp_path / "m.onnx", rows)
        assert not list(tmp_path.iterdir())

    def test_what_has_no_counterpart_is_told(self, model, rows, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "polymix.nn.encoders.mlp.MLPEncoder.features", lambda self, x: [][int(x.sum().item())]
        )
        with pytest.raises(SearchError, match="cannot be exported to ONNX"):
            export_onnx(model, tmp_path / "m.onnx", rows)
        assert not list(tmp_path.iterdir())

    def test_a_place_that_is_none(self, model, rows, tmp_path):
        for path in (tmp_path, tmp_path / "no" / "m.onnx"):
            with pytest.raises(UsageError, match="name a file in a folder that exists"):
                export_onnx(model, path, rows)

    def test_without_the_extra(self, model, rows, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'polymix\[onnx\]'"):
            export_onnx(model, tmp_path / "m.onnx", rows)
