"""Series with gaps as rows: values carried forward, whether they were measured, and how long ago.

The representation of Che et al. 2018, "Recurrent neural networks for multivariate time series with
missing values" (GRU-Forward and GRU-Simple: x, m and delta of section 2).
"""

from __future__ import annotations

import numpy as np


def carry_forward(values: np.ndarray) -> np.ndarray:
    """One series without its gaps.

    Args:
        values: `(T, C)`; NaN, or infinite, where nothing was measured.

    Returns:
        `(T, 3C)` float32: values carried forward, 0 before a channel's first; 1 where a value was
        measured and 0 elsewhere; steps since the last one, T where there was none yet, so that
        what was never measured is furthest from what just was.

    >>> carry_forward(np.array([[np.nan], [5.0], [np.nan]])).tolist()
    [[0.0, 0.0, 3.0], [5.0, 1.0, 0.0], [5.0, 0.0, 1.0]]
    """
    known = np.isfinite(values)
    steps = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(known, steps, -1), axis=0)
    filled = np.where(known, values, 0.0)
    carried = np.where(last < 0, 0.0, np.take_along_axis(filled, last.clip(0), axis=0))
    since = np.where(last < 0, len(values), steps - last)
    return np.concatenate([carried, known, since], axis=1).astype(np.float32)
