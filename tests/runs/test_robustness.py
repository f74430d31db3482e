"""Worse inputs: how they are made, and that a model is asked about nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from polymix import Predictor, seeds
from polymix.genotype import Block
from polymix.runs.asked import Asked
from polymix.runs.robustness import Case, cases, deviations, dropped, noisy, predict_worse
from polymix.runs.rows import GivenRows
from polymix.space.mix import MixGenotype

from .common import MODALITIES, dataset, run_folder, served, without

GENOTYPE = MixGenotype(
    encoders=tuple(
        (name, Block.of("linear-tokens" if name == "vectors" else "mlp")) for name in MODALITIES
    ),
    fusion="concat",
)


def rows_of(data):
    return GivenRows(data, np.arange(len(data)), "given", len(data))


def asked(model, data):
    return Asked(rows_of(data), (model,), "it")


def test_a_larger_share_takes_more_of_the_same_rows():
    rows = rows_of(dataset(rows=40))
    column = rows.dataset.schema.index("sound")
    gone = [
        set(np.flatnonzero(~dropped(rows, Case("sound", "dropped", share, "")).present[:, column]))
        for share in (0.0, 0.25, 0.5, 1.0)
    ]
    assert gone[0] == set(np.flatnonzero(~rows.dataset.present[:, column]))
    assert gone[0] < gone[1] < gone[2] < gone[3] == set(range(40))
    others = np.delete(rows.dataset.present, column, 1)
    worse = dropped(rows, Case("sound", "dropped", 1.0, ""))
    assert np.array_equal(np.delete(worse.present, column, 1), others)


def test_all_of_it_gone_is_the_modality_absent():
    data = dataset()
    model = served(GENOTYPE, data)
    found = predict_worse(asked(model, data), Case("photo", "dropped", 1.0, ""))
    assert np.array_equal(found, model.predict(without(data, "photo"), np.arange(len(data))))


@pytest.mark.parametrize("name", MODALITIES)
def test_noise_changes_that_modality_alone(name):
    data = dataset(rows=40)
    rows, modality = rows_of(data), data.schema[name]
    level = 0.5
    case, spread = Case(name, "noise", level, ""), deviations(rows, modality)
    worse = noisy(data, rows.index, case, spread, seeds.stream(0, "n"))
    for other in data.schema.names:
        same = np.array_equal(worse.arrays[other], data.arrays[other], equal_nan=modality.dtype
                              not in ("uint8", "int32") or other != name)  # fmt: skip
        assert same == (other != name)
    before, after = data.arrays[name], worse.arrays[name]
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    here = data.present[:, data.schema.index(name)]
    if modality.vocabulary is not None:
        assert ((after == 0) == (before == 0)).all()
        assert after.max() < modality.vocabulary
        assert 0.2 < (after != before)[before != 0].mean() < 0.7
    elif modality.padded:
        assert np.array_equal(after[here][..., 0], before[here][..., 0])
        assert np.array_equal(after[here][before[here][..., 0] == 0],
                              before[here][before[here][..., 0] == 0])  # fmt: skip
    else:
        change = (after[here].astype(float) - before[here]) / spread
        assert change.std() == pytest.approx(level, rel=0.35)


def test_no_noise_is_no_change():
    data = dataset()
    model = served(GENOTYPE, data)
    for name in MODALITIES:
        found = predict_worse(asked(model, data), Case(name, "noise", 0.0, ""))
        assert found == pytest.approx(model.predict(data, np.arange(len(data))), abs=1e-6)


def test_a_whole_report(tmp_path):
    data = dataset(rows=60)
    model = run_folder(tmp_path / "run", GENOTYPE, data)
    found = Predictor.load(tmp_path / "run").robustness(data)
    assert (found["schema_version"], found["split"], found["n"]) == (1, "validation", 21)
    assert len(found["rows"]) == len(cases(asked(model, data))) == 8 * len(MODALITIES)
    for row in found["rows"]:
        assert row["change"]["value"] == pytest.approx(
            row["score"]["value"] - found["score"]["value"], abs=1e-9
        )
    again = Predictor.load(tmp_path / "run").robustness(data)
    assert again == found
