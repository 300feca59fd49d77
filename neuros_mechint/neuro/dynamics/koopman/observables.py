"""What of a state is taken one step on: the state itself, a stretch of its past, or functions of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.dynamics.embedding.delays import delay_vectors

Dictionary = Callable[[Floats], Floats]
DICTIONARIES = ("polynomial", "rbf")
_MOST_FEATURES = 5000
_MOST_STATES_CLUSTERED = 10_000


class Observables(NamedTuple):
    """Functions of the states that are to evolve linearly.

    Parameters
    ----------
    delays : int
        How many times, the present one included, each observation spans.
    dictionary : callable or None
        From ``(n, n_units * delays)`` to ``(n, n_features)``.
    """

    delays: int = 1
    dictionary: Dictionary | None = None

    def __call__(self, trial: Floats) -> Floats:
        """Return the observations ``(n_times - delays + 1, n_features)`` of one trial ``(n_times, n_units)``.

        Examples
        --------
        >>> Observables(delays=2)(np.array([[1.0], [2.0], [3.0]])).tolist()
        [[1.0, 2.0], [2.0, 3.0]]
        """
        past = delay_vectors(trial, self.delays)
        return past if self.dictionary is None else self.dictionary(past)

    def pairs(self, trials: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
        """Return observations, those one step later, and the states of the former, never across trials.

        Examples
        --------
        >>> before, after, states = Observables().pairs([np.arange(3.0)[:, None], np.arange(10.0, 12.0)[:, None]])
        >>> before.ravel().tolist(), after.ravel().tolist()
        ([0.0, 1.0, 10.0], [1.0, 2.0, 11.0])
        """
        observed = [self(trial) for trial in trials]
        before = np.concatenate([one[:-1] for one in observed])
        after = np.concatenate([one[1:] for one in observed])
        return before, after, np.concatenate([trial[self.delays - 1 : -1] for trial in trials])


def make_dictionary(dictionary: Any, states: Floats, degree: int, n_centers: int, seed: SeedLike) -> Dictionary:
    """Return the dictionary that an option names, made for these states.

    Parameters
    ----------
    dictionary : {"polynomial", "rbf"} or callable
    states : numpy.ndarray of shape (n, n_variables)
    degree : int
        Of polynomials.
    n_centers : int
        Of radial basis functions.
    seed : int or numpy.random.Generator
        For the centres.

    Raises
    ------
    OptionError
        Neither a name nor a function.
    InputError
        A function that fits no dictionary, or too many functions.

    Examples
    --------
    >>> make_dictionary("polynomial", np.eye(2), degree=2, n_centers=1, seed=0)(np.ones((3, 2))).shape
    (3, 6)
    """
    if callable(dictionary):
        return _CustomDictionary(dictionary, states)
    check_option("dictionary", dictionary, DICTIONARIES)
    if dictionary == "polynomial":
        return PolynomialDictionary(states, degree)
    return RadialDictionary(states, n_centers, seed)


class _Standardised:
    """States in units of their own spread: neither the units nor the origin of the data are to matter."""

    def __init__(self, states: Floats) -> None:
        self._mean, spread = states.mean(0), states.std(0)
        self._spread = np.where(spread > 0, spread, 1.0)

    def _standard(self, states: Floats) -> Floats:
        return (states - self._mean) / self._spread


class PolynomialDictionary(_Standardised):
    """All products of at most ``degree`` variables, 1 included, of standardised states.

    Standardising changes none of their linear combinations, but keeps them from being alike.

    Parameters
    ----------
    states : numpy.ndarray of shape (n, n_variables)
        Whose mean and spread are taken.
    degree : int

    Raises
    ------
    InputError
        More than 5,000 products.

    Examples
    --------
    >>> PolynomialDictionary(np.array([[-1.0], [1.0]]), degree=3)(np.array([[2.0]])).tolist()
    [[1.0, 2.0, 4.0, 8.0]]
    """

    def __init__(self, states: Floats, degree: int) -> None:
        from sklearn.preprocessing import PolynomialFeatures

        super().__init__(states)
        self._products = PolynomialFeatures(whole("degree", degree)).fit(states[:1])
        n_features = int(self._products.n_output_features_)
        if n_features > _MOST_FEATURES:
            raise InputError(
                "the dictionary is too large",
                expected=f"at most {_MOST_FEATURES} products",
                got=f"{n_features} of {states.shape[1]} variables to degree {degree}",
                fix="take a smaller degree, fewer delays or units, or principal components of the units",
            )

    def __call__(self, states: Floats) -> Floats:
        """Return the products ``(n, n_features)``."""
        return np.asarray(self._products.transform(self._standard(states)))


class RadialDictionary(_Standardised):
    r"""Thin-plate splines :math:`r^2 \log r` around centres, 1 and the states, which are standardised.

    Parameters
    ----------
    states : numpy.ndarray of shape (n, n_variables)
        The centres are the means of clusters of these (k-means; of 10,000 drawn ones where there are more).
    n_centers : int
    seed : int or numpy.random.Generator

    Raises
    ------
    InputError
        More centres than there are different states.

    References
    ----------
    Williams, Kevrekidis and Rowley 2015, A data-driven approximation of the Koopman operator: extending dynamic mode
    decomposition, doi:10.1007/s00332-015-9258-5

    Examples
    --------
    >>> RadialDictionary(np.arange(10.0)[:, None], n_centers=4, seed=0)(np.zeros((2, 1))).shape
    (2, 6)
    """

    def __init__(self, states: Floats, n_centers: int, seed: SeedLike) -> None:
        from sklearn.cluster import KMeans

        super().__init__(states)
        random = generator(seed)
        standard = self._standard(states)
        if len(standard) > _MOST_STATES_CLUSTERED:
            standard = standard[random.choice(len(standard), _MOST_STATES_CLUSTERED, replace=False)]
        n_different = len(np.unique(standard, axis=0))
        if whole("n_centers", n_centers) > n_different:
            raise InputError("more centres than states", expected=f"n_centers of at most {n_different}", got=n_centers)
        clusters = KMeans(n_centers, n_init="auto", random_state=int(random.integers(2**31))).fit(standard)
        self._centers = np.asarray(clusters.cluster_centers_)

    def __call__(self, states: Floats) -> Floats:
        """Return the splines ``(n, 1 + n_variables + n_centers)``."""
        from scipy.spatial.distance import cdist
        from scipy.special import xlogy

        standard = self._standard(states)
        squares = cdist(standard, self._centers, "sqeuclidean")
        return np.hstack([np.ones((len(states), 1)), standard, xlogy(squares, squares) / 2])


class _CustomDictionary:
    """A function of the caller, whose answers are checked."""

    def __init__(self, function: Callable[[Floats], Any], states: Floats) -> None:
        self._function = function
        few = states[: min(3, len(states))]
        one, all_at_once = self(few[:1]), self(few)
        if one.shape[1] != all_at_once.shape[1] or not np.allclose(one, all_at_once[:1], rtol=1e-9, atol=1e-12):
            raise InputError(
                "the dictionary treats a state differently when it comes with others",
                expected="functions of each row alone",
                fix="take means, spreads and the like of the data outside of the function",
            )

    def __call__(self, states: Floats) -> Floats:
        """Return the functions of states ``(n, n_features)``."""
        found = np.asarray(self._function(states.copy()))
        if found.ndim != 2 or len(found) != len(states) or not found.shape[1] or found.dtype.kind not in "biuf":
            raise InputError(
                "the dictionary returned no matrix of functions",
                expected=f"real numbers ({len(states)}, n_features), one row per state",
                got=f"shape {found.shape}, dtype {found.dtype}",
                fix="of complex functions pass real and imaginary parts" if found.dtype.kind == "c" else None,
            )
        if not np.isfinite(found).all():
            raise InputError("the dictionary returned values that are not finite")
        return found.astype(np.float64)


def check_observables(method: str, delays: Any, dictionary: Any) -> int:
    """Return the number of delays, or say why it does not fit the method.

    Examples
    --------
    >>> check_observables("hankel", 20, None)
    20
    """
    delays = whole("delays", delays)
    if method == "dmd" and delays > 1:
        raise OptionError("dmd has no delays", expected="delays=1", got=delays, fix="take method='hankel'")
    if method in ("hankel", "havok") and delays == 1:
        raise OptionError(f"{method} needs delays", expected="at least 2", got=1, fix="for instance delays=20")
    if dictionary is not None and method != "edmd":
        raise OptionError(f"{method} has no dictionary", got=repr(dictionary), fix="take method='edmd'")
    return delays
