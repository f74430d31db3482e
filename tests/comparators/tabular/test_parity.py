"""What is kept as tensors predicts what scikit-learn's own estimators predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge

from polymix.comparators.tabular import kernel as kernel_file
from polymix.comparators.tabular import linear as linear_file
from polymix.comparators.tabular.extra_trees import SMOOTHING, ExtraTrees
from polymix.comparators.tabular.gradient_boosting import GradientBoosting
from polymix.comparators.tabular.kernel import solve
from polymix.comparators.tabular.linear import Linear
from polymix.comparators.tabular.vectors import TokenWeights, Vectors
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Task
from polymix.genotype import Block

from .common import BOOSTED, FOREST, KERNEL, TREES, VECTORS, VOCABULARY, fitted, made, rows_of

EXACT = {"rtol": 1e-6, "atol": 1e-6}


def split_samples(model, source, data):
    train, y = model.gathered(source, data.split.train)
    new, _ = model.gathered(source, data.split.val)
    return train, y, new


def signs(y, task):
    if task is Task.MULTICLASS:
        return np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    return np.where(y.reshape(len(y), -1) > 0, 1.0, -1.0)


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("texts", [True, False])
def test_linear(task, texts, monkeypatch):
    monkeypatch.setattr(Linear, "_strengths", lambda self: (2.0,))
    data = rows_of(task)
    views = VECTORS if texts else VECTORS[1:]
    model, source, whole = fitted(data, made(views, Block.of("linear")))
    assert whole
    learner = model.head.learner
    train, y, new = split_samples(model, source, data)
    x, z = learner.vectors.matrix(train), learner.vectors.matrix(new)
    found = learner(new).detach().numpy()
    if task is Task.REGRESSION:
        y = model.head.transform.fit(y)
        x, z = (one.toarray() if texts else one for one in (x, z))
        theirs = Ridge(2.0, solver="cholesky").fit(x, y).predict(z)
        np.testing.assert_allclose(found[:, 0], theirs, **EXACT)
        return
    labels = y.T if task is Task.MULTILABEL else [y]
    theirs = [
        LogisticRegression(C=2.0, max_iter=300).fit(x, one.astype(int)).decision_function(z)
        for one in labels
    ]
    expected = theirs[0] if task is Task.MULTICLASS else np.stack(theirs, 1)
    np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.MULTILABEL])
def test_squares(task, monkeypatch):
    monkeypatch.setattr(Linear, "_strengths", lambda self: (0.5,))
    monkeypatch.setattr(linear_file, "fit_scale", lambda d, *_: (1.0, np.zeros(d.shape[1])))
    data = rows_of(task)
    model, source, _ = fitted(data, made(VECTORS, Block.of("linear", loss="squares")))
    train, y, new = split_samples(model, source, data)
    x, z = (model.head.learner.vectors.matrix(one) for one in (train, new))
    exact = Ridge(0.5, solver="cholesky").fit(x.toarray(), signs(y, task))
    theirs = exact.predict(z.toarray())
    found = model.head.learner(new).detach().numpy()
    np.testing.assert_allclose(found, theirs.reshape(found.shape), **EXACT)


def test_a_rotation_changes_no_solution():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 50)), rng.standard_normal((20, 1))
    small, back = linear_file.rotated(x)
    assert small.shape == (20, 20)
    weights, bias = linear_file.ridge(small, y, 0.7)
    expected, bias_there = linear_file.ridge(x, y, 0.7)
    np.testing.assert_allclose(back(weights), expected, atol=1e-9)
    np.testing.assert_allclose(bias, bias_there, atol=1e-9)


@pytest.mark.parametrize("task", Task)
def test_kernel(task, monkeypatch):
    monkeypatch.setattr(kernel_file, "fit_scale", lambda d, *_: (1.0, np.zeros(d.shape[1])))
    monkeypatch.setattr(kernel_file, "ALPHAS", (0.1,))
    data = rows_of(task)
    model, source, whole = fitted(data, made(VECTORS, KERNEL))
    assert whole
    learner = model.head.learner
    train, y, new = split_samples(model, source, data)
    regression = task is Task.REGRESSION
    targets = model.head.transform.fit(y)[:, None] if regression else signs(y, task)
    x, z = (learner.vectors(one).numpy().astype(np.float32).astype(float) for one in (train, new))
    ridge = KernelRidge(alpha=0.1, kernel="rbf", gamma=float(learner.width))
    centre = targets.mean(0)
    theirs = ridge.fit(x, targets - centre).predict(z) + centre
    np.testing.assert_allclose(learner(new).detach().numpy(), theirs, **EXACT)


def test_leaving_one_out_is_fitting_without_it():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((15, 3)), rng.standard_normal((15, 2))
    kernel = np.exp(-0.3 * ((x[:, None] - x) ** 2).sum(2))
    _, _, crossed = solve(kernel, y, 0.2)
    for i in range(15):
        rest = np.arange(15) != i
        centre = y[rest].mean(0)
        dual = np.linalg.solve(kernel[np.ix_(rest, rest)] + 0.2 * np.eye(14), y[rest] - centre)
        np.testing.assert_allclose(crossed[i], kernel[i, rest] @ dual + centre, atol=1e-10)


@pytest.mark.parametrize("task", Task)
def test_extra_trees(task, monkeypatch):
    kept, real = [], ExtraTrees._grown

    def grown(self, *args):
        kept.append(real(self, *args))
        return kept[-1]

    monkeypatch.setattr(ExtraTrees, "_grown", grown)
    data = rows_of(task)
    model, source, whole = fitted(data, made(TREES, FOREST))
    assert whole
    learner = model.head.learner
    _, _, new = split_samples(model, source, data)
    x = learner.table(new).numpy()
    forest = kept[-1][0]
    found = learner.forest(torch.from_numpy(x)).numpy()
    theirs = forest.predict(x)[:, None] if task is Task.REGRESSION else forest.predict_proba(x)
    if task is Task.MULTILABEL:
        theirs = np.stack([p[:, 1] for p in theirs], 1)
    np.testing.assert_allclose(found, theirs, **EXACT)
    if task is Task.BINARY:
        p = torch.sigmoid(learner(new))[:, 0].numpy()
        prior = float(learner.prior[1])
        expected = (1 - SMOOTHING) * theirs[:, 1] + SMOOTHING * prior
        np.testing.assert_allclose(p, expected, **EXACT)


@pytest.mark.parametrize("task", Task)
def test_gradient_boosting(task, monkeypatch):
    kept, real = [], GradientBoosting._fitted

    def made_once(self, *args):
        kept.append(real(self, *args))
        return kept[-1]

    monkeypatch.setattr(GradientBoosting, "_fitted", made_once)
    data = rows_of(task)
    model, source, whole = fitted(data, made(TREES, BOOSTED))
    assert whole
    learner = model.head.learner
    _, _, new = split_samples(model, source, data)
    x = learner.table(new).numpy()
    if task is Task.REGRESSION:
        theirs = np.stack([one.predict(x) for one in kept], 1)
    else:
        theirs = np.concatenate([one.decision_function(x).reshape(len(x), -1) for one in kept], 1)
    np.testing.assert_allclose(learner(new).detach().numpy(), theirs, **EXACT)


def test_words_weigh_as_scikit_learns():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (40, 8))
    words = TokenWeights(VOCABULARY, VOCABULARY)
    words.fit(torch.from_numpy(ids))
    counts = np.stack([np.bincount(row, minlength=VOCABULARY) for row in ids])
    counts[:, 0] = 0
    kept = np.flatnonzero(counts.any(0))
    expected = TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, kept]).toarray()
    slots, weights = words(torch.from_numpy(ids))
    found = torch.zeros((40, VOCABULARY), dtype=torch.float64).scatter_add(1, slots, weights)
    np.testing.assert_allclose(found[:, words.slot[kept].long()].numpy(), expected, atol=1e-12)
    few = TokenWeights(VOCABULARY, 5, least=2)
    few.fit(torch.from_numpy(ids))
    rows = (counts > 0).sum(0)
    assert set(np.flatnonzero(few.idf.numpy())) <= set(np.flatnonzero(rows >= np.sort(rows)[-5]))
    assert few(torch.from_numpy(ids))[0].max() < 5


def test_sparse_and_dense_vectors_agree():
    data = rows_of(absent=0.3)
    model, source, _ = fitted(data, made(VECTORS, KERNEL))
    sample, _ = model.gathered(source, data.split.train)
    vectors = model.head.learner.vectors
    np.testing.assert_allclose(
        vectors.matrix(sample).toarray(), vectors(sample).numpy(), atol=1e-12
    )
    narrow = Vectors([Layout("dense", 4)], None, 1, 1.0)
    assert narrow.dense_width == 5  # a flag beside them
