"""MFAS asks what Algorithm 1 asks, and falls into none of its public code's traps."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import ClassVar

import numpy as np
import pytest
import torch

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.demo import Demo
from polymix.errors import UsageError
from polymix.methods.mfas.mfas import MFAS
from polymix.methods.mfas.space import MFASGenotype
from polymix.methods.mfas.surrogate import Surrogate, sample, temperature
from polymix.nn.encoders.mlp import MLPEncoder
from polymix.records import Role, Status
from polymix.registry import register
from polymix.scoring.metrics import METRICS
from polymix.search.clock import Clock
from polymix.search.trial_runner import LocalRunner, TrialRunner
from polymix.store.ledger import Ledger
from polymix.testing import toy_dataset
from polymix.testing.strategies import Watch, run_strategy
from polymix.train.evaluate import Evaluator
from search.common import answer, task

IMAGE = Modality(name="image", kind=Kind.IMAGE, shape=(1, 28, 28), dtype="uint8")
SOUND = Modality(name="sound", kind=Kind.AUDIO, shape=(1, 112, 112), dtype="uint8")
TARGET = Target(name="y", task=Task.MULTICLASS, classes=("a", "b"))
AVMNIST = Schema(modalities=(IMAGE, SOUND), target=TARGET)


def begin(strategy, schema=AVMNIST, **changes):
    if not strategy.backbones:
        strategy.backbones = dict.fromkeys(schema.names, "lenet")  # as in the paper
    strategy.setup(task(schema, **changes))
    return strategy


def score_of(genotype):
    """Later features and ReLU are worth something; all scores lie close together."""
    worth = [sum(f) + (a == "relu") for f, a in genotype.layers]
    return round(0.80 + 0.005 * float(np.mean(worth)) + 0.002 * len(worth), 4)


def play(strategy, fails=lambda genotype: False):
    """Answer until nothing is asked: the cohorts after the backbones'."""
    backbones = strategy.ask()
    strategy.tell([answer(p, 0.7, weights=f"backbone {i}") for i, p in enumerate(backbones)])
    cohorts = []
    while cohort := strategy.ask():
        trials = [
            answer(
                p,
                None if fails(p.genotype) else score_of(p.genotype),
                weights=None if fails(p.genotype) else f"{len(cohorts)}.{i}",
            )
            for i, p in enumerate(cohort)
        ]
        cohorts.append(trials)
        strategy.tell(trials)
    return backbones, cohorts


@pytest.fixture(scope="module")
def played():
    strategy = begin(MFAS())
    return strategy, *play(strategy)


def test_what_is_asked_by_default(played):
    strategy, backbones, cohorts = played
    assert [str(p.genotype) for p in backbones] == ["image:lenet", "sound:lenet"]
    assert all(p.keep and not p.recipe.frozen for p in backbones)
    # M 3, N 5, P 2, L 4, K 15, E_search 3: all of Γ_1 once, then K a level of each iteration.
    assert [len(c) for c in cohorts] == [30] + [15] * 9
    lengths = [{len(t.proposal.genotype.layers) for t in c} for c in cohorts]
    assert lengths == [{1}] + [{2}, {3}, {4}] * 3
    assert strategy.size() == 30 + 30**2 + 30**3 + 30**4
    every = [t.proposal for c in cohorts for t in c]
    assert all(p.recipe.frozen and p.fidelity.epochs == 6 for p in every)
    assert len(strategy.expected()) == len(every) + 2


def test_nothing_is_trained_twice(played):
    asked = [t.proposal.genotype for c in played[2] for t in c]
    assert len(set(asked)) == len(asked)


def test_each_level_unfolds_what_was_drawn_before(played):
    cohorts = played[2]
    singles = {t.proposal.genotype.layers for t in cohorts[0]}
    for i in (1, 4, 7):  # level 2 of each iteration: of K drawn from Γ_1
        parents = {t.proposal.genotype.layers[:-1] for t in cohorts[i]}
        assert parents <= singles
        assert len(parents) <= 15
        for shorter, longer in zip(cohorts[i : i + 2], cohorts[i + 1 : i + 3], strict=True):
            parents = {t.proposal.genotype.layers for t in shorter}
            assert {t.proposal.genotype.layers[:-1] for t in longer} <= parents


