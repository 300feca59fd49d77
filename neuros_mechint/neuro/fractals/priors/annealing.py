"""Weights of losses that change over training, as functions of the step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from neuros_mechint.core.errors import OptionError, check_option, whole

_SHAPES = ("linear", "cosine", "step")


@dataclass(frozen=True)
class AnnealedWeight:
    r"""A weight that goes from one value to another over so many steps, and stays there.

    With :math:`p = \min(t / n, 1)` it is :math:`w_0 + (w_1 - w_0)\,g(p)`, where :math:`g` is :math:`p` (linear),
    :math:`(1 - \cos \pi p) / 2` (cosine: slow at both ends), or 0 before the last step and 1 from then on (step).

    Parameters
    ----------
    start, end : float
        At step 0, and from step ``n_steps`` on; not negative.
    n_steps : int
        Steps of training in between.
    shape : {"linear", "cosine", "step"}

    Raises
    ------
    OptionError
        Weights that are negative or not finite, no steps, or an unknown shape.

    Examples
    --------
    >>> weight = AnnealedWeight(0.0, 1.0, n_steps=100, shape="cosine")
    >>> [round(weight(step), 2) for step in (0, 25, 50, 100, 1000)]
    [0.0, 0.15, 0.5, 1.0, 1.0]
    """

    start: float
    end: float
    n_steps: int
    shape: Literal["linear", "cosine", "step"] = "linear"

    def __post_init__(self) -> None:
        """Check what was given."""
        check_option("shape", self.shape, _SHAPES)
        object.__setattr__(self, "n_steps", whole("n_steps", self.n_steps))
        for name in ("start", "end"):
            object.__setattr__(self, name, checked_weight(name, getattr(self, name)))

    def __call__(self, step: int) -> float:
        """Return the weight at a step of training, counted from 0.

        Parameters
        ----------
        step : int

        Returns
        -------
        float

        Raises
        ------
        OptionError
            A step that is negative or no whole number.
        """
        passed = min(whole("step", step, 0) / self.n_steps, 1.0)
        share = {"linear": passed, "cosine": (1 - math.cos(math.pi * passed)) / 2, "step": float(passed == 1)}
        # no rounding at the end, which may be an exact 0
        return self.end if passed == 1 else self.start + (self.end - self.start) * share[self.shape]


def checked_weight(name: str, value: object) -> float:
    """Return a weight as a float, or say what is wrong with it.

    Raises
    ------
    OptionError
        A number that is negative or not finite, or no number.

    Examples
    --------
    >>> checked_weight("weight", 1)
    1.0
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise OptionError(f"{name} is no weight", expected="a finite number of at least 0", got=repr(value))
