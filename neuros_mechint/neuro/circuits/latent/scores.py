"""How much of what was recorded a circuit reproduces."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats


def explained(recorded: Floats, predicted: Floats) -> float:
    """Return the share of the variance about the mean of each column that a prediction explains; NaN of none.

    Examples
    --------
    >>> recorded = np.array([[[0.0], [2.0]]])
    >>> explained(recorded, recorded), explained(recorded, np.ones((1, 2, 1)))
    (1.0, 0.0)
    """
    total = float(np.square(recorded - recorded.mean((0, 1))).sum())
    return 1 - float(np.square(recorded - predicted).sum()) / total if total > 0 else float("nan")
