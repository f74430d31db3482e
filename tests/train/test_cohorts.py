"""A candidate in a cohort is the candidate alone, to rounding, whatever its neighbours do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polymix import seeds
from polymix.data.batch import Batch
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import TRAIN, VAL
from polymix.genotype import Block
from polymix.methods.mfas.space import MFASSpace
from polymix.nn.build import build_seeded
from polymix.nn.tokens import Tokens
from polymix.records import Fidelity, Proposal, Recipe, Status
from polymix.scoring.metrics import METRICS
from polymix.space.mix import MixGenotype
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator
from polymix.train.groups import Group
from polymix.train.learner import SingleLearner, StackLearner
from polymix.train.objective import Objective
from polymix.train.optimizer import make_optimizer, step
from train.common import MLP, FaultyGenotype, proposal, run_all, same, toy

CHOICES = [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0)]


class Banked:
    """Random banked features."""

    def __init__(self, dataset, dtype):
        self.schema, self.dtype = dataset.schema, dtype

    def batch(self, i):
        rng = seeds.stream(0, "banked", i)
        draw = lambda: torch.from_numpy(rng.standard_normal((32, 1, 8))).to(self.dtype)  # noqa: E731
        return Batch(
            {name: [Tokens(draw()), Tokens(draw())] for name in self.schema.names},
            torch.from_numpy(rng.random((32, 3)) < 0.8),
            torch.from_numpy(rng.integers(0, 3, 32)),
        )


def train(learner, dataset, dtype, steps=20):
    source, objective = Banked(dataset, dtype), Objective(dataset.schema)
    optimizer = make_optimizer(learner.parameters(), Recipe(lr=0.01, weight_decay=1e-3))
    for i in range(steps):
        step(learner.losses(source.batch(i), objective, 1).sum(), optimizer)
    learner.train(False)
    with torch.no_grad():
        return learner.outputs(source.batch(-1)).fused


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_a_stack_trains_as_its_members_alone(dataset, dtype, tolerance):
    def models():
        made = [build_seeded(toy(*c), dataset.schema, 0).to(dtype) for c in CHOICES]
        for model in made:
            model.encoders = torch.nn.ModuleDict()
        return made

    together = train(StackLearner(models()), dataset, dtype)
    for k, model in enumerate(models()):
        alone = train(SingleLearner(model, frozen=True), dataset, dtype)[0]
        assert (together[k] - alone).abs().max() < tolerance
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.fixture
def backbones(evaluator, ledger):
    digests = []
    for name in ("image", "series", "table"):
        asked = proposal(MixGenotype.single(name, MLP), 2, keep=True)
        digests += [t.weights for t in ledger.put(run_all(evaluator, asked))]
    return tuple(digests)


def candidates(init, **changes):
    options = {"epochs": 3, "frozen": True, "keep": True, "lr": 0.01, "init": init, **changes}
    return [proposal(toy(*choice), **options) for choice in CHOICES]


def test_candidates_of_one_shape_are_one_computation(evaluator, backbones):
    cohort = candidates(backbones)
    assert [len(g.proposals) for g in evaluator.groups(cohort)] == [4]
    other = proposal(toy(0, 0, 0, width=5), 3, frozen=True, keep=True, lr=0.01, init=backbones)
    assert [len(g.proposals) for g in evaluator.groups([*cohort, other])] == [4, 1]
    # Other encoders' weights, other features; so do whole trainings and schedules that watch.
    assert [len(g.proposals) for g in evaluator.groups([*cohort, *candidates(())])] == [4, 4]
    for alone in ({"frozen": False}, {"schedule": "plateau"}, {"patience": 2}):
        assert len(evaluator.groups(candidates(backbones, **alone))) == 4


def test_a_cohort_of_trials_is_its_trials_alone(evaluator, backbones):
    cohort = candidates(backbones)
    together = run_all(evaluator, *cohort)
    for asked, (trial, weights) in zip(cohort, together, strict=True):
        (alone, its_weights), = evaluator.run(Group((asked,), (evaluator.key(asked),)))  # fmt: skip
        np.testing.assert_allclose(trial.predictions, alone.predictions, rtol=0, atol=1e-4)
        assert trial.cost.steps == alone.cost.steps == 3 * 2
        assert weights.keys() == its_weights.keys()
        for name in weights:
            torch.testing.assert_close(weights[name], its_weights[name], rtol=0, atol=1e-3)
    assert len({t.predictions.tobytes() for t, _ in together}) == 4


def test_inherited_weights_bring_no_choice_with_them(evaluator, ledger, backbones):
    first, second = candidates(backbones)[:2]
    (trial,) = ledger.put(run_all(evaluator, first))
    heir = proposal(second.genotype, 1, frozen=True, init=(*backbones, trial.weights))
    model = evaluator.model(heir)
    assert model.choice.tolist() == [1, 0, 1]
    kept = ledger.weights(trial.weights)
    assert torch.equal(model.layer.weight, kept["layer.weight"])
    assert "choice" not in kept
    assert torch.equal(
        model.encoders["image"].layers[0].weight,
        ledger.weights(backbones[0])["encoders.image.layers.0.weight"],
    )


def test_frozen_encoders_stay_and_the_model_comes_back_whole(evaluator, ledger, backbones, dataset):
    (asked, *_) = candidates(backbones)
    (trial,) = ledger.put(run_all(evaluator, asked))
    model = evaluator.trained(trial)
    before = ledger.weights(backbones[1])
    for name, tensor in model.encoders["series"].state_dict().items():
        assert torch.equal(tensor, before[f"encoders.series.{name}"])
    from polymix.runs.inference import predict_dataset

    predictions = predict_dataset(model, dataset, dataset.split.val, torch.device("cpu"))
    # The bank rounds features to float16.
    np.testing.assert_allclose(predictions, trial.predictions, rtol=0, atol=0.01)


def test_frozen_models_too_stand_in_for_modalities_that_no_row_lacks(evaluator, ledger, backbones):
    for asked in (candidates(backbones)[:1], candidates(backbones)):
        _, state = run_all(evaluator, *asked)[0]
        assert not evaluator.schema_for(asked[0].recipe)["image"].optional
        for i in range(2):
            assert state[f"absent.image.{i}.token"].abs().max() > 0


@pytest.mark.parametrize("fault", ["nan", "build"])
def test_a_faulty_candidate_fails_alone(evaluator, backbones, fault):
    cohort = [
        proposal(toy(*c, kind=FaultyGenotype, fault=f), 2, frozen=True, keep=True, init=backbones)
        for c, f in zip(CHOICES, ["", fault, "", ""], strict=True)
    ]
    assert len(evaluator.groups(cohort)) == 1
    done = run_all(evaluator, *cohort)
    statuses = [trial.status for trial, _ in done]
    assert statuses == [Status.DONE, Status.FAILED, Status.DONE, Status.DONE]
    failed, weights = done[1]
    assert failed.score is None
    assert weights is None
    assert ("finite" if fault == "nan" else "ZeroDivisionError: it cannot") in failed.error
    sound = [p for p, s in zip(cohort, statuses, strict=True) if s is Status.DONE]
    for one, asked in zip((done[0], done[2], done[3]), sound, strict=True):
        (alone,) = run_all(evaluator, asked)
        np.testing.assert_allclose(one[0].predictions, alone[0].predictions, rtol=0, atol=1e-4)


def test_order_does_not_depend_on_neighbours(evaluator, backbones):
    cohort = candidates(backbones)
    same(run_all(evaluator, *cohort)[0], run_all(evaluator, *cohort)[0])
    reversed_ = run_all(evaluator, *reversed(cohort))
    for one, other in zip(run_all(evaluator, *cohort), reversed_[::-1], strict=True):
        np.testing.assert_allclose(one[0].predictions, other[0].predictions, rtol=0, atol=1e-4)


def test_float32_scores_are_within_three_rows_of_five_thousand(tmp_path):
    """MFAS's cohort against its members alone, trained and scored as the search does."""
    rng = seeds.stream(0, "rows")
    codes = np.repeat(np.array([TRAIN, VAL], np.uint8), [1280, 5000])
    target = rng.integers(0, 3, len(codes))
    arrays = {
        name: (target[:, None] * 0.3 + rng.standard_normal((len(codes), 8))).astype(np.float32)
        for name in ("a", "b")
    }
    schema = Schema(
        modalities=tuple(
            Modality(name=n, kind=Kind.FEATURES, shape=(8,), dtype="float32") for n in arrays
        ),
        target=Target(name="y", task=Task.MULTICLASS, classes=("0", "1", "2")),
    )
    data = Dataset.from_arrays("rows", schema, arrays, target, codes)
    blocks = {n: Block.of("mlp", channels=c, layers=2) for n, c in (("a", 12), ("b", 8))}
    space = MFASSpace(blocks, (2, 2), width=16)
    recipe = Recipe(lr=3e-3, batch_size=128, schedule="cosine", weight_decay=1e-4, frozen=True)
    drawn = seeds.stream(0, "drawn").integers(len(space.unit), size=(6, 3))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        evaluator = Evaluator(data, METRICS["accuracy"], ledger, tmp_path / "bank")
        init = tuple(
            ledger.keep_weights(build_seeded(MixGenotype.single(n, b), schema, 0).state_dict())
            for n, b in blocks.items()
        )
        cohort = [
            Proposal(space.genotype([space.unit[int(i)] for i in row]), Fidelity(1280, 2), recipe,
                     init) for row in drawn
        ]  # fmt: skip
        (group,) = evaluator.groups(cohort)
        together = [trial.value for trial, _ in evaluator.run(group)]
        alone = [
            trial.value for p in cohort for g in evaluator.groups([p])
            for trial, _ in evaluator.run(g)
        ]  # fmt: skip
    assert len(set(together)) > 1
    assert max(abs(a - b) for a, b in zip(together, alone, strict=True)) * 5000 <= 3
