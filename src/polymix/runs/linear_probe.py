"""How good the encoders are that fused training leaves behind (M2-Mixer, Table III).

Each encoder is frozen and a linear head is trained on it: an encoder alone, trained as long, says
what it could have been. The paper's point is that a single loss leaves encoders worse, and the
multi-head loss does not. Scores are of the validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polymix.data.dataset import Dataset
from polymix.datasets import Progress
from polymix.errors import UsageError
from polymix.records import Fidelity, Proposal, Recipe, Role, Trial
from polymix.runs.open_run import OpenRun
from polymix.scoring.intervals import Referee
from polymix.search.callbacks import Callback
from polymix.search.clock import Clock
from polymix.search.trial_runner import LocalRunner, TrialRunner
from polymix.space.mix import MixGenotype
from polymix.store.ledger import Ledger
from polymix.train.evaluate import Evaluator


def frozen_proposals(
    trial: Trial, *, epochs: int = 10, lr: float = 1e-2, batch_size: int = 64
) -> dict[str, Proposal]:
    """For each modality of a trained genotype, a linear head on its frozen encoder.

    Args:
        trial: of a `MixGenotype`, its weights kept.
        epochs: of the head; features come from the bank, so that they are cheap.
        lr: of the head.
        batch_size: of the head.
    """
    genotype, asked = trial.proposal.genotype, trial.proposal
    assert isinstance(genotype, MixGenotype)
    assert trial.weights is not None
    recipe = Recipe(lr=lr, batch_size=batch_size, schedule="cosine", frozen=True)
    fidelity = Fidelity(asked.fidelity.rows, epochs, asked.fidelity.seed, asked.fidelity.sampler)
    return {
        name: Proposal(
            MixGenotype.single(name, block), fidelity, recipe, (trial.weights,), stage="frozen"
        )
        for name, block in genotype.encoders
    }


def linear_probe(
    run: OpenRun,
    data: Dataset | None = None,
    *,
    epochs: int = 10,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Table III for a finished run: every fused finalist's encoders, frozen.

    Args:
        run: is held meanwhile; trials are kept in its ledger.
        data: the run's own, where they were an object.
        epochs: of each head.
        callbacks: are told of each trial.
        progress: called as `progress(done, total, what)` while rows are read.

    Returns:
        `{schema_version, metric, rows: [{label, modality, seeds, frozen: {value, ci},
        alone: {value, ci} | None, difference: {value, ci} | None}]}`; differences are
        `frozen - alone`.

    Raises:
        UsageError: there is nothing to train for.
        RunFolderError: the run has no finalist with kept weights.
    """
    if epochs < 1:
        raise UsageError(f"--epochs must be at least 1, but got {epochs}")
    with run.folder.hold():
        dataset = run.data(data, progress)
        with run.ledger(write=True) as ledger:
            evaluator = run.evaluator(dataset, ledger)
            rows = _probed(run.metrics["finalists"], evaluator, ledger, epochs, callbacks)
    return {"schema_version": 1, "metric": run.metric.name, "split": "validation", "rows": rows}


def _probed(
    finalists: Sequence[Mapping[str, Any]],
    evaluator: Evaluator,
    ledger: Ledger,
    epochs: int,
    callbacks: Sequence[Callback],
) -> list[dict[str, Any]]:
    """A row for each encoder of each fused finalist."""
    trial_runner = TrialRunner(
        evaluator, LocalRunner(evaluator), ledger, Clock(ledger, None), callbacks, lambda _: 0.0
    )
    referee = Referee(evaluator.metric, evaluator.val_targets)
    known = {t.key: ledger.get(t.key, t.proposal) or t for t in ledger.trials()}
    kept = {
        f["label"]: [known[t["key"]] for t in f["trials"] if t["weights"] and t["key"] in known]
        for f in finalists
    }
    alone = {
        _modality(trials[0]): trials
        for f in finalists
        if "single" in f["roles"] and (trials := kept[f["label"]]) and _encoders(trials[0])
    }
    rows = []
    for label, trials in kept.items():
        if not trials or len(_encoders(trials[0])) < 2:
            continue
        probes = [frozen_proposals(t, epochs=epochs) for t in trials]
        for name in probes[0]:
            frozen = trial_runner.evaluate([p[name] for p in probes], Role.SEARCH, None)
            rows.append(_row(label, name, frozen, alone.get(name), referee))
    return rows


def _encoders(trial: Trial) -> tuple[Any, ...]:
    genotype = trial.proposal.genotype
    return genotype.encoders if isinstance(genotype, MixGenotype) else ()


def _modality(trial: Trial) -> str:
    return str(_encoders(trial)[0][0])


def _row(
    label: str, name: str, frozen: list[Trial], alone: list[Trial] | None, referee: Referee
) -> dict[str, Any]:
    score = referee.score(frozen)
    row: dict[str, Any] = {
        "label": label,
        "modality": name,
        "seeds": len(frozen),
        "frozen": {"value": score.value, "ci": [score.low, score.high]},
        "alone": None,
        "difference": None,
    }
    if alone:
        own, less = referee.score(alone), referee.difference(frozen, alone)
        row["alone"] = {"value": own.value, "ci": [own.low, own.high]}
        row["difference"] = {"value": less.value, "ci": [less.low, less.high]}
    return row
