"""Kernel ridge regression with one radial basis function over all views (Saunders et al. 1998).

K(x, z) = exp(-g |x - z|² / m), m the mean squared length of training rows, so that g is of order
one whatever the views are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from polymix import seeds
from polymix.comparators.tabular.inner import fit_scale, left, signs
from polymix.comparators.tabular.learner import Learner
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.vectors import Vectors
from polymix.comparators.tabular.views import Form, Layout
from polymix.data.schema import Target
from polymix.errors import GenotypeError
from polymix.nn.encoder import Options

GAMMAS = (0.3, 1.0)
ALPHAS = (0.02, 0.1, 0.3, 1.0)
CHOSEN_ON = 1000
"""Rows that width and penalty are chosen on, at most."""

CUBE, SQUARE = 6e-11, 2.5e-8
"""Seconds that a solve takes for N³, and distances for N² and a hundred columns."""


class Kernel(Learner):
    """Kernel ridge regression; classes are 1 and -1, their decisions scaled to logits.

    Args:
        layouts: of the views.
        target: what is predicted.
        rows: support rows that are kept, at most.
        vocabulary: tokens of all texts together that are read, the most frequent.
        numbers: a number's weight beside words.
    """

    name: ClassVar[str] = "kernel"
    one_core: ClassVar[bool] = True
    leaves_one_out: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1
    forms: ClassVar[frozenset[Form]] = frozenset(
        {"ids", "columns", "numbers", "dense", "embedding"}
    )

    support: Tensor
    dual: Tensor
    centre: Tensor
    width: Tensor

    def __init__(
        self,
        layouts: Sequence[Layout],
        target: Target,
        *,
        rows: int = 6000,
        vocabulary: int = 4096,
        numbers: float = 0.4,
    ) -> None:
        super().__init__(layouts, target)
        if not (1 <= rows <= 20_000 and vocabulary >= 1):
            raise GenotypeError(
                f"kernel: 1 <= rows <= 20000 and vocabulary >= 1 must hold, but got rows={rows}, "
                f"vocabulary={vocabulary}"
            )
        self.rows = rows
        self.vectors = Vectors(layouts, vocabulary, 2, numbers)
        size = sum(self.vectors.slot_counts) + self.vectors.dense_width
        self.register_buffer("support", torch.zeros((rows, size), dtype=torch.float32))
        self.register_buffer("dual", torch.zeros((rows, self.sums), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(self.sums, dtype=torch.float64))
        self.register_buffer("width", torch.ones((), dtype=torch.float64))  # g / m

    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`."""
        # In the precision that the support is kept in, rows that are in it are at no distance.
        x = self.vectors(sample).float().double()
        support = self.support.double()
        apart = (x * x).sum(1, keepdim=True) + (support * support).sum(1) - 2 * x @ support.T
        return torch.exp(-self.width * apart.clamp(min=0)) @ self.dual + self.centre

    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Choose width and penalty by leave-one-out on some rows, then solve for all."""
        return self._fit(sample, y, seed, deadline, crossing=False)[1]

    def fit_left_out(
        self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None
    ) -> tuple[Tensor, bool]:
        """See `Learner.fit_left_out`."""
        found, whole = self._fit(sample, y, seed, deadline, crossing=True)
        assert found is not None
        return found, whole

    def _fit(
        self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None, *, crossing: bool
    ) -> tuple[Tensor | None, bool]:
        """`fit`, and where rows are to be crossed, what is said of each without it `(N, S)`."""
        every = sample
        rng = seeds.stream(seed, "kernel")
        targets = y[:, None] if self.regression else signs(y, self.task, self.outputs)
        most = wanted_rows = min(len(y), self.rows)
        if deadline is not None:  # as many rows as there is time for
            most = min(most, max(50, int((max(left(deadline), 0.0) / (CUBE / 2)) ** (1 / 3))))
        kept = np.sort(rng.permutation(len(y))[:most])
        sample, targets, y = sample.take(torch.from_numpy(kept)), targets[kept], y[kept]
        self.vectors.fit(sample)
        x = self.vectors.matrix(sample)
        x = (sparse.csr_matrix(x) if sparse.issparse(x) else x).astype(np.float32)
        apart, mean_length = distances(x, sum(self.vectors.slot_counts))
        some = np.sort(rng.permutation(most)[:CHOSEN_ON])
        inner, wanted = apart[np.ix_(some, some)], targets[some]
        best, left_out = (np.inf, GAMMAS[0], ALPHAS[-1]), wanted
        for gamma in GAMMAS:
            kernel = np.exp(-gamma / mean_length * inner)
            for alpha in ALPHAS:
                _, _, crossed = solve(kernel, wanted, alpha)
                loss = float(((crossed - wanted) ** 2).mean())
                if loss < best[0]:
                    best, left_out = (loss, gamma, alpha), crossed
        _, gamma, alpha = best
        np.exp(-gamma / mean_length * apart, out=apart)
        scale, shifts = 1.0, np.zeros(self.sums)
        if not self.regression:
            scale, shifts = fit_scale(left_out, y[some], self.task, self.class_weights)
        left_of_all: np.ndarray | None = None
        if crossing:
            dual, centre, left_of_all = solve(apart, targets, alpha)
        else:
            dual, centre = dual_of(apart, targets, alpha)
        dual, centre = dual * scale, centre * scale + shifts
        self.support.zero_()
        self.dual.zero_()
        rows: Any = x
        rows = rows.toarray() if sparse.issparse(rows) else rows
        self.support[:most] = torch.from_numpy(rows)
        self.dual[:most] = torch.from_numpy(dual)
        self.centre.copy_(torch.from_numpy(centre))
        self.width.fill_(gamma / mean_length)
        whole = most == wanted_rows
        if left_of_all is None:
            return None, whole
        if most == len(every):
            return torch.from_numpy(left_of_all * scale + shifts), whole
        found = self(every)  # rows that support nothing were not seen
        found[torch.from_numpy(kept)] = torch.from_numpy(left_of_all * scale + shifts)
        return found, whole

    @classmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes: the solves' cubes, and distances."""
        del target  # all outputs are solved for at once
        most = min(rows, int(dict(options).get("rows", 6000)))  # type: ignore[arg-type]
        inner = min(most, CHOSEN_ON)
        solves = len(GAMMAS) * len(ALPHAS)
        texts = sum(one.width for one in widths if one.form == "ids")
        return 0.05 + CUBE * (most**3 + solves * inner**3) + SQUARE * most**2 + most * texts * 2e-6


