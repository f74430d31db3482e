"""Who stands beside a strategy's own finalists, always."""

from __future__ import annotations

from polymix.comparators.best_of_random import BestOfRandom
from polymix.comparators.late_fusion import LateFusion
from polymix.comparators.single_modalities import SingleModalities
from polymix.comparators.tabular.alone import SingleModalityLearners
from polymix.comparators.tabular.boosting import GradientBoosting
from polymix.search.finalists import Comparator

STANDARD: tuple[Comparator, ...] = (
    SingleModalities(),
    SingleModalityLearners(),
    LateFusion(),
    BestOfRandom(),
    GradientBoosting(),
)