def test_a_cohort_inherits_as_the_weights_stood_at_its_start():
    _, cohorts = play(begin(MFAS(sharing=True)))
    assert {t.proposal.init for t in cohorts[0]} == {("backbone 0", "backbone 1")}
    expected = [
        ("0.29",),  # W_1 of the last of Γ_1
        ("1.14",),  # W_1 and W_2 of the last pair
        ("2.14",),
        ("3.14",),  # of two layers, after four-layer ones: their W_1 and W_2
        ("3.14", "4.14"),  # W_3 is older than what the pairs left of W_1 and W_2
        ("3.14", "5.14"),
        ("6.14",),
    ]
    for cohort, shared in zip(cohorts[1:], expected, strict=False):
        assert {t.proposal.init[2:] for t in cohort} == {shared}
    # One shape, one start, one recipe: one computation, whatever the activations.
    assert {a for t in cohorts[2] for _, a in t.proposal.genotype.layers} == {"relu", "sigmoid"}


def test_without_sharing_nothing_is_inherited():
    _, cohorts = play(begin(MFAS(iterations=1)))
    assert {t.proposal.init for c in cohorts for t in c} == {("backbone 0", "backbone 1")}
    assert not any(t.proposal.keep for c in cohorts for t in c)


def test_the_best_are_trained_wide_and_thawed(played):
    strategy, _, cohorts = played
    ranked = sorted((t for c in cohorts for t in c), key=lambda t: -t.value)
    derived = strategy.derive()
    assert [p.genotype.layers for p in derived] == [t.proposal.genotype.layers for t in ranked[:5]]
    for proposal in derived:
        assert proposal.genotype.width == 256
        assert proposal.genotype.multitask
        assert (proposal.recipe.thaw, proposal.recipe.frozen) == (5, False)
        assert proposal.init == ("backbone 0", "backbone 1")
    tried = strategy.random(seeds.stream(0, "x"))
    assert tried.recipe.frozen
    full = strategy.in_full(tried, derived[0])
    assert full.genotype.layers == tried.genotype.layers
    assert (full.genotype.width, full.genotype.multitask) == (256, True)
    assert full.recipe == derived[0].recipe


def test_the_last_epoch_is_what_counts():
    strategy = begin(MFAS(length=1, iterations=1, top=1))
    strategy.tell([answer(p, 0.7, weights="backbone") for p in strategy.ask()])
    first, second, *rest = (answer(p, 0.6) for p in strategy.ask())
    lucky, steady = replace(first, curve=(0.9, 0.65)), replace(second, curve=(0.7, 0.7))
    strategy.tell([lucky, steady, *rest])
    (best,) = strategy.derive()
    assert best.genotype.layers == steady.proposal.genotype.layers


def test_the_surrogate_finds_better_ones_than_chance(played):
    cohorts = played[2]
    last = [t.value for t in cohorts[-1]]
    rng = seeds.stream(0, "chance")
    strategy = played[0]
    chance = []
    while len(chance) < 300:
        genotype = strategy.random(rng).genotype
        if len(genotype.layers) == 4:
            chance.append(score_of(genotype))
    assert np.mean(last) > np.mean(chance) + np.std(chance)


def test_a_failed_network_is_not_asked_again():
    strategy = begin(MFAS(iterations=2, length=2, samples=5))
    _, cohorts = play(strategy, fails=lambda g: g.layers[0][0][0] == 0)
    asked = [t.proposal.genotype for c in cohorts for t in c]
    assert len(set(asked)) == len(asked)
    assert any(t.status is Status.FAILED for t in cohorts[0])
    assert all(p.genotype.layers[0][0][0] != 0 for p in strategy.derive())


def test_a_modality_without_backbone_takes_no_part():
    strategy = begin(MFAS(iterations=1, length=2))
    asked = strategy.ask()
    strategy.tell([answer(asked[0], None), answer(asked[1], 0.5, weights="sound")])
    cohort = strategy.ask()
    assert {name for p in cohort for name, _ in p.genotype.backbones} == {"sound"}
    assert len(cohort) == 5 * 2


def test_without_any_backbone_there_is_a_guess():
    strategy = begin(MFAS())
    strategy.tell([answer(p, None) for p in strategy.ask()])
    assert strategy.ask() == []
    assert strategy.random(seeds.stream(0, "x")) is None
    (guess,) = strategy.derive()
    assert guess.genotype.layers == (((2, 4), "relu"),)
    assert not guess.recipe.frozen
    assert not guess.recipe.thaw


def test_a_small_space_is_searched_whole_and_then_left():
    one = Schema(modalities=(IMAGE,), target=TARGET)
    strategy = begin(MFAS(activations=["relu"], length=2, iterations=9, samples=4), one)
    _, cohorts = play(strategy)
    assert sum(map(len, cohorts)) == strategy.size() == 3 + 9


