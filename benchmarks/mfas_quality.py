"""MFAS's search on AV-MNIST: does it earn its cost, and does its score say what training will?

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mfas_quality.py --raw RAW --rows 10000 --ledger L

One pair of backbones; then, in one ledger, so that another call goes on where this one stopped:

    ranking  `--drawn` networks, drawn uniformly beforehand, scored as the search scores and then
             trained in full twice, from two seeds: the rank correlation of score and result,
             beside the ceiling, of result and result
    quality  the search's best, the best of random search in as much CPU time, and the two last
             layers, joined: trained in full from `--seeds` seeds, on test rows, with intervals

Training in full is on frozen backbones, `--full-width` wide, so that all of it runs on the bank;
`--thaw` trains the backbones too, as `polymix search` does, and takes many times as long. Whoever
wins is chosen on validation rows; test rows are opened at the very end. Where the lower end of the
search's interval against either is below -0.5 points, the headline says that the search lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from polymix import seeds
from polymix.data.split import Split
from polymix.methods.mfas.mfas import MFAS
from polymix.records import Fidelity, Interval, Proposal, Role, Trial
from polymix.search.protocol import SearchTask

from common import Lab, lab, last, mean_interval, on_test, parser, report  # isort: skip

LOST = -0.005


def begun(bench: Lab, seed: int, options: dict[str, Any]) -> MFAS:
    """A strategy that has its backbones."""
    strategy = MFAS(**options)
    strategy.setup(
        SearchTask(
            schema=bench.dataset.schema,
            rows=len(bench.dataset.split.train),
            seed=seed,
            metric="accuracy",
            seconds=None,
            trials=None,
            cost=bench.evaluator.cost,
            difference=lambda a, b: Interval(0.0, 0.0, 0.0),  # noqa: ARG005
            predict=lambda proposal: 0.0,  # noqa: ARG005
        )
    )
    strategy.tell(bench.run(strategy.ask()))
    return strategy


def together(bench: Lab, proposals: Sequence[Proposal]) -> list[Trial]:
    """Trials of a cohort: those of one shape in one computation."""
    return bench.bench.evaluate(proposals, Role.SEARCH, None)


def in_full(strategy: MFAS, tried: Proposal, seed: int, arguments: Any) -> Proposal:
    """A network as it is trained in full: wide, from the backbones alone."""
    (like,) = strategy.derive()[:1]
    full = strategy.in_full(tried, like)
    fidelity = Fidelity(tried.fidelity.rows, arguments.full_epochs, seed)
    if arguments.thaw:
        return replace(full, fidelity=fidelity, init=like.init, keep=True, stage="in full")
    genotype = full.genotype.model_copy(update={"width": arguments.full_width, "multitask": False})
    recipe = replace(full.recipe, frozen=True, thaw=0)
    return replace(
        full, genotype=genotype, recipe=recipe, fidelity=fidelity, init=like.init, keep=True,
        stage="in full",
    )  # fmt: skip


def ranking(bench: Lab, strategy: MFAS, arguments: Any) -> dict[str, Any]:
    """Rank correlation of score and result, beside that of result and result."""
    rng = seeds.stream(0, "drawn beforehand")
    drawn: dict[Any, Proposal] = {}
    while len(drawn) < arguments.drawn:
        asked = strategy.random(rng)
        assert asked is not None
        drawn[asked.genotype] = asked
    seed = arguments.score_seed
    tried = [replace(p, fidelity=replace(p.fidelity, seed=seed)) for p in drawn.values()]
    trials = together(bench, tried)
    scores = [last(t) for t in trials]
    results = [
        [last(t) for t in together(bench, [in_full(strategy, p, seed, arguments) for p in tried])]
        for seed in (101, 102)
    ]

    def with_results(told: Sequence[float]) -> float:
        return float(np.mean([spearmanr(told, values).statistic for values in results]))

    found = with_results(scores)
    ceiling = float(spearmanr(*results).statistic)
    return {
        "score_with_result": found,
        "best_epoch_with_result": with_results([t.value for t in trials]),
        "loss_with_result": with_results([-t.score.loss for t in trials if t.score]),
        "result_with_result": ceiling,
        "share_of_ceiling": found / ceiling if ceiling else None,
        "score_sd": float(np.std(scores)),
        "result_sd": float(np.std(np.mean(results, 0))),
        "networks": [
            {"genotype": str(p.genotype), "score": s, "results": [a, b]}
            for p, s, a, b in zip(tried, scores, *results, strict=True)
        ],
    }


def searched(bench: Lab, strategy: MFAS) -> list[Trial]:
    """All of the search's trials."""
    trials: list[Trial] = []
    while cohort := strategy.ask():
        told = together(bench, cohort)
        strategy.tell(told)
        trials += told
    return trials


