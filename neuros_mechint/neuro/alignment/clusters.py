"""Cluster permutation test over time: runs of bins whose scores are higher than rearranged data give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.statistics.p_values import share_as_far


@dataclass(frozen=True)
class ClusterTest:
    """Clusters of one time course, in order of time.

    Parameters
    ----------
    starts, stops : numpy.ndarray of shape (n_clusters,)
        First bin, and the one after the last.
    masses : numpy.ndarray of shape (n_clusters,)
        Sum of the standardised scores.
    p : numpy.ndarray of shape (n_clusters,)
        Share of all arrangements with a cluster of at least this mass at any time.
    threshold : numpy.ndarray of shape (n_times,)
        The score that a bin has to exceed to be in a cluster.
    """

    starts: npt.NDArray[np.intp]
    stops: npt.NDArray[np.intp]
    masses: Floats
    p: Floats
    threshold: Floats


def cluster_test(scores: npt.ArrayLike, forming_level: float = 0.05) -> ClusterTest:
    """Find runs of high scores, and how often rearranged data have one as large anywhere.

    At each time the scores are standardised over all arrangements, the observed one among them. Bins above the
    ``1 - forming_level`` quantile of their own time form clusters; the mass of a cluster is the sum of its
    standardised scores. The p of a cluster is the share of arrangements whose largest mass is at least as large, so
    that the chance of any false cluster is at most the level, whatever the number and the dependence of the times.

    Parameters
    ----------
    scores : array of shape (n_arrangements, n_times)
        The first row is observed; the others are as probable as it is where there is nothing.
    forming_level : float
        Share of arrangements above the threshold at each time. It decides which clusters are found (small ones of
        large scores, or long ones of small scores), not how often there is a false one.

    Returns
    -------
    ClusterTest

    Raises
    ------
    InputError
        Fewer than two arrangements, or scores that are not finite.

    References
    ----------
    Maris and Oostenveld 2007, Nonparametric statistical testing of EEG- and MEG-data,
    doi:10.1016/j.jneumeth.2007.03.024

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal(size=(200, 8))
    >>> scores[0, 2:5] += 4
    >>> found = cluster_test(scores)
    >>> found.starts.tolist(), found.stops.tolist(), found.p.tolist()
    ([2], [5], [0.005])
    """
    array = np.asarray(scores, dtype=np.float64)
    forming_level = number("forming_level", forming_level, 0, 0.5)
    if array.ndim != 2 or len(array) < 2 or not array.size:
        raise InputError(
            "nothing to compare with", expected="(n_arrangements, n_times), at least 2 rows", got=f"shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InputError("scores are not finite", got=f"{int((~np.isfinite(array)).sum())} of {array.size}")
    mean, spread = array.mean(0), array.std(0)
    # rounding alone, where rearranging changes nothing, is no score
    varied = spread > 1e-12 * np.abs(array).max(0)
    z = np.where(varied, (array - mean) / np.where(varied, spread, 1), 0.0)
    order = int(np.ceil(len(z) * (1 - forming_level))) - 1
    limit = np.maximum(np.partition(z, order, axis=0)[order], 0)
    above = z > limit
    starts, stops = runs(above[0])
    masses = np.array([z[0, start:stop].sum() for start, stop in zip(starts, stops, strict=True)])
    largest = largest_masses(z, above)
    p, _ = share_as_far(masses, np.abs(masses), [np.tile(largest, (len(masses), 1))], exact=True)
    return ClusterTest(starts, stops, masses, p, mean + limit * spread)


def runs(above: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where runs of true entries start, and where they have ended.

    Examples
    --------
    >>> starts, stops = runs(np.array([True, False, True, True]))
    >>> starts.tolist(), stops.tolist()
    ([0, 2], [1, 4])
    """
    edges = np.diff(np.concatenate([[0], above.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def largest_masses(z: Floats, above: npt.NDArray[np.bool_]) -> Floats:
    """Return the largest sum over a run of bins that are above, of each row; 0 without any.

    Examples
    --------
    >>> z = np.array([[1.0, 2.0, 0.0, 2.5]])
    >>> largest_masses(z, z > 0.5).tolist()
    [3.0]
    """
    mass, largest = np.zeros(len(z)), np.zeros(len(z))
    for values, inside in zip(z.T, above.T, strict=True):
        mass = np.where(inside, mass + values, 0.0)
        largest = np.maximum(largest, mass)
    return largest