def test_backbones_leave_half_of_the_time():
    strategy = begin(MFAS(), seconds=60.0, predict=lambda p: 5.0 * p.fidelity.epochs)
    assert {p.fidelity.epochs for p in strategy.ask()} == {3}


def test_all_problems_are_told():
    with pytest.raises(UsageError) as caught:
        begin(MFAS(backbones={"imgae": "lenet", "sound": "maxout"}, activations=["relu", "relu"]))
    for part in ("imgae", "maxout does not take", "each once"):
        assert part in str(caught.value)


class TestSurrogate:
    def test_it_learns_an_order(self):
        rng = seeds.stream(0, "sequences")
        rows = [
            [tuple(map(int, rng.integers(0, (3, 5, 2)))) for _ in range(rng.integers(1, 5))]
            for _ in range(120)
        ]
        scores = [0.80 + 0.001 * sum(map(sum, row)) / len(row) for row in rows]
        surrogate = Surrogate((3, 5, 2), 0)
        for _ in range(3):
            surrogate.update(rows[:90], scores[:90])
        guesses = surrogate.predict(rows[90:])
        ranks = [np.argsort(np.argsort(x)) for x in (guesses, scores[90:])]
        assert np.corrcoef(ranks)[0, 1] > 0.7

    def test_it_depends_on_its_seed_alone(self):
        rows, scores = [[(0, 1)], [(1, 1), (0, 0)]], [0.2, 0.9]
        before = torch.random.get_rng_state()
        guesses = []
        for noise, seed in ((1, 0), (2, 0), (3, 1)):
            torch.rand(noise)
            surrogate = Surrogate((2, 2), seed, epochs=3)
            surrogate.update(rows, scores)
            guesses.append(surrogate.predict(rows).tolist())
        assert guesses[0] == guesses[1] != guesses[2]
        torch.random.set_rng_state(before)
        Surrogate((2, 2), 0).update(rows, scores)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_longer_neighbours_do_not_matter(self):
        surrogate = Surrogate((2, 2), 0)
        alone = surrogate.predict([[(0, 1)]])
        beside = surrogate.predict([[(0, 1)], [(1, 1)] * 4])
        np.testing.assert_allclose(alone, beside[:1], atol=1e-6)

    def test_equal_scores(self):
        surrogate = Surrogate((2, 2), 0, epochs=1)
        assert np.isfinite(surrogate.update([[(0, 1)], [(1, 1)]], [0.5, 0.5]))


class TestSampling:
    def test_temperature_falls_once_a_step_from_the_first_to_the_last(self):
        heats = [temperature(step, 12, 10.0, 0.2) for step in range(12)]
        assert heats[0] == 10.0
        assert heats[-1] == pytest.approx(0.2)
        ratios = np.divide(heats[1:], heats[:-1])
        np.testing.assert_allclose(ratios, ratios[0])
        assert temperature(0, 1, 10.0, 0.2) == pytest.approx(0.2)

    @pytest.mark.parametrize(("heat", "least", "most"), [(10.0, 1.2, 2.0), (0.2, 50, np.inf)])
    def test_close_scores_are_told_apart(self, heat, least, most):
        """Accuracies from 0.8 to 0.9: p ∝ accuracy^(1/T) gives 1.01 and 1.7 to one."""
        guesses = np.linspace(0.8, 0.9, 20)
        rng = seeds.stream(0, "draws")
        drawn = np.bincount([sample(guesses, 1, heat, rng)[0] for _ in range(20_000)], minlength=20)
        ratio = drawn[-4:].sum() / max(1, drawn[:4].sum())
        assert least < ratio < most

    def test_it_is_drawn_without_replacement(self):
        rng = seeds.stream(0, "draws")
        for guesses in (np.linspace(0, 1, 9), np.full(9, 0.5)):
            drawn = sample(guesses, 9, 1.0, rng)
            assert sorted(drawn) == list(range(9))
        assert len(sample(np.ones(3), 15, 1.0, rng)) == 3


TINY = {
    "activations": ["relu"], "length": 2, "iterations": 1, "samples": 3, "width": 6,
    "backbone_epochs": 1, "epochs": 1, "top": 1, "full_width": 8, "full_epochs": 2, "thaw": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "backbones"),
    [
        (("table",), {}),
        (("series", "table"), {"series": "mlp"}),
        (("image", "series", "table"), {"image": "ramlp"}),
    ],
)
def test_any_number_of_modalities(names, backbones, tmp_path):
    data = toy_dataset(80, names, absent=0.1)
    watch = Watch()
    record = run_strategy(
        MFAS(backbones=backbones, **TINY), data, tmp_path, trials=24, callbacks=[watch]
    )
    assert all(t["status"] is Status.DONE for t in record.trials)
    shipped = [t for t in record.trials if isinstance(t["genotype"], MFASGenotype)]
    assert shipped
    if len(names) > 1:
        # Heads of their own give each modality's own score.
        finals = [t for t in shipped if t["genotype"].multitask]
        assert {n for n, _ in finals[0]["score"].unimodal} == set(names)


