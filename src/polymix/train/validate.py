"""One pass over validation rows."""

from __future__ import annotations

import numpy as np
import torch

from polymix.data.batch import Source
from polymix.train.learner import Learner
from polymix.train.objective import Objective

VALIDATION_BATCH = 512


@torch.no_grad()
def validate(
    learner: Learner, source: Source, rows: np.ndarray, objective: Objective
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Evaluate on rows.

    Returns:
        Predictions `(K, N, ·)` of the fused head, its mean losses `(K,)`, and each modality's
        own predictions.
    """
    learner.train(False)
    fused, unimodal = [], {}  # type: ignore[var-annotated]
    total = torch.zeros(learner.size, dtype=torch.float64)
    for start in range(0, len(rows), VALIDATION_BATCH):
        batch = source.batch(rows[start : start + VALIDATION_BATCH])
        output = learner.outputs(batch)
        fused.append(objective.predict(output.fused).cpu())
        for name, logits in output.unimodal.items():
            unimodal.setdefault(name, []).append(objective.predict(logits).cpu())
        if batch.target is not None:
            total += objective.row_losses(output.fused, batch.target).sum(-1).cpu()
    together = {name: torch.cat(parts, 1).numpy() for name, parts in unimodal.items()}
    return torch.cat(fused, 1).numpy(), (total / max(len(rows), 1)).numpy(), together
