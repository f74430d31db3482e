"""Trials: interrupted, failed, stopped; what is trained."""

from __future__ import annotations

import errno
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema
from polymix.data.split import stratified_codes
from polymix.errors import DataError, LedgerError, SearchError
from polymix.genotype import Block
from polymix.nn.model import load_matching
from polymix.records import Status
from polymix.space.mix import Loss, MixGenotype
from polymix.testing import toy_dataset
from train.common import DROPOUT, MIX, MLP, FaultyGenotype, proposal, run_all, same, toy


class Interrupted(BaseException):
    pass


RECIPES = {
    "dropout": {},
    "cosine": {"schedule": "cosine", "weight_decay": 1e-3},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "patience": 3},
    "modality dropout": {"modality_dropout": 0.3},
    "thaw": {"thaw": 2},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_an_interrupted_trial_goes_on_to_the_same_end(make_evaluator, dataset, recipe, tmp_path):
    asked = proposal(MIX, 4, keep=True, lr=0.02, **recipe)
    (whole,) = run_all(make_evaluator(dataset), asked)
    assert whole[0].status is Status.DONE
    for after in range(len(whole[0].curve)):
        evaluator = make_evaluator(dataset, checkpoint_after=0.0)
        told = []

        def on_epoch(epoch, value, after=after, told=told):
            told.append(epoch)
            if epoch == after:
                raise Interrupted

        (group,) = evaluator.groups([asked])
        with pytest.raises(Interrupted):
            evaluator.run(group, None, on_epoch)
        # Whoever was told of epoch `after` was told before it was kept: it is made again.
        (resumed,) = evaluator.run(group, None, lambda epoch, value, told=told: told.append(epoch))
        assert told == [*range(after + 1), *range(after, len(whole[0].curve))]
        same(resumed, whole)
        evaluator.memory.drop_checkpoint(group.name)


def test_an_interrupted_cohort_goes_on_to_the_same_end(make_evaluator, dataset, ledger):
    cohort = [proposal(toy(*c), 3, frozen=True, keep=True) for c in [(0, 1, 0), (1, 0, 1)]]
    whole = run_all(make_evaluator(dataset), *cohort)
    evaluator = make_evaluator(dataset, checkpoint_after=0.0)
    (group,) = evaluator.groups(cohort)

    def on_epoch(epoch, value):
        if epoch == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        evaluator.run(group, None, on_epoch)
    assert ledger.load_checkpoint(group.name)[1]["epoch"] == 1
    for one, other in zip(evaluator.run(group), whole, strict=True):
        same(one, other)


def test_time_of_all_sessions_is_counted(make_evaluator, dataset, ledger, monkeypatch):
    asked = proposal(MIX, 4)
    evaluator = make_evaluator(dataset, checkpoint_after=-1.0)
    (group,) = evaluator.groups([asked])

    def die_in(last):
        def on_epoch(epoch, value):
            monkeypatch.setattr(time, "process_time", lambda: clock[0])
            clock[0] += 10.0
            if epoch == last:
                raise Interrupted

        return on_epoch

    clock = [1000.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    for last in (1, 2):
        with pytest.raises(Interrupted):
            evaluator.run(group, None, die_in(last))
    ((trial, _),) = evaluator.run(group, None, die_in(None))
    # Epochs 0, 1 and 2, 3 were kept when made; what an interrupted epoch took is lost.
    assert trial.cost.cpu_s == 10.0 * 4


def test_a_trial_that_was_kept_after_its_last_epoch(make_evaluator, dataset):
    asked = proposal(MIX, 2, keep=True)
    (whole,) = run_all(make_evaluator(dataset), asked)
    evaluator = make_evaluator(dataset, checkpoint_after=0.0)
    (group,) = evaluator.groups([asked])
    evaluator.run(group)  # killed before it was committed, so to speak
    same(evaluator.run(group)[0], whole)


def test_a_diverged_trial_that_was_kept(make_evaluator, dataset):
    asked = proposal(toy(0, 0, kind=FaultyGenotype, fault="nan"), 4)
    evaluator = make_evaluator(dataset, checkpoint_after=0.0)
    (group,) = evaluator.groups([asked])
    ((first, _),) = evaluator.run(group)
    ((again, _),) = evaluator.run(group)
    assert first.status is again.status is Status.FAILED
    assert len(first.curve) == len(again.curve) == 1
    assert first.cost.steps == again.cost.steps


def trained_and_new(evaluator, ledger, asked):
    (done,) = run_all(evaluator, asked)
    (trial,) = ledger.put([done])
    assert trial.status is Status.DONE
    return evaluator.trained(trial), evaluator.model(asked)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["single", "uniform", "linear"])
