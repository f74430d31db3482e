"""MixMAS: what each stage asks, and what it keeps."""

from __future__ import annotations

import pytest
from torch import nn

from polymix import seeds
from polymix.errors import UsageError
from polymix.genotype import Block
from polymix.methods.m2_mixer.m2_mixer import M2Mixer
from polymix.methods.mixmas.candidates import CANDIDATES
from polymix.methods.mixmas.mixmas import MixMAS
from polymix.methods.strategies import make_strategy
from polymix.nn import catalog
from polymix.nn.encoders.mlp import MLPEncoder
from polymix.records import Status
from polymix.registry import register
from polymix.scoring.intervals import Referee
from polymix.scoring.metrics import METRICS
from polymix.testing import run_strategy, toy_dataset
from search.common import answer, task

NAMES = ["mlp-mixer", "hyper-mixer", "mlp"]


@pytest.fixture(scope="module")
def schema():
    return toy_dataset(60).schema


def ready(schema, **options):
    strategy = MixMAS(encoders=NAMES, **options)
    strategy.setup(task(schema))
    return strategy


def names(proposals):
    return [(n, b.name) for p in proposals for n, b in p.genotype.encoders]


def play(strategy, scores):
    """Play a whole search; `scores(genotype)` is a share, or (share, FLOPs)."""
    stages = []
    while cohort := list(strategy.ask()):
        stages.append(cohort)
        answers = []
        for p in cohort:
            found = scores(p.genotype)
            answers.append(answer(p, *(found if isinstance(found, tuple) else (found,))))
        strategy.tell(answers)
    return stages


def test_stages(schema):
    stages = play(ready(schema), lambda genotype: 0.5)
    assert [{p.stage for p in stage} for stage in stages] == [
        {"encoders"}, {"fusion function"}, {"fusion network"}
    ]  # fmt: skip
    encoders, functions, networks = stages
    # The modalities take turns, and a table takes the MLP alone.
    assert names(encoders) == [
        ("image", NAMES[0]), ("series", NAMES[0]), ("table", "mlp"),
        *((modality, name) for name in NAMES[1:] for modality in ("image", "series")),
    ]  # fmt: skip
    assert [p.genotype.fusion for p in functions] == ["concat", "mean", "max"]
    assert all(p.genotype.network is None for p in functions)
    assert [p.genotype.network and p.genotype.network.name for p in networks] == [
        None, "mlp-mixer", "hyper-mixer"
    ]  # fmt: skip
    assert {p.fidelity.epochs for stage in stages for p in stage} == {10}


def test_the_best_of_each_stage_is_kept(schema):
    def scores(genotype):
        if len(genotype.encoders) == 1:
            return {"mlp-mixer": 0.5, "hyper-mixer": 0.9, "mlp": 0.6}[genotype.encoders[0][1].name]
        if genotype.network is None:
            return {"concat": 0.4, "mean": 0.6, "max": 0.9}[genotype.fusion]
        return 0.99 if genotype.network.name == "hyper-mixer" else 0.3

    strategy = ready(schema)
    stages = play(strategy, scores)
    chosen = [("image", "hyper-mixer"), ("series", "hyper-mixer"), ("table", "mlp")]
    assert names(stages[1][:1]) == chosen
    assert {p.genotype.fusion for p in stages[2]} == {"max"}
    # Of no network (0.9) and the best one (0.99), the difference is beyond the noise.
    (winner,) = strategy.derive()
    assert names([winner]) == chosen
    assert winner.genotype.fusion == "max"
    assert winner.genotype.network == Block.of("hyper-mixer")
    assert winner.genotype.loss.kind == "uniform"
    assert winner.fidelity.epochs == strategy.full_epochs
    assert dict(strategy.chosen_encoders()) == dict(winner.genotype.encoders)


