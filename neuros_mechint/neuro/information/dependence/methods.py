"""What conditional mutual information and transfer entropy share: estimates, their errors, and those of draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.information.estimators.binned import counts_conditional, counts_conditional_of_draws
from neuros_mechint.neuro.information.estimators.gaussian import (
    SAMPLES_PER_VARIABLE,
    gaussian_information,
    gaussian_information_of_draws,
)
from neuros_mechint.neuro.information.estimators.nearest import frenzel_pompe, mesner_shalizi
from neuros_mechint.neuro.information.estimators.rearranged import frenzel_pompe_of_draws
from neuros_mechint.neuro.information.estimators.repeats import check_neighbors, refuse_repeats
from neuros_mechint.neuro.information.split_error import split_error
from neuros_mechint.neuro.information.variables import Whole

CITATIONS = {
    "ksg": ("frenzel2007", "kraskov2004"),
    "gaussian": ("misra2005",),
    "binned": ("panzeri2007",),
    "mixed": ("mesner2021",),
}
METHODS = tuple(CITATIONS)
_NEIGHBORS = 3
_MANY_FEATURES = 3
_FEWEST_IN_A_STRETCH = 15
_ALL_BUT, _NEAR_COPY = 1e-10, 0.98
# Of two series of which one is the other plus noise, 500 samples of three neighbours are too low by .02 nats where 99%
# of the variance is shared, by .06 at 99.9% and by .08 from 99.99% on; at 92% they are not.
FOR_CATEGORIES = 'method="mixed" or "binned"'
_HALF_PER_NEIGHBOR = 20
# The variance of three neighbours times the number of samples is .08, .13, .19, .29, .32 and .42 for 10, 20, 40, 100,
# 300 and 1,000 samples of a normal chain.


class Question(NamedTuple):
    """Three variables with one row per sample, and how to ask what x and y share given z.

    Parameters
    ----------
    x, y, z : numpy.ndarray
        ``(n_samples, n_features)`` numbers, each column of mean 0 and variance 1; of ``binned`` ``(n_samples,)`` codes.
    method : {"ksg", "gaussian", "binned", "mixed"}
    n_neighbors : int
        Of ``ksg`` and ``mixed``.
    names : (str, str, str)
        What to call the variables in errors.
    """

    x: Any
    y: Any
    z: Any
    method: str
    n_neighbors: int
    names: tuple[str, str, str] = ("x", "y", "z")

    @property
    def variables(self) -> tuple[Any, Any, Any]:
        """The three of them."""
        return self.x, self.y, self.z

    @property
    def estimator(self) -> Callable[..., float]:
        """What takes three variables and returns nats."""
        return {
            "ksg": partial(frenzel_pompe, n_neighbors=self.n_neighbors),
            "mixed": partial(mesner_shalizi, n_neighbors=self.n_neighbors),
            "gaussian": lambda x, y, z: gaussian_information(x, y, z).value,
            "binned": lambda x, y, z: counts_conditional(x, y, z).value,
        }[self.method]

    def of_draws(self, draws: Whole, progress: bool) -> Floats:
        """Return the estimate of each rearrangement of x, ``(n_draws, n_samples)``."""
        if self.method == "ksg":
            return frenzel_pompe_of_draws(*self.variables, self.n_neighbors, draws, progress)
        if self.method == "gaussian":
            return gaussian_information_of_draws(*self.variables, draws)
        if self.method == "binned":
            return counts_conditional_of_draws(*self.variables, draws)
        each = progress_bar(draws, description="rearranged samples", enabled=progress)
        return np.array([self.estimator(self.x[draw], self.y, self.z) for draw in each])

    def sampling_error(self, random: np.random.Generator | None) -> tuple[float, float]:
        """Return the standard error and its degrees of freedom; without a generator for samples in time."""
        if random is not None and self.method in ("gaussian", "binned"):
            closed = {"gaussian": gaussian_information, "binned": counts_conditional}[self.method]
            return closed(*self.variables).error, np.inf
        fewest = 3 * self.n_neighbors if random is not None else self._fewest_in_a_stretch
        return split_error(self.estimator, self.variables, random, fewest, self._half)

    def error_above(self, other: Question) -> tuple[float, float]:
        """Return the standard error of the difference from another question about the same times, and its degrees."""

        def difference(*both: Any) -> float:
            return self.estimator(*both[:3]) - self.estimator(*both[3:])

        return split_error(difference, (*self.variables, *other.variables), None, self._fewest_in_a_stretch, self._half)

    @property
    def _fewest_in_a_stretch(self) -> int:
        n_columns = sum(variable.shape[1] if variable.ndim > 1 else 1 for variable in self.variables)
        return max(_FEWEST_IN_A_STRETCH, 3 * n_columns)

    @property
    def _half(self) -> float:
        return _HALF_PER_NEIGHBOR * self.n_neighbors if self.method in ("ksg", "mixed") else 0.0

    def cautions(self) -> list[str]:
        """Return where this estimator is known to fail, or raise where it has no answer."""
        if self.method in ("ksg", "mixed"):
            check_neighbors(self.n_neighbors, len(self.x))
        share = self._refuse_known()
        if self.method == "ksg":
            named = list(zip(self.names, self.variables, strict=True))
            joint = np.hstack(self.variables)
            repeats = refuse_repeats(joint, self.n_neighbors, named, FOR_CATEGORIES)
            return [*repeats, *self._of_features(), *self._of_copies(share)]
        if self.method == "mixed":
            return [*self._of_features(), *self._of_copies(share)]
        if self.method == "gaussian":
            return self._of_few_samples()
        return self._of_cells()

    def _refuse_known(self) -> float:
        """Return the largest share of a column of x that follows from z, or raise where all of x does."""
        if self.method != "binned" and 2 * self.z.shape[1] >= len(self.z):
            return 0.0  # so many columns would explain anything
        if self.method == "binned":
            share = least = float(len(np.unique(self.z)) == len(np.unique([self.x, self.z], axis=1).T))
        else:
            left = self.x - self.z @ np.linalg.lstsq(self.z, self.x, rcond=None)[0]
            shares = 1 - (left**2).mean(0)  # all columns have mean 0 and variance 1
            share, least = float(shares.max()), float(shares.min())
        if least > 1 - _ALL_BUT:
            raise InputError(
                f"{self.names[0]} follows from {self.names[2]}: with that known it tells nothing, whatever the data",
                expected=f"{self.names[0]} of its own",
                got="a copy, or a function, of what is known already",
                fix="was one series passed twice? A condition must not hold the source",
            )
        return share

    def _of_copies(self, share: float) -> list[str]:
        if share < _NEAR_COPY:
            return []
        return [
            f"{self.names[0]} hardly differs from {self.names[2]} ({_percent_below_all(share)} of its variance follows "
            "from that): nearest neighbours are too low, below 0 where nothing is told; "
            'method="gaussian" holds for correlations'
        ]

    def _of_features(self) -> list[str]:
        columns = np.hstack(self.variables).T
        total = sum(len(np.unique(column)) > 2 for column in columns)  # two values fill no space
        if total <= _MANY_FEATURES:
            return []
        return [
            f"{total} features in all are many for nearest neighbours: conditional information shrinks towards 0, of "
            "3,000 samples and strong dependence (0.83 nats) by 3% at 4 features, by 15% at 5, a quarter at 6, half at "
            '8; method="gaussian" holds for correlations'
        ]

    def _of_few_samples(self) -> list[str]:
        shrinkage = gaussian_information(*self.variables).shrinkage
        if not shrinkage:
            return []
        return [
            f"{len(self.x)} samples are fewer than {SAMPLES_PER_VARIABLE} for each variable: correlations were shrunk "
            f"by {100 * shrinkage:.0f}%, and the information is far too low"
        ]

    def _of_cells(self) -> list[str]:
        found = counts_conditional(*self.variables)
        if found.bias <= 0.5 * max(found.value, 0.02):
            return []
        return [
            f"{found.bias:.3g} nats of bias were taken off an estimate of {found.value + found.bias:.3g}: "
            f"{len(self.x)} samples are few for so many combinations of values"
        ]


def _percent_below_all(share: float) -> str:
    """Return a share in percent, with as many digits as it takes not to round to all.

    Examples
    --------
    >>> _percent_below_all(0.985), _percent_below_all(0.99996)
    ('98.5%', '99.996%')
    """
    digits = max(1, int(np.ceil(-np.log10(max(1 - share, _ALL_BUT)))) - 2)
    return f"{100 * share:.{digits}f}%"


def check_method(method: str, n_neighbors: int | None, n_bins: int | None) -> int:
    """Return the number of neighbours, or raise `OptionError` for what a method does not have.

    Examples
    --------
    >>> check_method("ksg", None, None)
    3
    """
    check_option("method", method, METHODS)
    uses = {"n_neighbors": (n_neighbors, ("ksg", "mixed")), "n_bins": (n_bins, ("binned",))}
    for name, (value, methods) in uses.items():
        if value is not None and method not in methods:
            raise OptionError(
                f"{method!r} has no {name}", expected=f"method {' or '.join(methods)}", got=f"{name}={value!r}"
            )
    return whole("n_neighbors", _NEIGHBORS if n_neighbors is None else n_neighbors)


def combined(columns: list[Whole], n_samples: int) -> Whole:
    """Return one code for each combination of values, from 0 without gaps.

    Raises
    ------
    InputError
        More combinations than half the samples.

    Examples
    --------
    >>> combined([np.array([0, 1, 0, 1] * 3), np.array([0, 0, 1, 1] * 3)], 12).tolist()[:4]
    [0, 2, 1, 3]
    """
    codes = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].ravel()
    n_values = int(codes.max()) + 1
    if n_values > n_samples / 2:
        raise InputError(
            "too many combinations of values for a table of counts",
            expected=f"at most half of the {n_samples} samples",
            got=f"{n_values} combinations of {len(columns)} variables",
            fix="take fewer bins, fewer variables or a shorter history",
        )
    return codes.astype(np.intp)