def test_every_parameter_is_trained(evaluator, ledger, loss, dropout):
    genotype = MixGenotype(
        encoders=(("image", Block.of("mlp", channels=6)), ("series", DROPOUT), ("table", MLP)),
        fusion="mean",
        network=Block.of("mlp-mixer", token_dim=4, channel_dim=8),
        loss=Loss(kind=loss),
    )
    asked = proposal(genotype, 2, keep=True, modality_dropout=dropout)
    trained, new = trained_and_new(evaluator, ledger, asked)
    before = dict(new.named_parameters())
    assert before
    for name, parameter in trained.named_parameters():
        # In `mean`, T is the fewest tokens: here one, so that tokens are not mixed.
        if not name.startswith("network.") or "token" not in name:
            assert not torch.equal(parameter, before[name]), name


def test_tokens_that_nothing_trains_become_their_features_means(evaluator, ledger, dataset):
    asked = proposal(MIX, 2, keep=True)
    trained, new = trained_and_new(evaluator, ledger, asked)
    assert not new.absent["series"][0].token.any()
    batch = RowSource(dataset, torch.device("cpu")).batch(dataset.split.train)
    with torch.no_grad():
        mean = trained.encode(batch.inputs)["series"][0].x.mean((0, 1))
    torch.testing.assert_close(trained.absent["series"][0].token, mean, rtol=0, atol=1e-5)
    assert isinstance(trained.absent["table"][0].token, torch.nn.Parameter)


def test_an_absent_row_does_not_depend_on_its_raw_content(make_evaluator):
    one = toy_dataset(150, absent=0.3)
    spoilt = {name: array.copy() for name, array in one.arrays.items()}
    gone = ~one.present[:, 2]
    assert gone[one.split.train].any()
    assert gone[one.split.val].any()
    spoilt["table"][gone] = 1e6
    other = replace(one, arrays=spoilt)  # with the same fingerprint: the same keys
    asked = proposal(MIX, 2, keep=True)
    same(*(run_all(make_evaluator(d), asked)[0] for d in (one, other)))


def test_banked_absent_rows_do_not_depend_on_their_raw_content(tmp_path, make_evaluator):
    one = toy_dataset(150, absent=0.3)
    spoilt = {name: array.copy() for name, array in one.arrays.items()}
    spoilt["table"][~one.present[:, 2]] = 1e6
    other = replace(one, arrays=spoilt)
    asked = proposal(toy(0, 1, 1), 2, frozen=True, keep=True)
    found = []
    for i, data in enumerate((one, other)):
        evaluator = make_evaluator(data)
        evaluator.bank = tmp_path / f"bank {i}"
        found += run_all(evaluator, asked)
    same(*found)


def test_the_same_seed_gives_the_same_trial_whatever_was_made_before(make_evaluator, dataset):
    asked = proposal(MIX, 2, keep=True)
    (alone,) = run_all(make_evaluator(dataset), asked)
    evaluator = make_evaluator(dataset)
    run_all(evaluator, proposal(MIX, 1, seed=5), proposal(toy(0, 1), 1))
    torch.manual_seed(99)
    same(run_all(evaluator, asked)[0], alone)
    (other,) = run_all(evaluator, proposal(MIX, 2, seed=1, keep=True))
    assert other[0].predictions.tobytes() != alone[0].predictions.tobytes()