def test_ties_go_to_fewer_flops(schema):
    flops = {"mlp-mixer": 300, "hyper-mixer": 200, "mlp": 100}

    def scores(genotype):
        name = genotype.encoders[0][1].name
        # One row apart of 400, in an image; far apart in a series.
        image = {"mlp-mixer": 0.7, "hyper-mixer": 0.6975, "mlp": 0.3}
        series = {"mlp-mixer": 0.9, "hyper-mixer": 0.5, "mlp": 0.3}
        if len(genotype.encoders) == 1:
            here = image if genotype.encoders[0][0] == "image" else series
            return here[name], flops[name]
        return 0.8, {"concat": 300, "mean": 100, "max": 200}[genotype.fusion]

    strategy = ready(schema)
    play(strategy, scores)
    (winner,) = strategy.derive()
    assert names([winner])[:2] == [("image", "hyper-mixer"), ("series", "mlp-mixer")]
    assert winner.genotype.fusion == "mean"


def test_failed_candidates_lose_and_a_stage_of_failures_changes_nothing(schema):
    def scores(genotype):
        if len(genotype.encoders) > 1:
            return None
        return 0.4 if genotype.encoders[0][1].name == "mlp" else None

    strategy = ready(schema)
    play(strategy, scores)
    (winner,) = strategy.derive()
    assert {name for _, name in names([winner])} == {"mlp"}
    assert (winner.genotype.fusion, winner.genotype.network) == ("concat", None)


def test_seeds_are_probes_of_each_candidate_and_their_mean_decides(schema):
    strategy = ready(schema, seeds=3)
    cohort = strategy.ask()
    assert len(cohort) == 3 * 7
    assert [p.fidelity.seed for p in cohort[:4]] == [0, 1, 2, 0]
    lucky = {0: 0.99, 1: 0.2, 2: 0.2}
    strategy.tell([
        answer(p, lucky[p.fidelity.seed] if p.genotype.encoders[0][1].name == "mlp" else 0.6, 10)
        for p in cohort
    ])  # fmt: skip
    assert strategy.chosen_encoders()["image"].name != "mlp"


def test_one_modality_has_no_fusion_stage():
    data = toy_dataset(60, ("series",))
    strategy = ready(data.schema)
    stages = play(strategy, lambda genotype: 0.5)
    assert len(stages) == 1
    (winner,) = strategy.derive()
    assert (winner.genotype.fusion, winner.genotype.network) == (None, None)
    assert strategy.size() == 3


def test_expected_is_what_is_asked(schema):
    strategy = ready(schema, seeds=2)
    expected = len(strategy.expected())
    assert expected == sum(map(len, play(strategy, lambda genotype: 0.5)))


def test_defaults_are_the_papers_candidates_for_each_kind(schema):
    strategy = MixMAS()
    strategy.setup(task(schema))
    asked = names(strategy.ask())
    for modality in schema.modalities:
        own = [block for name, block in asked if name == modality.name]
        assert own == list(CANDIDATES[modality.kind])
    for kind, candidates in CANDIDATES.items():
        assert set(candidates) <= set(catalog.encoders_for(kind))


def test_encoders_by_modality(schema):
    strategy = MixMAS(encoders={"image": ["conv"]})
    strategy.setup(task(schema))
    asked = names(strategy.ask())
    assert [b for n, b in asked if n == "image"] == ["conv"]
    assert len([b for n, b in asked if n == "series"]) > 1


def test_mistakes_are_all_told(schema):
    with pytest.raises(UsageError, match="no strategy 'mixmass': did you mean 'mixmas'"):
        make_strategy("mixmass")
    with pytest.raises(UsageError, match="mixmas has no option 'epoch': did you mean 'epochs'"):
        make_strategy("mixmas", {"epoch": 3})
    with pytest.raises(UsageError, match="'mlp-mxier': did you mean 'mlp-mixer'"):
        make_strategy("mixmas", {"networks": ["mlp-mxier"]})
    with pytest.raises(UsageError) as told:
        make_strategy("mixmas", {"epochs": 0, "seeds": "many"})
    assert len(told.value.problems) == 2
    strategy = MixMAS(encoders={"imag": ["mlp"], "series": ["hyper-mixr"]})
    with pytest.raises(UsageError) as told:
        strategy.setup(task(schema))
    said = " ".join(told.value.problems)
    assert "no modality 'imag': did you mean 'image'" in said
    assert "no encoder 'hyper-mixr': did you mean 'hyper-mixer'" in said
    with pytest.raises(UsageError, match="none of \\['conv'\\] takes modality 'table'"):
        MixMAS(encoders=["conv"]).setup(task(schema))


