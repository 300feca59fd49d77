"""One number in nats with its error and its interval: what results of information have in common."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.result import Result


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