def distances(x: np.ndarray | sparse.csr_matrix, words: int = 0) -> tuple[np.ndarray, float]:
    """Squared distances of rows, `(N, N)` double, and their mean squared length.

    Args:
        x: rows `(N, V + D)`.
        words: V; those columns are nearly empty, the others full, and each product is made as
            suits it.
    """
    if sparse.issparse(x):
        mixed: Any = x
        dense = torch.from_numpy(mixed[:, words:].toarray().astype(np.float64))
        few = mixed[:, :words].astype(np.float64)
        products = (few @ few.T).toarray() + (dense @ dense.T).numpy()
    else:
        dense = torch.from_numpy(x.astype(np.float64))
        products = (dense @ dense.T).numpy()
    lengths = products.diagonal().copy()
    products *= -2
    products += lengths[:, None]
    products += lengths
    np.maximum(products, 0, out=products)
    return products, float(lengths.mean()) or 1.0


def _factored(
    kernel: np.ndarray, targets: np.ndarray, alpha: float
) -> tuple[np.ndarray, torch.Tensor]:
    """(K + αI)⁻¹ of the targets and of ones, side by side `(N, S + 1)`, and the Cholesky factor."""
    moved = torch.from_numpy(kernel).clone()
    moved.diagonal().add_(alpha)
    factor = torch.linalg.cholesky(moved)
    sides = np.concatenate([targets, np.ones((len(targets), 1))], 1)
    return torch.cholesky_solve(torch.from_numpy(sides), factor).numpy(), factor


def dual_of(kernel: np.ndarray, targets: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Dual coefficients `(N, S)` and centres `(S,)`; see `solve`, which costs an inverse more."""
    centre = targets.mean(0)
    solved, _ = _factored(kernel, targets, alpha)
    return solved[:, :-1] - solved[:, -1:] * centre, centre


def solve(
    kernel: np.ndarray, targets: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dual coefficients `(N, S)`, centres `(S,)`, and each row's prediction without it `(N, S)`.

    Leaving row i out moves its residual to c_i / (K + αI)⁻¹_ii (Rifkin and Lippert 2007, Eq. 12).
    The centre without a row is its mean over the others, so that a row says nothing of itself.
    """
    centre = targets.mean(0)
    solved, factor = _factored(kernel, targets, alpha)
    ones = solved[:, -1:]
    diagonal = torch.cholesky_inverse(factor).diagonal().numpy()[:, None]
    dual = solved[:, :-1] - ones * centre
    # Centred on the others' mean, m_i = (N m - y_i) / (N - 1).
    count = len(targets)
    others = (count * centre - targets) / max(count - 1, 1)
    crossed = targets - (solved[:, :-1] - ones * others) / diagonal
    return dual, centre, crossed
