"""The learner that tunes a pretrained network's last layers; see `tuned_network` and `tuning`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from polymix import seeds
from polymix.comparators.tabular.inner import holdout
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.tuned_network import EPOCHS, TunedNetwork
from polymix.comparators.tabular.tuning import Tuning
from polymix.comparators.tabular.views import Layout
from polymix.data.schema import Target
from polymix.nn.encoder import Options

HELD = 0.1
"""Of the training rows, those that say which epoch is best."""

FILLED, RATE = 0.7, 6e10
"""Share of tokens that are no padding, and multiplications and additions in a second."""

LEAST_ROWS = 30
"""With fewer training rows none is held out."""


class Tuned(TunedNetwork):
    """Layers above token states, tuned together with a head; options are `TunedNetwork`'s."""

    VERSION: ClassVar[int] = 1

    def fit(self, sample: Sample, y: np.ndarray, seed: int, deadline: float | None) -> bool:
        """Start from the linear model, then tune for some epochs; the best one is kept."""
        held = holdout(y, self.task, seeds.stream(seed, "tuned"), HELD)
        if held.all() or len(y) < LEAST_ROWS:
            held[:] = False
        tuning = Tuning(self, sample, y, held, deadline)
        with seeds.torch_stream("cpu", seed, "tuned"):
            tuning.start(seed)
            return tuning.run()

    @classmethod
    def seconds(
        cls, rows: int, widths: Sequence[Layout], target: Target, options: Options
    ) -> float:
        """About how long a fit takes: of each epoch three passes' work, and a pass before."""
        del target  # the layers are nearly all of it
        epochs = int(dict(options).get("epochs", EPOCHS))  # type: ignore[arg-type]
        work = sum(FILLED * one.length * one.above.work for one in widths if one.above is not None)
        dense = sum(one.width for one in widths if one.above is None)
        return 0.5 + rows * ((3 * epochs + 1) * work / RATE + dense * 1e-6)