def test_demo_with_a_third_modality(tmp_path):
    """The demo, and of each image the sums of its rows and columns; a tenth of each is absent."""
    Demo(rows=(100, 40, 10)).build(tmp_path / "demo", None)
    demo = Dataset.open(tmp_path / "demo")
    image = np.asarray(demo.arrays["image"], np.float32)[:, 0]
    sums = Modality(name="sums", kind=Kind.FEATURES, shape=(56,), dtype="float32")
    modalities = [m.model_copy(update={"optional": True}) for m in (*demo.schema.modalities, sums)]
    codes = np.full(len(demo), VAL, np.uint8)
    codes[demo.split.train], codes[demo.split.test.open()] = TRAIN, TEST
    schema = Schema(modalities=tuple(modalities), target=demo.schema.target)
    data = Dataset.from_arrays(
        "three", schema, {**demo.arrays, "sums": np.concatenate([image.sum(1), image.sum(2)], 1)},
        np.asarray(demo.targets), codes, np.arange(len(demo))[:, None] % 10 != np.arange(3),
    )  # fmt: skip
    encoders = {"image": "conv", "audio": "conv", "sums": "maxout"}
    strategy = begin(MFAS(backbones=encoders, **TINY), schema, rows=100)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, METRICS["accuracy"], ledger, tmp_path / "bank")
        trial_runner = TrialRunner(
            evaluator, LocalRunner(evaluator), ledger, Clock(ledger, None), [], lambda _: 0.0
        )
        told = []
        while cohort := strategy.ask():
            told.append(trial_runner.evaluate(cohort, Role.SEARCH, None))
            strategy.tell(told[-1])
        (winner,) = trial_runner.evaluate(strategy.derive(), Role.WINNER, None)
    assert all(t.status is Status.DONE for t in (*chain(*told), winner))
    # Four features of the image, five of the sound, two of the sums; and three that were drawn.
    assert [len(cohort) for cohort in told] == [3, 4 * 5 * 2, 3]
    assert {name for name, _ in winner.proposal.genotype.backbones} == {"image", "audio", "sums"}
    assert {name for name, _ in winner.score.unimodal} == {"image", "audio", "sums"}


def test_one_feature_a_modality(tmp_path, registrations):
    data = toy_dataset(80, ("series", "table"), absent=0.1)

    class Shallow(MLPEncoder):
        name = "shallow"
        presets: ClassVar = {preset: {"layers": 1} for preset in MLPEncoder.presets}

    register(Shallow)
    strategy = MFAS(backbones={"series": "shallow", "table": "shallow"}, **TINY)
    record = run_strategy(strategy, data, tmp_path, trials=20)
    fused = [t["genotype"] for t in record.trials if isinstance(t["genotype"], MFASGenotype)]
    assert {g.layers for g in fused} == {(((0, 0), "relu"),), (((0, 0), "relu"),) * 2}


def test_the_bank_tells_how_far_it_is(tmp_path):
    told = []

    class Told(Watch):
        def on_features(self, modality, done, rows):
            told.append((modality, done, rows))

    data = toy_dataset(80, ("series", "table"))
    strategy = MFAS(backbones={"series": "mlp"}, **TINY)
    run_strategy(strategy, data, tmp_path, trials=20, callbacks=[Told()])
    count = len(data.split.train) + len(data.split.val)
    # Each backbone's features are computed once in the whole run.
    assert told == [(n, d, count) for n in ("series", "table") for d in (0, count)]


def test_a_cohort_is_one_computation(tmp_path):
    """Candidates of one length share a start, a bank and one stacked computation."""
    sizes = []

    class Counting(Evaluator):
        def run(self, group, *rest):
            sizes.append(len(group.proposals))
            return super().run(group, *rest)

    data = toy_dataset(80, ("series", "table"))
    strategy = MFAS(backbones={"series": "mlp"}, **{**TINY, "activations": ["relu", "sigmoid"]})
    run_strategy(strategy, data, tmp_path, trials=60, evaluator=Counting)
    assert sizes[:4] == [1, 1, 12, 3]