def test_the_search_is_cut_to_the_time_there_is(schema):
    def predict(p):
        return p.fidelity.epochs * p.fidelity.rows / 1000

    for seconds, expected in ((1e9, (119, 10)), (13.0, (119, 8)), (3.0, (59, 3)), (0.01, (7, 1))):
        strategy = MixMAS(encoders=NAMES)
        strategy.setup(task(schema, seconds=seconds, predict=predict))
        (fidelity,) = {(p.fidelity.rows, p.fidelity.epochs) for p in strategy.ask()}
        assert fidelity == expected, seconds


def test_a_candidate_beyond_its_share_does_not_hold_up_the_rest(schema):
    def predict(p):
        return 1000.0 if p.genotype.encoders[0][1].name == "hyper-mixer" else 1.0

    strategy = MixMAS(encoders={"image": NAMES})
    strategy.setup(task(schema, seconds=100.0, predict=predict))
    cohort = strategy.ask()
    assert {p.fidelity.epochs for p in cohort} == {10}
    beyond = [p for p in cohort if predict(p) > p.share]
    assert 0 < len(beyond) < len(cohort) / 4 + 1


def test_random_genotypes_are_of_the_space(schema):
    strategy = ready(schema)
    rng = seeds.stream(0, "x")
    drawn = {strategy.random(rng).genotype for _ in range(60)}
    assert len(drawn) > 20
    assert strategy.size() == 3 * 3 * 1 * 3 * 3
    assert all(g in strategy._space for g in drawn)


@pytest.mark.parametrize("config", ["S", "M", "B", "MMixer", "H", "LC"])
def test_m2_mixer_asks_nothing_and_derives_itself(schema, config):
    strategy = M2Mixer(config=config)
    strategy.setup(task(schema))
    assert strategy.ask() == []
    (winner,) = strategy.derive()
    assert [n for n, _ in winner.genotype.encoders] == list(schema.names)
    assert winner.recipe.schedule == "plateau"


# On data.


class Shuffled(MLPEncoder):
    """An MLP that reads another row's cells: nothing can be learnt from it."""

    name = "shuffled-rows"
    VERSION = 1

    def features(self, x):
        noise = (x.flatten(1).sum(1, keepdim=True) * 1e4).sin()  # a hash of the row
        order = noise.squeeze(1).argsort()
        return super().features(x[order])


class Slow(MLPEncoder):
    """An MLP that computes the same as another, at a higher price."""

    name = "costly-mlp"
    VERSION = 1

    def __init__(self, modality, *, channels: int = 64, layers: int = 3, dropout: float = 0.0):
        super().__init__(modality, channels=channels, layers=layers, dropout=dropout)
        self.idle = nn.Linear(64, 256)

    def features(self, x):
        wasted = self.idle(x.new_zeros(len(x), 64)).sum() * 0.0
        return [t._replace(x=t.x + wasted) for t in super().features(x)]


@pytest.fixture
def planted(registrations):
    for encoder in (Shuffled, Slow):
        register(encoder)


def test_a_planted_loser_loses_and_a_planted_tie_is_a_tie(planted, tmp_path):
    data = toy_dataset(400, ("image", "series"), noise=0.5, absent=0.0)
    for seed in range(5):
        strategy = MixMAS(
            encoders={"image": ["shuffled-rows", "mlp"], "series": ["costly-mlp", "mlp"]},
            epochs=4, lr=3e-3, full_epochs=1, fusions=["concat"], networks=["none"],
        )  # fmt: skip
        record = run_strategy(strategy, data, tmp_path / str(seed), seed=seed, trials=12)
        chosen = strategy.chosen_encoders()
        assert chosen["image"].name == "mlp", seed
        # Two MLPs differ by no more than the noise: the cheaper one is taken.
        assert chosen["series"].name == "mlp", seed
        referee = Referee(METRICS["accuracy"], data.targets[data.split.val])
        made = {
            dict(t.proposal.genotype.encoders)[name].name: t
            for t in record.outcome.trials
            for name in ["series"]
            if [n for n, _ in t.proposal.genotype.encoders] == [name]
        }
        assert referee.difference([made["mlp"]], [made["costly-mlp"]]).noise, seed
        assert record.outcome.trials[0].status is Status.DONE