def test_the_global_random_state_is_left_alone(evaluator):
    state = torch.random.get_rng_state()
    run_all(evaluator, proposal(MIX, 1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_candidate_that_cannot_be_built_is_a_failed_trial(evaluator):
    wrong = MixGenotype.single("series", Block.of("mlp", channels=0))
    ((trial, weights),) = run_all(evaluator, proposal(wrong, 1, keep=True))
    assert trial.status is Status.FAILED
    assert trial.error.startswith("GenotypeError: series: mlp: sizes >= 1")
    assert (trial.score, weights, trial.predictions) == (None, None, None)


def test_what_is_no_candidates_fault_is_raised(evaluator, monkeypatch):
    asked = proposal(MIX, 1)
    (group,) = evaluator.groups([asked])

    def watcher(epoch, value):
        raise ValueError("a callback's own mistake")

    with pytest.raises(ValueError, match="own mistake"):
        evaluator.run(group, None, watcher)
    with pytest.raises(LedgerError, match="nowhere"):
        evaluator.run(evaluator.groups([proposal(MIX, 1, init=("nowhere",))])[0])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Full", (), {"free": 10}))
    with pytest.raises(DataError, match="Free some space"):
        run_all(evaluator, proposal(toy(0, 0), 1, frozen=True))


REFUSED = [
    MemoryError("Unable to allocate 8.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda e: type(e).__name__)
def test_short_memory_is_a_lost_trial_that_says_what_needs_less(evaluator, monkeypatch, error):
    def refuse(self):
        raise error

    monkeypatch.setattr("polymix.train.loop.Trainer.run", refuse)
    ((trial, weights),) = run_all(evaluator, proposal(MIX, 1, keep=True))
    assert (trial.status, trial.score, weights) == (Status.LOST, None, None)
    assert trial.failed
    assert trial.error.startswith("out of memory: a smaller preset, a smaller batch_size or fewer")
    assert str(error) in trial.error
    assert trial.traceback is not None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_disk_that_takes_no_more_is_no_candidates_fault(evaluator, monkeypatch, code):
    def refuse(self):
        raise OSError(code, "no", "a-file")

    monkeypatch.setattr("polymix.train.loop.Trainer.run", refuse)
    with pytest.raises(
        SearchError, match=r"nothing more can be written: .*a-file.*free some space"
    ):
        run_all(evaluator, proposal(MIX, 1))


def test_a_metric_that_is_undefined_is_a_failed_trial(make_evaluator):
    data = toy_dataset(100, ("series",))
    targets = data.targets.copy()
    targets[data.split.val] = 0
    data = replace(data, targets=targets)
    ((trial, _),) = run_all(
        make_evaluator(data, "roc_auc"), proposal(MixGenotype.single("series", MLP), 2)
    )
    assert trial.status is Status.FAILED
    assert trial.score is None


class Clock:
    """A clock that moves on by a second at each look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_what_begins_after_its_deadline_is_not_begun(evaluator):
    (group,) = evaluator.groups([proposal(MIX, 9, keep=True, batch_size=16)])
    ((trial, weights),) = evaluator.run(group, deadline=-1.0)
    assert (trial.status, trial.score, trial.cost.steps, weights) == (Status.STOPPED, None, 0, None)


@pytest.mark.parametrize(("deadline", "epochs"), [(15.0, 1), (30.0, 2), (10_000.0, 9)])
def test_a_deadline_leaves_a_usable_score(evaluator, monkeypatch, deadline, epochs):
    (group,) = evaluator.groups([proposal(MIX, 9, keep=True, batch_size=16)])
    monkeypatch.setattr("time.monotonic", Clock())
    ((trial, weights),) = evaluator.run(group, deadline)
    assert trial.status is (Status.DONE if epochs == 9 else Status.STOPPED)
    assert trial.usable
    assert len(trial.curve) >= epochs
    assert weights is not None
    assert trial.predictions.shape == (30, 3)
    assert (trial.cost.steps == 0) == (deadline < 0)


def test_a_settled_token_is_the_mean_of_what_is_no_padding(make_evaluator):
    x = np.random.default_rng(0).standard_normal((60, 4, 3)).astype(np.float32) + 2
    x[..., 0] = 1
    x[::2, 2:] = 0
    x[1] = 0  # a row of padding alone says nothing
    modality = Modality(name="x", kind=Kind.FEATURES, shape=(4, 3), dtype="float32", padded=True)
    schema = Schema(modalities=(modality,), target=toy_dataset(60).schema.target)
    targets = np.arange(60) % len(schema.target.classes)
    data = Dataset.from_arrays(
        "padded", schema, {"x": x}, targets, stratified_codes(targets, 0.3, 0.1, 0)
    )
    block = Block.of("linear-tokens", channels=5)
    evaluator = make_evaluator(data)
    asked = proposal(MixGenotype.single("x", block), 1, keep=True)
    ((_, state),) = run_all(evaluator, asked)
    model = evaluator.model(asked)
    load_matching(model, state)
    rows = data.split.train
    with torch.no_grad():
        tokens = model.encode(RowSource(data, torch.device("cpu")).batch(rows).inputs)["x"][0].x
    there = torch.from_numpy(data.arrays["x"][rows][..., 0] != 0)
    means = [t[h].mean(0) for t, h in zip(tokens, there, strict=True) if h.any()]
    torch.testing.assert_close(state["absent.x.0.token"], torch.stack(means).mean(0))
