"""What a learner promises: fitted by scikit-learn or linear algebra, kept and run as tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from polymix.comparators.tabular.inner import sums_of
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.views import Form, Layout
from polymix.data.schema import Target, Task
from polymix.errors import GenotypeError
from polymix.nn.encoder import Options

SURE = 12.0
"""The logit of what no training row was, or all were."""


class Learner(nn.Module):
    """Views to sums `(B, S)`: a regression's value, or logits, one alone for a binary target.

    A subclass takes layouts and target, then its options as keywords with defaults.

    Attributes:
        name: what genotypes call it.
        VERSION: raise it when a fit or its outputs change.
        presets: options by preset.
        forms: of the views that it reads.
        one_core: whether a fit keeps one core busy, and draws from torch's stream only within
            `seeds.torch_stream`: fits to several folds are then made beside each other.
        leaves_one_out: whether `fit_left_out` says what is predicted of each row without it.
        uncounted: FLOPs of a row that are no tensor product's.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}
    forms: ClassVar[frozenset[Form]] = frozenset({"columns", "numbers", "dense", "embedding"})
    one_core: ClassVar[bool] = False
    leaves_one_out: ClassVar[bool] = False
    uncounted: int = 0

    def __init__(self, layouts: Sequence[Layout], target: Target) -> None:
        super().__init__()
        wrong = {one.form for one in layouts} - self.forms
        if "states" in wrong:
            raise GenotypeError(f"{self.name} reads no states of tokens: only 'tuned' does")
        if wrong:
            raise GenotypeError(f"{self.name} reads no token ids: describe texts by tf-idf")
        self.task, self.outputs = target.task, target.outputs
        self.sums = sums_of(target.task, target.outputs)
        self.class_weights = np.array(target.weights or (1.0,) * target.outputs)

    @property
    def regression(self) -> bool:
        """Whether a number is predicted."""
        return self.task is Task.REGRESSION

    @abstractmethod
    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Fit to training rows; whatever is chosen is chosen inside of them.

        Args:
            sample: the rows.
            y: values or classes `(N,)`, or labels `(N, S)`.
            seed: of what is drawn.
            deadline: on `time.monotonic`'s clock; none for no limit.

        Returns:
            Whether there was time for all of it; less was fitted otherwise, and can be used.
        """

    def fit_left_out(
        self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None
    ) -> tuple[Tensor, bool]:
        """`fit`, where leaving each row out has a closed form, and takes about as long.

        Args:
            sample: see `fit`.
            y: see `fit`.
            seed: see `fit`.
            deadline: see `fit`.

        Returns:
            What is predicted of each training row by a fit without it, `(N, S)`; and as `fit`.
        """
        raise TypeError(
            f"{type(self).__name__} has no closed form for {len(sample)} rows, {y.shape} targets, "
            f"seed {seed}, deadline {deadline}"
        )

    @abstractmethod
    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`, double."""

    @classmethod
    @abstractmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes on one core."""
