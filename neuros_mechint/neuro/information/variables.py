"""What information is measured between: samples of continuous variables, or categories, paired by label."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.alignment.samples import joined

Whole = npt.NDArray[np.intp]

FEWEST_SAMPLES = 50
_OF_CATEGORIES = 'method="ross" (one side continuous) or method="binned"'


class Categories(NamedTuple):
    """A variable of a few values that have no distance.

    Parameters
    ----------
    codes : numpy.ndarray of shape (n_samples,)
        Which value each sample has.
    values : numpy.ndarray of shape (n_values,)
        The values themselves, sorted.
    """

    codes: Whole
    values: npt.NDArray[Any]

    @property
    def counts(self) -> Whole:
        """How many samples have each value."""
        return np.bincount(self.codes, minlength=len(self.values))


def continuous(
    named: list[tuple[str, Any]], fewest: int = FEWEST_SAMPLES, instead: str = _OF_CATEGORIES
) -> list[Floats]:
    """Return continuous variables with one row per shared sample, each column of mean 0 and variance 1.

    No information depends on where a variable lies and in which unit; what is compared, distances, does.

    Parameters
    ----------
    named : list of (str, data)
        What each is called in errors, and its samples, ``(n_samples,)`` or ``(n_samples, n_features)``, or labelled.
    fewest : int
        Samples that are asked for.
    instead : str
        How to ask about categories.

    Returns
    -------
    list of numpy.ndarray of shape (n_samples, n_features)

    Raises
    ------
    InputError
        Text, values that are missing, constant columns, too few samples, or variables that cannot be paired.

    Examples
    --------
    >>> x, y = continuous([("x", np.arange(50)), ("y", np.arange(100.0).reshape(50, 2))])
    >>> x.shape, y.shape, y.std(0).tolist()
    ((50, 1), (50, 2), [1.0, 1.0])
    """
    for name, data in named:
        _refuse_categories(data, name, instead)
    found = joined(named)
    refuse_few_samples(len(found[0]), fewest)
    return [_standardised(values, name) for values, (name, _) in zip(found, named, strict=True)]


def refuse_few_samples(n_samples: int, fewest: int = FEWEST_SAMPLES) -> None:
    """Raise `InputError` where samples are too few to estimate information.

    Examples
    --------
    >>> refuse_few_samples(50)
    """
    if n_samples < fewest:
        raise InputError(
            "too few samples to estimate information", expected=f"at least {fewest} samples", got=n_samples
        )


def _refuse_categories(data: Any, name: str, instead: str) -> None:
    if isinstance(data, Recording):
        return
    dtype = as_array(data, name).dtype
    if dtype.kind in "USb" or (dtype.kind == "O" and is_text(data, name)):
        raise InputError(
            f"{name} holds categories, which have no distances",
            expected="numbers",
            got=f"dtype {dtype}",
            fix=f"pass {instead}",
        )


def is_text(data: Any, name: str) -> bool:
    """Return whether data are text or booleans.

    Examples
    --------
    >>> is_text(["left", "right"], "choice"), is_text([0, 1], "choice")
    (True, False)
    """
    array = as_array(data, name)
    return array.dtype.kind in "USb" or (array.dtype.kind == "O" and all(isinstance(v, str) for v in array.ravel()))


def _standardised(values: Floats, name: str) -> Floats:
    largest = np.abs(values).max(0)  # first, so that no square overflows
    scaled = values / np.where(largest > 0, largest, 1.0)
    scaled = scaled - scaled.mean(0)
    spread = scaled.std(0)
    constant = (values == values[0]).all(0) | (spread < 1e-14)
    if constant.any():
        raise InputError(
            f"{name} has constant columns, which tell nothing",
            expected="columns that vary",
            got=f"{int(constant.sum())} of {values.shape[1]}, the first is column {int(constant.argmax())}",
            fix="leave them out",
        )
    return scaled / spread


def categories(values: Any, name: str) -> Categories:
    """Return a variable of few values.

    Parameters
    ----------
    values : array_like, torch.Tensor or xarray.DataArray of shape (n_samples,)
        Text, booleans or integers; numbers that are whole.
    name : str
        What to call it in errors.

    Returns
    -------
    Categories

    Raises
    ------
    InputError
        More than one axis, numbers that are not whole, one value only, or more values than half the samples.

    Examples
    --------
    >>> found = categories(["left", "right", "left", "left"], "choice")
    >>> found.values.tolist(), found.counts.tolist()
    (['left', 'right'], [3, 1])
    """
    array = as_array(values, name)
    if array.dtype.kind == "O" and is_text(array, name):
        array = array.astype(str)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{name} is no list of categories", expected="(n_samples,)", got=f"shape {array.shape}")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.round(array)).all()):
        raise InputError(
            f"{name} holds no categories",
            expected="text, booleans or whole numbers",
            got="numbers that are not whole, or missing",
            fix='a continuous variable goes to mutual_information with method="ksg", or into bins first',
        )
    if array.dtype.kind not in "USbiuf":
        raise InputError(f"{name} holds no categories", expected="text, booleans or integers", got=array.dtype)
    found, codes = np.unique(array, return_inverse=True)
    if len(found) < 2:
        raise InputError(f"{name} is constant, and tells nothing", expected="at least two values", got=f"{found[:1]}")
    if len(found) > len(array) / 2:
        raise InputError(
            f"{name} has too many values for categories",
            expected=f"at most half of the {len(array)} samples",
            got=f"{len(found)} values",
            fix='a continuous variable goes to mutual_information with method="ksg", or into bins first',
        )
    return Categories(codes.astype(np.intp), found)


def few_values(data: Any, name: str) -> Categories | None:
    """Return the categories that values are, or None where they are continuous.

    Examples
    --------
    >>> few_values([0, 1, 0, 1], "spikes").values.tolist(), few_values([0.1, 0.2], "rate")
    ([0, 1], None)
    """
    try:
        return categories(data, name)
    except InputError:
        if is_text(data, name):  # too many values: that they are not numbers is no help
            raise
        return None


def with_categories(x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[Floats, Categories]:
    """Return a continuous variable and one of categories, with one row per shared sample.

    Parameters
    ----------
    x, y : data
        See `continuous` and `categories`. Where both have labels, the rows of ``y`` are put in the order of ``x``.
    names : (str, str)
        What to call them in errors.

    Examples
    --------
    >>> x, y = with_categories(np.arange(60.0), np.arange(60) % 3)
    >>> x.shape, y.counts.tolist()
    ((60, 1), [20, 20, 20])
    """
    found = categories(y, names[1])
    labelled = y.copy(data=found.codes) if isinstance(y, xr.DataArray) else found.codes
    values, codes = joined([(names[0], x), (names[1], labelled)])
    (values,) = continuous([(names[0], values)])
    return values, found._replace(codes=codes[:, 0].astype(np.intp))
