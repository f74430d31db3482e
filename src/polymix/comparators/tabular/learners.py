"""The learners that genotypes name."""

from __future__ import annotations

from collections.abc import Sequence

from polymix.comparators.tabular.extra_trees import ExtraTrees
from polymix.comparators.tabular.gradient_boosting import GradientBoosting
from polymix.comparators.tabular.kernel import Kernel
from polymix.comparators.tabular.learner import Learner
from polymix.comparators.tabular.linear import Linear
from polymix.comparators.tabular.network import Network
from polymix.comparators.tabular.tuned import Tuned
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Target
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.nn.encoder import Options, resolve

LEARNERS: dict[str, type[Learner]] = {
    one.name: one for one in (GradientBoosting, ExtraTrees, Linear, Kernel, Network, Tuned)
}


def learner_options(block: Block) -> Options:
    """A learner's options.

    Raises:
        GenotypeError: no such learner or option, or a value of another type.
    """
    cls = LEARNERS.get(block.name)
    if cls is None:
        raise GenotypeError(f"no learner '{block.name}': {did_you_mean(block.name, LEARNERS)}")
    return resolve(block, cls, cls.presets, ())


def make_learner(block: Block, layouts: Sequence[Layout], target: Target) -> Learner:
    """Build a learner.

    Raises:
        GenotypeError: no such learner or option, or views that it does not read.
    """
    options = learner_options(block)
    return LEARNERS[block.name](layouts, target, **options)
