"""Data as points in a space: what is one point, which points follow each other in time, which are the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.labels import FEATURE_DIMS, LabelledTensors, as_matrix, as_numpy, axes_of_observations
from neuros_mechint.core.numbers import plain_numbers
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.dynamics.embedding.mutual_information import autocorrelation
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, is_list_of_trials, trajectories

Whole = npt.NDArray[np.intp]

FEWEST_POINTS = 30


class Points(NamedTuple):
    """Points in a space, and which of them lie next to each other in time.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_points, n_features)
        Around their mean, the largest coordinate 1: no dimension depends on where the points lie and in which unit.
    unit : float
        What to multiply a distance by to have it in the unit of the data.
    trial, time : numpy.ndarray of shape (n_points,) or None
        Where the points are samples of trajectories: of which, and when.
    window : int
        Points of one trial that are not more than so many samples apart count as no neighbours.
    """

    values: Floats
    unit: float
    trial: Whole | None = None
    time: Whole | None = None
    window: int = 0

    @property
    def ordered(self) -> bool:
        """Whether the points are samples of trajectories."""
        return self.trial is not None

    def distinct(self) -> Points:
        """Return the points without those that repeat an earlier one.

        Examples
        --------
        >>> len(Points(np.array([[0.0], [1.0], [0.0]]), 1.0).distinct().values)
        2
        """
        first = np.sort(np.unique(self.values, axis=0, return_index=True)[1])
        return self.rows(first)

    def rows(self, chosen: Whole) -> Points:
        """Return some of the points.

        Examples
        --------
        >>> Points(np.arange(6.0).reshape(3, 2), 1.0).rows(np.array([2])).values.tolist()
        [[4.0, 5.0]]
        """
        trial, time = (None if given is None else given[chosen] for given in (self.trial, self.time))
        return self._replace(values=self.values[chosen], trial=trial, time=time)

    def blocks(self) -> list[Whole]:
        """Return about `N_BLOCKS` stretches of trajectories, each at least five windows long, that hardly depend.

        Examples
        --------
        >>> order = np.arange(100)
        >>> len(Points(np.zeros((100, 1)), 1.0, np.zeros(100, dtype=int), order, window=2).blocks())
        10
        """
        if self.trial is None or self.time is None:
            return [np.array([row]) for row in range(len(self.values))]
        length = max(_WINDOWS_IN_A_BLOCK * self.window, len(self.values) // N_BLOCKS, 1)
        found = []
        for trial in np.unique(self.trial):
            rows = np.flatnonzero(self.trial == trial)
            found += np.array_split(rows, max(1, len(rows) // length))
        return found


N_BLOCKS = 30
_WINDOWS_IN_A_BLOCK = 5


def points(x: Any, window: int | None = None) -> Points:
    """Return data as points, or say what is wrong with them.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray, Recording, activations of one site, or a list of arrays
        ``(point, feature)``; or trajectories: ``(trial, time, unit)``, a list of trials ``(time, unit)``, or labelled
        data with an axis ``time``. Other labelled data have points along the axes of observations.
    window : int, optional
        See `Points`. Not 0 for a matrix: its rows are samples of one trajectory then. By default the time in which the
        autocorrelation falls to 1/e for trajectories.

    Returns
    -------
    Points

    Raises
    ------
    InputError
        No real numbers, values that are missing or infinite, one axis only, or fewer than 30 points.

    Examples
    --------
    >>> points(np.random.default_rng(0).normal(size=(3, 50, 2))).values.shape
    (150, 2)
    """
    given = None if window is None else whole("theiler", window, 0)
    labelled = x.data if isinstance(x, Recording) else _only_site(x) if isinstance(x, LabelledTensors) else x
    if _are_trajectories(labelled):
        return _from_trajectories(trajectories(labelled, name="X"), given)
    values = _matrix(labelled)
    if given:
        return _from_trajectories(Trajectories((values,)), given)
    return _scaled(values)


def distinct_points(data: Points) -> Points:
    """Return the points without repeats, where enough are left.

    Raises
    ------
    InputError
        Fewer than 30 points are distinct.

    Examples
    --------
    >>> len(distinct_points(points(np.repeat(np.arange(40.0), 2)[:, None])).values)
    40
    """
    distinct = data.distinct()
    if len(distinct.values) < FEWEST_POINTS:
        raise InputError(
            "too few points are distinct for their geometry",
            expected=f"at least {FEWEST_POINTS}",
            got=f"{len(distinct.values)} of {len(data.values)} points, the others repeat them",
        )
    return distinct


def _are_trajectories(x: Any) -> bool:
    if isinstance(x, Trajectories):
        return True
    if isinstance(x, xr.DataArray):
        return "time" in x.dims
    return is_list_of_trials(x) or getattr(x, "ndim", 0) == 3


def _only_site(x: LabelledTensors) -> xr.DataArray:
    if len(x) != 1:
        raise InputError(
            "it is not clear which site is meant", got=f"{len(x)} sites", fix="pass activations.xarray('the site')"
        )
    return x.xarray(next(iter(x)))


def _matrix(x: Any) -> Floats:
    values = _labelled_matrix(x) if isinstance(x, xr.DataArray) else plain_numbers(x, "X")
    if values.ndim != 2:
        raise InputError(
            "X is no matrix",
            expected="(point, feature), or trajectories (trial, time, unit)",
            got=f"shape {values.shape}",
            fix="embed a single time series first: nm.delay_embedding(x)" if values.ndim == 1 else "name the axes",
        )
    if not values.size or not np.isfinite(values).all():
        missing = int((~np.isfinite(values)).sum())
        problem = f"X has {missing} NaN or infinite values" if values.size else "X is empty"
        raise InputError(problem, expected="finite numbers", got=f"shape {values.shape}")
    return values.astype(np.float64)


def _labelled_matrix(x: xr.DataArray) -> npt.NDArray[Any]:
    dims = [str(axis) for axis in x.dims]
    if len(axes_of_observations(dims)) == len(dims):
        raise InputError(
            "X has no axis of features",
            expected=f"one of {', '.join(FEATURE_DIMS)}",
            got=f"axes {dims}",
            fix="rename it: X.rename(old='unit'), or pass X.values of (point, feature)",
        )
    return as_numpy(as_matrix(torch.from_numpy(np.ascontiguousarray(plain_numbers(x.values, "X"))), dims))


def _scaled(values: Floats) -> Points:
    if len(values) < FEWEST_POINTS:
        raise InputError(
            "these are too few points for their geometry", expected=f"at least {FEWEST_POINTS}", got=len(values)
        )
    largest = float(np.abs(values).max()) or 1.0  # first, so that no sum overflows
    centred = values / largest
    centred = centred - centred.mean(0)
    centred[:, (values == values[0]).all(0)] = 0.0  # the rounded mean of equal numbers is not always that number
    reach = float(np.abs(centred).max())
    if reach == 0:
        raise InputError("all points are the same", expected="points that differ", got=f"{len(values)} copies of one")
    return Points(centred / reach, largest * reach)


def _from_trajectories(found: Trajectories, window: int | None) -> Points:
    scaled = _scaled(found.joined())
    trial = np.repeat(np.arange(len(found.trials)), found.lengths)
    time = np.concatenate([np.arange(length) for length in found.lengths])
    if window is None:
        window = decorrelation_lag(np.split(scaled.values, np.cumsum(found.lengths)[:-1]))
    return scaled._replace(trial=trial, time=time, window=window)


def decorrelation_lag(trials: list[Floats]) -> int:
    """Return after how many samples the autocorrelation of trajectories, summed over units, is below 1/e.

    Parameters
    ----------
    trials : list of numpy.ndarray of shape (n_times, n_units)
        Around their common mean. A tenth of the longest is the most that is returned.

    Examples
    --------
    >>> angle = 2 * np.pi * np.arange(1000) / 100
    >>> decorrelation_lag([np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    20
    """
    most = max(1, max(map(len, trials)) // 10)
    below = np.flatnonzero(autocorrelation(trials, most)[1:most] < 1 / np.e)
    return int(below[0]) + 1 if len(below) else most
