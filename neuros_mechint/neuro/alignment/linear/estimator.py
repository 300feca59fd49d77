"""What all estimators here share: parameters as scikit-learn has them, and checks of what they are given."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.neuro.alignment.samples import samples


class Estimator(Parameterised):
    """Parameters by name, so that `sklearn.base.clone`, grid searches and a reader find them.

    Attributes that end in ``_`` exist once it is fitted. They are NumPy arrays in float64 whatever was passed;
    methods return the kind that they are given.
    """

    def set_params(self, **parameters: Any) -> Estimator:
        """Set parameters by name and return the estimator.

        Raises
        ------
        OptionError
            A name that is no parameter.
        """
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise OptionError(f"{type(self).__name__} has no parameter {name!r}", expected=", ".join(known))
            setattr(self, name, value)
        return self

    def _copy(self) -> Any:
        """Return one of the same parameters that is not fitted."""
        return type(self)(**self.get_params())

    def _require_fit(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            raise InputError(f"this {type(self).__name__} is not fitted", fix="call fit(X, Y) first")


def check_method(method: Any) -> None:
    """Raise `InputError` unless a method of alignment can score.

    Examples
    --------
    >>> check_method(Estimator)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: Estimator is a class
      expected: an estimator with score(X, Y)
      to fix:   pass Estimator(...)
    """
    if isinstance(method, type):
        raise InputError(
            f"{method.__name__} is a class",
            expected="an estimator with score(X, Y)",
            fix=f"pass {method.__name__}(...)",
        )
    if not callable(getattr(method, "score", None)):
        raise InputError("this is no method of alignment", expected="an estimator with score(X, Y)", got=repr(method))


def with_fixed_seed(method: Any) -> Any:
    """Return a method whose generator, if it has one, was drawn from once: it deals alike however often it scores.

    Examples
    --------
    >>> with_fixed_seed("CKA")
    'CKA'
    """
    seed = getattr(method, "seed", None)
    if not isinstance(seed, np.random.Generator):
        return method
    fixed = copy.copy(method)
    fixed.seed = int(seed.integers(2**31))
    return fixed


def features(x: Any, n_features: int, name: str = "X") -> Floats:
    """Return data as a matrix of as many columns as were fitted.

    Raises
    ------
    InputError
        Another number of columns, or what `samples` refuses.

    Examples
    --------
    >>> features([[1, 2], [3, 4]], 2).shape
    (2, 2)
    """
    values = samples(x, name).values
    if values.shape[1] != n_features:
        raise InputError(f"{name} has another number of features than in fit", expected=n_features, got=values.shape[1])
    return values


def check_components(n_components: Any, most: int, why: str) -> int:
    """Return the number of components where the data have as many.

    Raises
    ------
    InputError
        No integer of at least 1, or more than ``most``.

    Examples
    --------
    >>> check_components(2, 5, "the rank of X is 5")
    2
    """
    count = whole("n_components", n_components)
    if count > most:
        raise InputError(
            f"{count} components are more than these data have",
            expected=f"n_components <= {most}: {why}",
            got=f"n_components={count}",
            fix=f"pass n_components={most} or fewer" if most else "give features that vary",
        )
    return count


def centred(x: Floats) -> tuple[Floats, Floats]:
    """Return data without the mean of each column, exactly 0 where a column is constant, and the means.

    Examples
    --------
    >>> centred(np.array([[1.0, 0.1], [3.0, 0.1], [5.0, 0.1]]))[0].tolist()
    [[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    """
    mean = x.mean(0)
    constant = (x == x[0]).all(0)
    mean[constant] = x[0, constant]  # the rounded mean of equal numbers is not always that number
    return x - mean, mean


def principal_axes(x: Floats, name: str = "X") -> tuple[Floats, Floats, Floats]:
    """Return the singular value decomposition of centred data, without directions along which nothing varies.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_features)
        Centred.
    name : str
        What to call the data in errors.

    Returns
    -------
    left : numpy.ndarray of shape (n_samples, rank)
    sizes : numpy.ndarray of shape (rank,)
    right : numpy.ndarray of shape (rank, n_features)

    Raises
    ------
    InputError
        Nothing varies.

    Examples
    --------
    >>> principal_axes(np.array([[1.0, 1.0], [-1.0, -1.0]]))[1].round(12).tolist()
    [2.0]
    """
    # LAPACK begins with a QR decomposition where one side is much the longer, and is twice as fast with tall matrices
    wide = x.shape[1] > len(x)
    left, sizes, right = np.linalg.svd(x.T if wide else x, full_matrices=False)
    if wide:
        left, right = right.T, left.T
    rank = int((sizes > sizes[0] * max(x.shape) * np.finfo(float).eps).sum())
    if not rank:
        raise InputError(f"no feature of {name} varies", expected="features that differ between samples")
    return left[:, :rank], sizes[:rank], right[:rank]
