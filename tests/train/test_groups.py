"""What names a trial in the ledger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polymix.data.split import Split
from polymix.errors import DataError
from polymix.nn import build, catalog
from polymix.records import Recipe
from polymix.space.mix import Loss
from polymix.testing import toy_dataset
from train.common import MIX, proposal


def test_keys_name_everything_that_decides(make_evaluator, dataset, monkeypatch):
    base = make_evaluator(dataset)
    asked = proposal(MIX, 2)
    other_network = MIX.model_copy(update={"network": None})
    changed = {
        "genotype": base.key(replace(asked, genotype=other_network)),
        "loss": base.key(replace(asked, genotype=MIX.model_copy(
            update={"loss": Loss(kind="linear")}))),
        "rows": base.key(proposal(MIX, 2, rows=50)),
        "epochs": base.key(proposal(MIX, 3)),
        "seed": base.key(proposal(MIX, 2, seed=1)),
        "init": base.key(replace(asked, init=("a", "b"))),
        "order of init": base.key(replace(asked, init=("b", "a"))),
        "keep": base.key(replace(asked, keep=True)),
        "metric": make_evaluator(dataset, "f1_macro").key(asked),
        "data": make_evaluator(toy_dataset(150, seed=1)).key(asked),
        "split": make_evaluator(replace(dataset, split=Split(
            dataset.split.train[1:], dataset.split.val, dataset.split.test))).key(asked),
        "training rows": make_evaluator(dataset.with_train_rows(60, 0)).key(asked),
    }  # fmt: skip
    for name in ("lr", "batch_size", "weight_decay", "schedule", "plateau_factor",
                 "plateau_patience", "patience", "modality_dropout", "frozen", "thaw",
                 "refit", "balanced", "shift"):  # fmt: skip
        other = {"schedule": "cosine", "frozen": True, "batch_size": 5, "patience": 5, "thaw": 1,
                 "refit": True, "balanced": True}  # fmt: skip
        value = other.get(name, 0.5)
        assert value != getattr(Recipe(), name)
        changed[name] = base.key(proposal(MIX, 2, **{name: value}))
    changed["sealed"] = base.key(proposal(MIX, 2, refit=True, sealed=True))
    changed["folds"] = base.key(replace(asked, fidelity=replace(asked.fidelity, folds=5)))
    assert set(Recipe.__slots__) <= changed.keys()
    monkeypatch.setattr(catalog.STACKS["mlp-mixer"], "VERSION", 99)
    changed["version"] = base.key(asked)
    assert len({*changed.values()}) == len(changed)
    monkeypatch.undo()
    assert base.key(asked) not in changed.values()
    # What does not decide is not in the key.
    assert base.key(replace(asked, stage="x", share=1.0)) == base.key(asked)
    assert make_evaluator(dataset, checkpoint_after=1.0).key(asked) == base.key(asked)


def test_a_genotype_without_versions_has_no_key(evaluator):
    from polymix.errors import GenotypeError
    from polymix.genotype import Genotype

    class Odd(Genotype):
        kind = "odd"

    with pytest.raises(GenotypeError, match="nothing builds"):
        build.versions(Odd())
    with pytest.raises(DataError):
        evaluator.schema_for(Recipe())["nothing"]
    assert np.isfinite(evaluator.val_targets).all()
