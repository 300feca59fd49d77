"""The array types that nearly all numbers of this package have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""Real numbers in double precision, of any shape."""

Complexes = npt.NDArray[np.complex128]
"""Complex numbers in double precision, of any shape."""
