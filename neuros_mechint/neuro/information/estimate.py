"""One number in nats with its error and its interval: what results of information have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuros_mechint.core.errors import OptionError, whole
from neuros_mechint.core.result import Result

FEWEST_DRAWS = 19


class InformationEstimate(Result):
    """A result whose main variable is one number in nats, beside its ``error``, ``low`` and ``high``."""

    @property
    def value(self) -> float:
        """The estimate in nats; by chance it may lie below 0, also where the truth cannot."""
        return float(self.main)

    @property
    def bits(self) -> float:
        """The estimate in bits."""
        return self.value / float(np.log(2))

    @property
    def error(self) -> float:
        """Its standard error in nats, which holds no bias; of ``nsb`` the standard deviation of the posterior."""
        return float(self.data["error"])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its interval in nats."""
        return float(self.data["low"]), float(self.data["high"])


def n_draws(name: str, value: Any) -> int:
    """Return how often to draw what chance would give: at least 19 times, or 0 for no test.

    Raises
    ------
    OptionError
        Anything else: with fewer no p reaches .05.

    Examples
    --------
    >>> n_draws("n_permutations", 0), n_draws("n_permutations", 19)
    (0, 19)
    """
    found = whole(name, value, 0)
    if 0 < found < FEWEST_DRAWS:
        raise OptionError(
            f"{name} is out of range",
            expected=f"at least {FEWEST_DRAWS} (with fewer no p reaches .05), or 0 for no test",
            got=found,
        )
    return found
