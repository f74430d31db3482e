"""The predictor as scikit-learn knows estimators."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from polymix.data.schema import Task
from polymix.errors import UsageError
from polymix.predictor import Predictor
from polymix.testing import toy_dataset

QUICK = {"encoders": ["mlp"], "epochs": 1, "full_epochs": 2}


def test_parameters_are_the_constructors(tmp_path):
    given = {"label": "y", "problem_type": "binary", "eval_metric": "accuracy",
             "path": str(tmp_path / "a"), "device": "cpu", "jobs": 2}  # fmt: skip
    predictor = Predictor(**given)
    assert predictor.get_params() == given
    again = clone(predictor)
    assert again is not predictor
    assert again.get_params() == given
    assert again.set_params(jobs=1, eval_metric=None) is again
    assert (again.jobs, again.eval_metric, again.label) == (1, None, "y")
    assert predictor.jobs == 2
    with pytest.raises(UsageError, match="no 'job': did you mean 'jobs'"):
        predictor.set_params(job=1)
    with pytest.raises(UsageError, match="jobs must be at least 1"):
        predictor.set_params(jobs=0)


def test_a_fitted_one_is_cloned_unfitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = toy_dataset(120, ("table",), task=Task.BINARY, classes=2)
    predictor = Predictor(device="cpu")
    with pytest.raises(NotFittedError):
        check_is_fitted(predictor)
    assert not hasattr(predictor, "classes_")
    predictor.fit(data, options=QUICK, trials=6)
    check_is_fitted(predictor)
    assert predictor.classes_.tolist() == ["c0", "c1"]
    copy = clone(predictor)
    assert copy.path is None
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)
    arrays = {"table": data.arrays["table"]}
    names = predictor.classes_[data.targets]
    said = predictor.predict(arrays)
    expected = sk.accuracy_score(names, said)
    assert predictor.score(arrays, names) == pytest.approx(expected)
    assert predictor.score(data) == pytest.approx(expected)
    with pytest.raises(UsageError, match="score needs y"):
        predictor.score(arrays)
    with pytest.raises(UsageError, match="no class c9 was trained: there are c0, c1"):
        predictor.score(arrays, np.where(data.targets > 0, "c9", "c0"))


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.MULTILABEL])
def test_scores_of_other_tasks(tmp_path, task):
    data = toy_dataset(150, ("table",), task=task, classes=1 if task is Task.REGRESSION else 3)
    predictor = Predictor(device="cpu", path=tmp_path / "run").fit(data, options=QUICK, trials=6)
    arrays = {"table": data.arrays["table"]}
    said = predictor.predict(arrays)
    if task is Task.REGRESSION:
        expected = sk.r2_score(data.targets, said)
        assert not hasattr(predictor, "classes_")
    else:
        expected = sk.f1_score(data.targets, said, average="weighted", zero_division=0)
    assert predictor.score(arrays, data.targets) == pytest.approx(expected, abs=1e-5)
