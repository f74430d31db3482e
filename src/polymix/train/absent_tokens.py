"""Absent-tokens after training, where no row trained them: their features' means."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymix.data.batch import Source
from polymix.nn.model import Model, load_matching

State = dict[str, Tensor]


@torch.no_grad()
def with_absent_tokens(
    model: Model, state: State, source: Source, rows: np.ndarray, frozen: bool
) -> State:
    """The weights with the absent-tokens that no row trained set to their features' means."""
    idle = [t for tokens in model.absent.values() for t in tokens if not t.optional]  # type: ignore[attr-defined]
    if not idle:
        return state
    load_matching(model, state)  # a pretrained encoder's weights are not among them
    model.eval()
    totals: dict[str, list[Tensor]] = {}
    counts: dict[str, int] = {}
    seen = rows[:: max(1, len(rows) // 1024)]
    for begin in range(0, len(seen), 256):
        inputs: Any = source.batch(seen[begin : begin + 256]).inputs
        for name, tokens in (inputs if frozen else model.encode(inputs)).items():
            pairs = zip(model.absent[name], tokens, strict=True)  # type: ignore[call-overload]
            told = [absent.told(t.x) for absent, t in pairs]
            counts[name] = counts.get(name, 0) + len(told[0])
            sums = [x.sum(0) for x in told]
            so_far = totals.setdefault(name, [torch.zeros_like(s) for s in sums])
            totals[name] = [a + b for a, b in zip(so_far, sums, strict=True)]
    model.set_absent_tokens(
        {n: [s / max(counts[n], 1) for s in sums] for n, sums in totals.items()}
    )
    return {name: t.detach().clone() for name, t in model.state_dict().items() if name in state}
