"""MFAS's surrogate: an LSTM that guesses a fusion network's score from its layers.

    layer (m, n, …, p) → embedding 100 → LSTM 100 → last output → Linear → sigmoid

trained by MSE with Adam, all that is known at once (Pérez-Rúa et al. 2019, section 3.2). Scores
are first spread over [0.1, 0.9] by the lowest and the highest known: as they are they may lie so
close that the mean is nearly the best guess. So any metric will do, and only order matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from polymix import seeds

Row = tuple[int, ...]
"""A layer: a feature's index for each modality, and the activation's."""


class Surrogate:
    """Learns scores of sequences of layers, and guesses others'.

    Args:
        choices: how many each column of a layer has.
        seed: of the initial weights; nothing else is random.
        size: of embedding and LSTM.
        lr: Adam's.
        epochs: of an update.
    """

    def __init__(
        self,
        choices: Sequence[int],
        seed: int,
        *,
        size: int = 100,
        lr: float = 1e-3,
        epochs: int = 50,
    ) -> None:
        with seeds.torch_stream("cpu", seed, "surrogate"):
            self._net = _Net(choices, size)
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=lr)
        self._epochs = epochs

    def update(self, known: Sequence[Sequence[Row]], scores: Sequence[float]) -> float:
        """Learn from all that is known, going on from the last update; the last loss."""
        values = np.asarray(scores, np.float64)
        low, high = values.min(), values.max()
        # Over [0.1, 0.9], where the sigmoid still has a slope; 0.5 where all are alike.
        spread = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
        target = torch.from_numpy(0.1 + 0.8 * spread).float()
        rows, last = _padded(known)
        loss = torch.zeros(())
        for _ in range(self._epochs):
            self._optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.mse_loss(self._net(rows, last), target)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def predict(self, asked: Sequence[Sequence[Row]]) -> np.ndarray:
        """Guesses `(N,)` in (0, 1); higher is better."""
        found: Tensor = self._net(*_padded(asked))
        return found.double().numpy()


class _Net(nn.Module):
    def __init__(self, choices: Sequence[int], size: int) -> None:
        super().__init__()
        # A choice's embedding is the sum of its columns': a Linear on their one-hot codes.
        self.embeddings = nn.ModuleList(nn.Embedding(count, size) for count in choices)
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.out = nn.Linear(size, 1)

    def forward(self, rows: Tensor, last: Tensor) -> Tensor:
        """Rows `(N, L, columns)`, and where each ends, to `(N,)`."""
        embedded = sum(embed(rows[..., c]) for c, embed in enumerate(self.embeddings))
        outputs, _ = self.lstm(embedded)
        # (N, L, 100) to (N, 100): the output at each sequence's own last layer.
        ends = outputs[torch.arange(len(rows)), last]
        return torch.sigmoid(self.out(ends))[:, 0]


def _padded(sequences: Sequence[Sequence[Row]]) -> tuple[Tensor, Tensor]:
    """Sequences of any length as one tensor; what follows an end never reaches its output."""
    longest = max(len(s) for s in sequences)
    rows = torch.tensor([[*s, *[s[-1]] * (longest - len(s))] for s in sequences])
    return rows, torch.tensor([len(s) - 1 for s in sequences])


def temperature(step: int, steps: int, most: float, least: float) -> float:
    """From `most` at the first step to `least` at the last, by the same factor each (Fig. 5)."""
    share = step / (steps - 1) if steps > 1 else 1.0
    return float(most * (least / most) ** share)


def sample(
    guesses: np.ndarray, count: int, temperature: float, rng: np.random.Generator
) -> list[int]:
    """Draw without replacement, p ∝ exp(z / T), z the guesses in standard deviations.

    Of the guesses as they are, however hot or cold, those that lie close together would be drawn
    as often as each other; in standard deviations, the best of a hundred is drawn 1.6 times as
    often as the worst at T = 10, and hardly anything but the best at T = 0.2.
    """
    deviation = guesses.std()
    z = (guesses - guesses.mean()) / deviation if deviation > 1e-12 else np.zeros_like(guesses)
    # The largest of z / T + Gumbel noise are a draw without replacement (Gumbel-top-k).
    keys = z / temperature + rng.gumbel(size=len(guesses))
    return [int(i) for i in np.argsort(-keys, kind="stable")[:count]]
