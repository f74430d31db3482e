"""Greedy ensemble selection (Caruana et al. 2004, "Ensemble Selection from Libraries of Models").

    start with nothing; so many times: add, with replacement, the model that makes the mean best

Steps are few, because every one of them chooses on the same validation rows; and a step that does
not make the score better ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from polymix.scoring.metrics import Metric

STEPS = 8


def greedy_weights(
    metric: Metric, targets: np.ndarray, predictions: Sequence[np.ndarray], steps: int = STEPS
) -> dict[int, float]:
    """The share of each model in the mean that scores best, models without a share left out.

    Args:
        metric: what is maximised.
        targets: of the validation rows.
        predictions: each model's, `(N, K)`.
        steps: how often a model is added, at most.
    """
    chosen: list[int] = []
    total = np.zeros_like(predictions[0], np.float64)
    best = -np.inf
    for count in range(1, steps + 1):
        scores = [metric(targets, (total + p) / count) for p in predictions]
        pick = int(np.argmax(scores))
        if scores[pick] <= best:
            break
        best = scores[pick]
        chosen.append(pick)
        total += predictions[pick]
    return {i: n / len(chosen) for i, n in sorted(Counter(chosen).items())}