def by_chance(bench: Lab, strategy: MFAS, seconds: float) -> list[Trial]:
    """Random search in as many CPU seconds, in cohorts as large as the search's."""
    rng = seeds.stream(0, "chance")
    trials: list[Trial] = []
    while sum(t.cost.cpu_s for t in trials) < seconds:
        asked = [strategy.random(rng) for _ in range(strategy.samples)]
        trials += together(bench, [p for p in asked if p is not None])
    return trials


def quality(bench: Lab, strategy: MFAS, arguments: Any) -> dict[str, Any]:
    """The search's winner against chance's and against joining the last layers, on test rows."""
    trials = searched(bench, strategy)
    spent = sum(t.cost.cpu_s for t in trials)
    chance = by_chance(bench, strategy, spent)
    plain = replace(trials[0].proposal, genotype=strategy.plain())
    top = strategy.top
    candidates = {
        "search": [p.genotype for p in strategy.derive()],
        "random": [
            t.proposal.genotype
            for t in sorted({t.key: t for t in chance}.values(), key=lambda t: -last(t))[:top]
        ],
        "last layers": [plain.genotype],
    }
    chosen: dict[str, list[Trial]] = {}
    for name, genotypes in candidates.items():
        # Of each method's best, the best on validation rows over the first seed; then all seeds.
        asked = [replace(plain, genotype=g) for g in genotypes]
        first = together(bench, [in_full(strategy, p, 0, arguments) for p in asked])
        best = asked[int(np.argmax([last(t) for t in first]))]
        each = [in_full(strategy, best, seed, arguments) for seed in range(1, arguments.seeds + 1)]
        chosen[name] = together(bench, each)
    correct = {name: on_test(bench, of, thawed=arguments.thaw) for name, of in chosen.items()}
    differences = {
        f"search minus {other}": mean_interval(
            [a - b for a, b in zip(correct["search"], correct[other], strict=True)]
        )
        for other in ("random", "last layers")
    }
    return {
        "headline": headline(differences),
        "trials": len(trials),
        "search_cpu_s": spent,
        "random_trials": len(chance),
        "test_accuracy": {n: mean_interval(values) for n, values in correct.items()},
        "differences": differences,
        "genotypes": {name: str(of[0].proposal.genotype) for name, of in chosen.items()},
    }


def headline(differences: dict[str, dict[str, Any]]) -> str:
    """Who won: a tie is called a tie, a loss a loss."""
    told = []
    for name, d in differences.items():
        verdict = "won" if d["low"] > 0 else "lost" if d["low"] < LOST else "tied"
        told.append(f"{verdict} ({name}: {d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}])")
    return "the search " + "; ".join(told)


def main() -> None:
    """Train backbones, and measure both."""
    options = parser(__doc__, rows=10_000)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--drawn", type=int, default=20)
    options.add_argument("--full-epochs", type=int, default=20)
    options.add_argument("--full-width", type=int, default=256)
    options.add_argument("--backbone-epochs", type=int, default=10)
    options.add_argument("--backbones", help="an encoder, e.g. lenet; MFAS's own if not given")
    options.add_argument("--thaw", action="store_true", help="train the backbones in full, too")
    options.add_argument("--only", choices=["ranking", "quality"])
    options.add_argument("--epochs", type=int, help="E_train; the default schedule's if not given")
    options.add_argument("--lr", type=float, help="of the search; likewise")
    options.add_argument("--width", type=int, help="of the search; likewise")
    options.add_argument("--score-seed", type=int, default=0, help="of the ranking's scores")
    arguments = options.parse_args()
    changes: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("epochs", "lr", "width")
        if getattr(arguments, name) is not None
    }
    result: dict[str, Any] = {"benchmark": "mfas_quality", "rows": arguments.rows}
    with lab(arguments) as bench:
        assert isinstance(bench.dataset.split, Split)
        if arguments.backbones:
            changes["backbones"] = dict.fromkeys(bench.dataset.schema.names, arguments.backbones)
        strategy = begun(bench, 0, {"backbone_epochs": arguments.backbone_epochs, **changes})
        if arguments.only != "quality":
            result["ranking"] = ranking(bench, strategy, arguments)
            print(result["ranking"], flush=True)
        if arguments.only != "ranking":
            result["quality"] = quality(bench, strategy, arguments)
            print(result["quality"]["headline"], flush=True)
    report(result, arguments.out)


if __name__ == "__main__":
    main()
