"""How good the encoders are that fused training leaves behind (M2-Mixer, Table III).

Each encoder is frozen and a linear head is trained on it: an encoder alone, trained as long, says
what it could have been. The paper's point is that a single loss leaves encoders worse, and the
multi-head loss does not. Scores are of the validation rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polymix.data.dataset import Dataset
from polymix.errors import RunFolderError
from polymix.records import Fidelity, Proposal, Recipe, Role, Trial
from polymix.runs.config import RunConfig
from polymix.scoring.intervals import Referee
from polymix.scoring.metrics import metric_for
from polymix.search.callbacks import Callback
from polymix.search.clock import Clock
from polymix.search.trial_runner import LocalRunner, TrialRunner
from polymix.space.mix import MixGenotype
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
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
    folder: RunFolder,
    dataset: Dataset,
    device: torch.device | None = None,
    *,
    epochs: int = 10,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Table III for a finished run: every fused finalist's encoders, frozen.

    Args:
        folder: open for writing; trials are kept in its ledger.
        dataset: the run's.
        device: where models run; the CPU where not given.
        epochs: of each head.
        callbacks: are told of each trial.

    Returns:
        `{schema_version, metric, rows: [{label, modality, seeds, frozen: {value, ci},
        alone: {value, ci} | None, difference: {value, ci} | None}]}`; differences are
        `frozen - alone`.

    Raises:
        RunFolderError: the run has no finalist with kept weights.
    """
    config = RunConfig.of(folder)
    if folder.metrics is None:
        raise RunFolderError(f"{folder.path} has no finalists yet: resume it first")
    with Ledger.open(config.ledger or folder.ledger_path) as ledger:
        metric = metric_for(dataset.schema.target.task, config.metric)
        evaluator = Evaluator(
            dataset, metric, ledger, folder.path / "bank", device or torch.device("cpu")
        )
        trial_runner = TrialRunner(
            evaluator, LocalRunner(evaluator), ledger, Clock(ledger, None), callbacks, lambda _: 0.0
        )
        referee = Referee(metric, evaluator.val_targets)
        known = {t.key: ledger.get(t.key, t.proposal) or t for t in ledger.trials()}
        kept = {
            f["label"]: [known[t["key"]] for t in f["trials"] if t["weights"] and t["key"] in known]
            for f in folder.metrics["finalists"]
        }
        alone = {
            _modality(trials[0]): trials
            for f in folder.metrics["finalists"]
            if "single" in f["roles"] and (trials := kept[f["label"]])
        }
        rows = []
        for label, trials in kept.items():
            if not trials or len(_encoders(trials[0])) < 2:
                continue
            probes = [frozen_proposals(t, epochs=epochs) for t in trials]
            for name in probes[0]:
                frozen = trial_runner.evaluate([p[name] for p in probes], Role.SEARCH, None)
                rows.append(_row(label, name, frozen, alone.get(name), referee))
    return {"schema_version": 1, "metric": metric.name, "split": "validation", "rows": rows}


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
