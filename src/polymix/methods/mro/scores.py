"""Scores of masks from one pass of the full network, and what is chosen by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polymix.methods.mro.model import MROModel
from polymix.nn.tokens import mean_there
from polymix.train.supernet import RowLoader, SupernetTrainer

CHUNK = 1 << 22
"""Logits computed at a time."""


@dataclass(frozen=True)
class MaskScores:
    """Masks and how they did on the validation rows, with shared weights.

    Attributes:
        masks: `(M, P)` uint8.
        scores: of the run's metric, `(M,)`, higher is better.
        losses: mean validation losses `(M,)`.
        flops: of a row's forward pass, `(M,)`.
    """

    masks: np.ndarray
    scores: np.ndarray
    losses: np.ndarray
    flops: np.ndarray

    def order(self, flops_weight: float = 0.0) -> np.ndarray:
        """Places of the masks, the best first, by score - λ·(share of the dearest's FLOPs).

        Of equal ones, the cheaper comes first, then the one with the lower loss.
        """
        # lexsort's last key counts first: by value, then FLOPs, then loss.
        value = self.scores - flops_weight * self.flops / self.flops.max()
        return np.lexsort((self.losses, self.flops, -value))

    def front(self) -> np.ndarray:
        """Places of the masks that none beats in both score and FLOPs, the cheapest first."""
        found, best = [], -np.inf
        for place in np.lexsort((-self.scores, self.flops)):
            if self.scores[place] > best:
                found.append(int(place))
                best = self.scores[place]
        return np.array(found, np.int64)

    def among(self, masks: np.ndarray) -> MaskScores:
        """Those of some masks."""
        wanted = {tuple(mask) for mask in masks.tolist()}
        kept = np.array([tuple(mask) in wanted for mask in self.masks.tolist()], bool)
        return MaskScores(self.masks[kept], self.scores[kept], self.losses[kept], self.flops[kept])

    def regret(self, masks: np.ndarray) -> tuple[float, int]:
        """The score lost by knowing some masks alone, and the best one's rank among all masks."""
        best = self.among(masks).scores.max()
        return float(self.scores.max() - best), 1 + int((self.scores > best).sum())


@dataclass(frozen=True)
class Pass:
    """One pass of the full network over rows.

    Attributes:
        logits: of each path by itself, `(P, N, K)`, the head's bias left out.
        targets: of the rows.
        similarity: cosine of the asking and the asked modality's pooled tokens, `(P,)`.
        attention: variance of the paths' attention weights, `(P,)`.
    """

    logits: Tensor
    targets: Tensor
    similarity: Tensor
    attention: Tensor


@torch.no_grad()
def full_pass(model: MROModel, feed: RowLoader) -> Pass:
    """Run every path over a feed's rows, in order."""
    model.eval()
    count = len(model.taken)
    similarity, attention = torch.zeros(count), torch.zeros(count)
    logits, targets = [], []

    def watch(place: int, weights: Tensor, there: Tensor | None) -> None:
        attention[place] += float(attention_variance(weights, there).sum())

    for batch in feed.ordered():
        features = model.encode(batch.inputs)  # type: ignore[arg-type]
        tokens = model.asked(features, batch.present)
        each = model.routes(tokens, watch=watch)
        logits.append(torch.nn.functional.linear(each, model.head.weight).cpu())
        assert batch.target is not None
        targets.append(batch.target.cpu())
        pooled = {n: mean_there(asked.x, asked.there) for n, asked in tokens.items()}
        for place, (i, j) in enumerate(model.taken):
            similarity[place] += float(torch.cosine_similarity(pooled[i], pooled[j]).sum())
    rows = max(len(feed), 1)
    return Pass(torch.cat(logits, 1), torch.cat(targets), similarity / rows, attention / rows)


def score_masks(
    model: MROModel, seen: Pass, masks: np.ndarray, flops: Sequence[int], trainer: SupernetTrainer
) -> MaskScores:
    """Score masks `(M, P)` from one pass: each mask's logits are means of its paths'."""
    bias = model.head.bias.detach().cpu()
    shares = torch.from_numpy(masks).to(seen.logits.dtype)
    shares = shares / shares.sum(1, keepdim=True)
    targets = seen.targets.numpy()
    scores: list[float] = []
    losses: list[float] = []
    # In pieces: all masks of four modalities at once are 4,095 times the rows' logits.
    step = max(1, CHUNK // max(1, seen.logits[0].numel()))
    for start in range(0, len(masks), step):
        logits = torch.tensordot(shares[start : start + step], seen.logits, 1) + bias
        repeated = torch.cat([seen.targets] * len(logits))
        # Masks one after another, `(step · N, K)`, each over the same targets.
        each = trainer.objective.row_losses(logits.flatten(0, 1), repeated)
        losses += each.reshape(len(logits), -1).mean(1).tolist()
        predictions = trainer.objective.predict(logits).numpy()
        scores += [trainer.metric(targets, predicted) for predicted in predictions]
    return MaskScores(masks, np.array(scores), np.array(losses), np.array(flops, np.int64))


def attention_variance(weights: Tensor, there: Tensor | None) -> Tensor:
    """Variance of attention weights `(B, H, T, S)` over the tokens asked, a row: `(B,)`."""
    if there is None:
        there = weights.new_ones((len(weights), weights.shape[-1]), dtype=torch.bool)
    counted = there.to(weights.dtype)[:, None, None, :]
    # Weights sum to one over the tokens that are there, so that their mean is 1 / count.
    count = counted.sum(-1, keepdim=True).clamp(min=1)
    away = ((weights - 1 / count) * counted).square().sum(-1) / count[..., 0]
    return away.mean((1, 2))
