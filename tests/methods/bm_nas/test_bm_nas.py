"""BM-NAS does what Algorithm 1 says, and falls into none of its public code's traps."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from methods.mro.test_mro import of_modalities
from polymix import seeds
from polymix.data.batch import RowSource
from polymix.errors import UsageError
from polymix.genotype import Block
from polymix.methods.bm_nas.bm_nas import BMNAS, STEPS
from polymix.methods.bm_nas.space import BMNASGenotype, BMNASSpace
from polymix.methods.bm_nas.supernet import Supernet
from polymix.methods.bm_nas.updates import PathUpdates, unrolled_gradients
from polymix.records import Role, Status
from polymix.scoring.metrics import METRICS
from polymix.store.ledger import Ledger
from polymix.testing import run_strategy, toy_dataset
from polymix.testing.strategies import Watch
from polymix.train.evaluate import Evaluator
from polymix.train.objective import Objective
from polymix.train.supernet import RowLoader, SupernetTrainer
from search.common import answer, task

TINY = {
    "channels": 6, "length": 3, "horizon": 3, "backbone_epochs": 1, "probe_epochs": 1,
    "full_epochs": 1, "batch_size": 32,
}  # fmt: skip
MLPS = {"series": "mlp", "table": "mlp"}


def begin(strategy, data):
    strategy.setup(task(data.schema, rows=len(data.split.train)))
    return strategy


@pytest.fixture
def lab(tmp_path):
    """A dataset, a trainer and feeds, for searches without a driver."""
    data = toy_dataset(90, ("series", "table"), absent=0.2)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, METRICS["accuracy"], ledger, tmp_path / "bank")
        source = RowSource(data, evaluator.device)
        feeds = [RowLoader(source, rows, 0) for rows in (data.split.train, data.split.val)]
        yield data, SupernetTrainer(evaluator, 0), feeds


def test_backbones_are_asked_for_once_and_kept(lab):
    strategy = begin(BMNAS(backbones=MLPS, **TINY), lab[0])
    asked = strategy.ask()
    assert [str(p.genotype) for p in asked] == ["series:mlp", "table:mlp"]
    assert all(p.keep and not p.recipe.frozen for p in asked)
    strategy.tell([answer(p, 0.5, weights=f"w{i}") for i, p in enumerate(asked)])
    assert strategy.ask() == []
    (guess,) = strategy.derive()
    assert guess.init == ("w0", "w1")
    assert guess.recipe.frozen
    assert strategy.random(seeds.stream(0, "x")).recipe.frozen
    thawed = begin(BMNAS(backbones=MLPS, unfreeze=True, full_epochs=6, thaw=5), lab[0])
    thawed.tell([answer(p, 0.5, weights="w") for p in thawed.ask()])
    (proposal,) = thawed.derive()
    assert (proposal.recipe.frozen, proposal.recipe.thaw) == (False, 3)


def test_a_modality_without_backbone_takes_no_part_where_others_are_enough(lab):
    strategy = begin(BMNAS(backbones={"series": "mlp"}, **TINY), lab[0])
    series, table = strategy.ask()
    strategy.tell([answer(series, 0.5, weights="w"), answer(table, None)])
    assert list(strategy.space.backbones) == ["series"]
    strategy = begin(BMNAS(backbones={"series": "mlp"}, features={"series": [0]}, **TINY), lab[0])
    series, table = strategy.ask()
    strategy.tell([answer(series, 0.5, weights="w"), answer(table, None)])
    assert list(strategy.space.backbones) == ["series", "table"]  # alone it has no pair
    (guess,) = strategy.derive()
    assert (guess.init, guess.recipe.frozen) == ((), False)


def test_entropy_falls_and_each_update_moves_its_own(lab):
    data, trainer, (train, val) = lab
    strategy = begin(
        BMNAS(backbones=MLPS, **{**TINY, "horizon": 8}, warmup=0.25, choice_lr=0.1), data
    )
    assert strategy.start(None, trainer) == 8
    net = strategy.supernet
    numbers = []
    for _ in range(8):
        before = [p.detach().clone() for p in net.architecture()]
        numbers.append(dict(strategy.epoch(trainer, train, val).numbers))
        moved = any(not torch.equal(a, b) for a, b in zip(before, net.architecture(), strict=True))
        assert moved == (len(numbers) > 2)  # a quarter of the epochs warms up
    for name in ("alpha", "beta", "gamma"):
        entropies = [n[f"entropy_{name}"] for n in numbers]
        assert entropies[0] > 0.99
        assert entropies[-1] < min(0.9, entropies[3])
    assert numbers[-1]["temperature"] == pytest.approx(0.1)
    assert all(n["flops"] > 0 for n in numbers)
    # The best by validation is first, and it is what is derived.
    chosen = strategy.chosen()
    assert all(g in strategy.space for g in chosen)
    assert strategy.derive()[0].genotype == chosen[0]
    assert strategy._found[chosen[0]][0] == max(score for score, _ in strategy._found.values())
    assert numbers[-1]["score"] == strategy._found[net.derive()][0]


def test_choices_take_their_steps_however_few_the_validation_rows(lab, monkeypatch):
    data, trainer, (train, val) = lab
    strategy = begin(BMNAS(backbones=MLPS, warmup=0.0, **TINY), data)
    strategy.start(None, trainer)
    real, rows = PathUpdates.choices, []

    def choices(self, batch, other, *others):
        rows.append(len(other.target))
        return real(self, batch, other, *others)

    monkeypatch.setattr(PathUpdates, "choices", choices)
    strategy.epoch(trainer, train, replace(val, rows=val.rows[:5]))
    assert rows == [5] * STEPS


def test_choices_follow_what_is_best_along_paths_and_the_mixture_where_asked(lab):
    """Along paths more networks than those derived are looked at; of mixtures, those alone."""
    data, trainer, (train, val) = lab
    looked = {}
    for relaxed in (False, True):
        options = {**TINY, "relaxed": relaxed, "warmup": 0.0, "paths": 3, "kept": 2}
        strategy = begin(BMNAS(backbones=MLPS, **options), data)
        derived = set()
        for _ in range(strategy.start(None, trainer)):
            strategy.epoch(trainer, train, val)
            derived.add(strategy.supernet.derive())
        looked[relaxed] = set(strategy.chosen())
        assert derived <= looked[relaxed]
        assert strategy.supernet.path is None
    assert looked[True] == derived
    assert len(looked[False]) > 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "along sampled paths"),
        ({"relaxed": True}, r"as in the paper \(relaxed=true\)"),
        ({"second_order": True}, r"one step of the weights ahead \(second_order=true\)"),
    ],
)
def test_the_board_says_which_search_it_was(lab, options, said):
    (reason,) = begin(BMNAS(backbones=MLPS, **options, **TINY), lab[0]).reasons()
    assert re.search(said, reason)
    assert reason.startswith("bm-nas: ")


def test_what_is_validated_is_a_clean_pass(lab):
    """Looking moves nothing, and no dropout is in it."""
    data, trainer, (train, val) = lab
    strategy = begin(BMNAS(backbones=MLPS, dropout=0.5, **TINY), data)
    strategy.start(None, trainer)
    strategy.epoch(trainer, train, val)
    before = {n: t.clone() for n, t in strategy.supernet.state_dict().items()}
    genotype = strategy.chosen()[0]
    looks = {strategy._look(genotype, trainer, val.over(strategy.source)) for _ in range(2)}
    assert looks == {strategy._found[genotype]}
    after = strategy.supernet.state_dict()
    assert all(torch.equal(t, after[n]) for n, t in before.items())


def test_the_checkpoint_holds_the_choices(lab):
    data, trainer, (train, val) = lab
    strategy = begin(BMNAS(backbones=MLPS, warmup=0.0, **TINY), data)
    strategy.start(None, trainer)
    strategy.epoch(trainer, train, val)
    tensors, meta = strategy.state()
    kept = {n.split("/")[1].split(".")[0] for n in tensors if n.startswith("net/")}
    assert {"alpha", "beta", "gamma", "cells", "reshape"} <= kept
    assert not any("encoders" in n for n in tensors)
    other = begin(BMNAS(backbones=MLPS, warmup=0.0, **TINY), data)
    other.start(3, trainer)
    other.load_state({n: t.clone() for n, t in tensors.items()}, meta)
    assert other.chosen() == strategy.chosen()
    records = [s.epoch(trainer, train, val) for s in (strategy, other)]
    assert records[0] == records[1]


def test_the_second_order_is_the_gradient_one_step_ahead():
    data = toy_dataset(60, ("series", "table"), absent=0.0)
    blocks = {n: Block.of("mlp", channels=4, layers=1) for n in data.schema.names}
    space = BMNASSpace(blocks, [(0,), (0,)], cells=1, steps=1, channels=4, length=2, dropout=0.0)
    torch.manual_seed(0)
    net = Supernet(space, data.schema).double().eval()
    source, objective = RowSource(data, torch.device("cpu")), Objective(data.schema)
    train, val = (source.batch(rows[:12]) for rows in (data.split.train, data.split.val))
    with torch.no_grad():
        for batch in (train, val):
            doubled = {n: x.double() for n, x in batch.inputs.items()}
            object.__setattr__(batch, "inputs", net.encode(doubled))
    net.encoders.requires_grad_(False)

    def loss(batch):
        return objective(net.fuse(batch.inputs, batch.present), batch.target, None, (1.0, {}))

    def ahead(lr):
        weights = net.weights()
        kept = [w.detach().clone() for w in weights]
        steps = torch.autograd.grad(loss(train), weights, allow_unused=True)
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight -= lr * (0 if step is None else step)
            found = float(loss(val))
            for weight, old in zip(weights, kept, strict=True):
                weight.copy_(old)
        return found

    told = unrolled_gradients(net, objective, train, val, 0.5)
    assert float(told) == pytest.approx(ahead(0.5))
    for logits in (net.gamma[0], net.beta[0]):
        slope = torch.zeros_like(logits)
        with torch.no_grad():
            for i in range(logits.numel()):
                for sign in (1, -1):
                    logits.view(-1)[i] += sign * 1e-4
                    with torch.enable_grad():
                        slope.view(-1)[i] += sign * ahead(0.5) / 2e-4
                    logits.view(-1)[i] -= sign * 1e-4
        torch.testing.assert_close(logits.grad, slope, rtol=1e-4, atol=1e-8)


def test_the_chosen_one_is_trained_again_with_the_validation_rows(tmp_path):
    data = toy_dataset(90, ("series", "table"), absent=0.1)
    watch = Watch()
    record = run_strategy(
        BMNAS(backbones=MLPS, **TINY), data, tmp_path, trials=9, callbacks=[watch]
    )
    (last,) = [t for t in record.trials if t["role"] is Role.REFIT]
    assert last is record.trials[-1]
    assert len(record.trials) <= 9
    chosen, refitted = record.outcome.standings.chosen, record.outcome.refitted
    assert (refitted.key, last["score"], last["predictions"]) == (last["key"], None, None)
    assert last["genotype"] == chosen.proposal.genotype
    assert last["fidelity"] == chosen.proposal.fidelity
    rows = len(data.split.train) + len(data.split.val)
    assert last["cost"]["steps"] == -(-rows // 32) * last["fidelity"].epochs
    assert last["weights"] not in (None, chosen.weights)
    # It stands beside nothing.
    assert all(t.key != refitted.key for r in record.outcome.standings.rows
               for t in r.finalist.trials)  # fmt: skip


def test_a_refit_can_be_declined(tmp_path):
    data = toy_dataset(60, ("series", "table"), absent=0.1)
    record = run_strategy(BMNAS(backbones=MLPS, refit=False, **TINY), data, tmp_path, trials=8)
    assert record.outcome.refitted is None
    assert not any(t["recipe"].refit for t in record.trials)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_any_number_of_modalities_with_one_feature_each(tmp_path, k):
    data = of_modalities(k)
    strategy = BMNAS(
        features={name: [0] for name in data.schema.names}, cells=3, **{**TINY, "horizon": 2}
    )
    record = run_strategy(strategy, data, tmp_path, trials=9)
    assert all(t["status"] is Status.DONE for t in record.trials)
    derived = [t["genotype"] for t in record.trials if isinstance(t["genotype"], BMNASGenotype)]
    assert derived
    assert all(len(g.nodes) == k and len(g.cells) == 3 for g in derived)


def test_one_modality_is_searched_within_or_refused(tmp_path):
    data = toy_dataset(60, ("series",))
    with pytest.raises(UsageError, match=r"2 different features, but there are 1: series \[0\]"):
        begin(BMNAS(features={"series": [0]}, backbones={"series": "mlp"}), data)
    strategy = begin(BMNAS(backbones={"series": "mlp"}, **TINY), data)
    assert strategy.size() == strategy.space.count()
    assert {name for name, _ in strategy.derive()[0].genotype.nodes} == {"series"}


def test_all_problems_are_told():
    data = toy_dataset(60, ("series", "table"))
    with pytest.raises(UsageError) as caught:
        begin(BMNAS(backbones={"sreies": "mlp"}, features={"tabel": [0]}), data)
    for part in ("sreies", "tabel"):
        assert part in str(caught.value)
    with pytest.raises(UsageError) as caught:
        begin(BMNAS(backbones=MLPS, features={"table": [7]}, operations=["summ"]), data)
    assert "features 0 to" in str(caught.value)
    with pytest.raises(UsageError, match="'summ': did you mean 'sum'"):
        begin(BMNAS(backbones=MLPS, operations=["summ"]), data)


def test_hidden_modalities_never_leave_a_row_empty(lab):
    data, trainer, (train, _) = lab
    strategy = begin(BMNAS(backbones=MLPS, modality_dropout=0.9, **TINY), data)
    strategy.start(None, trainer)
    batch = next(train.over(strategy.source).shuffled(32, 0))
    hidden = strategy._hidden(batch, trainer, np.random.default_rng(0))
    assert hidden.present.any(1).all()
    assert (~hidden.present & batch.present).any()
    assert not (hidden.present & ~batch.present).any()
