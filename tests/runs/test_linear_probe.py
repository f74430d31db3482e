from __future__ import annotations

import json

import numpy as np
import pytest

from polymix.predictor import Predictor
from polymix.records import Role
from polymix.runs.linear_probe import frozen_proposals, linear_probe
from polymix.runs.open_run import OpenRun
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
from polymix.testing.toy_data import toy_dataset

OPTIONS = {"encoders": ["mlp"], "networks": ["none"], "fusions": ["concat"], "epochs": 1,
           "full_epochs": 2}  # fmt: skip


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "run"
    data = toy_dataset()
    Predictor(path=path, device="cpu").fit(data, options=OPTIONS)
    return path, data


def test_every_fused_finalist_and_modality_has_a_row(run):
    path, data = run
    opened = OpenRun.open(path)
    result = linear_probe(opened, data, epochs=2)
    alone = {"single", "gradient boosting"}  # one encoder, or none that is trained
    labels = {f["label"] for f in opened.metrics["finalists"] if not alone & {*f["roles"]}}
    json.dumps(result, allow_nan=False)
    rows = result["rows"]
    assert {r["label"] for r in rows} == labels
    assert {r["modality"] for r in rows} == set(data.schema.names)
    for row in rows:
        assert row["seeds"] == 3
        assert row["frozen"]["ci"][0] <= row["frozen"]["value"] <= row["frozen"]["ci"][1]
        expected = row["frozen"]["value"] - row["alone"]["value"]
        assert row["difference"]["value"] == pytest.approx(expected)


def test_asking_again_trains_nothing(run):
    path, data = run
    opened = OpenRun.open(path)
    first = linear_probe(opened, data, epochs=2)
    with opened.ledger() as ledger:
        before = len(ledger.rows())
    assert linear_probe(opened, data, epochs=2) == first
    with opened.ledger() as ledger:
        assert len(ledger.rows()) == before


def test_the_encoder_stays_as_it_is_and_the_head_is_trained(run):
    path, data = run
    with RunFolder.open(path, write=True) as folder, Ledger.open(folder.ledger_path) as ledger:
        from polymix.scoring.metrics import METRICS
        from polymix.train.evaluate import Evaluator

        fused = next(
            r.trial for r in ledger.rows() if r.role is Role.WINNER and r.trial.weights is not None
        )
        evaluator = Evaluator(data, METRICS["accuracy"], ledger, folder.path / "bank")
        kept = ledger.weights(fused.weights)
        for name, proposal in frozen_proposals(fused, epochs=1).items():
            before = evaluator.model(proposal)
            encoder = {n: t for n, t in before.state_dict().items() if n.startswith("encoders.")}
            assert encoder
            assert all(np.array_equal(t, kept[n]) for n, t in encoder.items())
            assert not any(p.requires_grad for p in before.encoders.parameters())
            (group,) = evaluator.groups([proposal])
            ((trial, _),) = evaluator.run(group)
            assert trial.error is None, name
            rows = min(proposal.fidelity.rows, len(data.split.train))
            assert trial.cost.steps == -(-rows // proposal.recipe.batch_size)
