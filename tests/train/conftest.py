from __future__ import annotations

import pytest

from polymix.scoring.metrics import metric_for
from polymix.store import Ledger
from polymix.testing import toy_dataset
from polymix.train.evaluate import Evaluator


@pytest.fixture(scope="session")
def dataset():
    return toy_dataset(150)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def make_evaluator(tmp_path, ledger):
    def make(dataset, metric=None, cls=Evaluator, **options):
        metric = metric_for(dataset.schema.target.task, metric)
        return cls(dataset, metric, ledger, tmp_path / "bank", **options)

    return make


@pytest.fixture
def evaluator(make_evaluator, dataset):
    return make_evaluator(dataset)
