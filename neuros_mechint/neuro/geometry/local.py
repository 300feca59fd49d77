"""Dimensions from distances to near neighbours: TwoNN and the maximum likelihood of Levina and Bickel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.neuro.geometry.neighbours import Neighbours, nearest
from neuros_mechint.neuro.geometry.points import Points
from neuros_mechint.neuro.geometry.uncertainty import Estimate, with_error

DISCARDED = 0.1
"""Share of the largest ratios of which TwoNN uses only that they are large: the density varies most there."""
MOST_NEIGHBORS = 100
_SAME = 1e-6
_FEWEST_NEIGHBORS = 3
_N_SCALES = 9
_FEWEST_LEFT = 50
_MOST_PARTS = 8


class Scale(NamedTuple):
    """A dimension at one scale.

    Parameters
    ----------
    distance : float
        Between the neighbours that it was found from, in units of the points.
    setting : float
        Points left, neighbours, or share of pairs.
    value, error : float
        The dimension and its standard error.
    """

    distance: float
    setting: float
    value: float
    error: float


def two_nn(neighbours: Neighbours, data: Points) -> Estimate:
    r"""Return the dimension from the ratio of the distances to the second and the first neighbour.

    The ratios follow a Pareto law of exponent :math:`d` where the density is constant up to the second neighbour. Its
    maximum likelihood is taken; the largest 10% count as at least as large as the smallest of them. NaN where most
    points have two neighbours at the same distance.

    References
    ----------
    Facco et al. 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood information,
    doi:10.1038/s41598-017-11873-y

    Examples
    --------
    >>> plane = Points(np.random.default_rng(0).random((2000, 2)), 1.0)
    >>> round(two_nn(nearest(plane, 2), plane).value)
    2
    """
    if tied(neighbours) > 0.5:
        return Estimate(np.nan)
    logs = np.log(neighbours.distances[:, 1] / neighbours.distances[:, 0])
    limit = np.sort(logs)[max(0, int(len(logs) * (1 - DISCARDED)) - 1)]
    seen, length = logs <= limit, np.minimum(logs, limit)
    value = float(seen.sum() / length.sum())
    contributions = (seen - value * length) / length.sum()
    return with_error(value, contributions, data, neighbours.indices[:, :2])


def tied(neighbours: Neighbours) -> float:
    """Return the share of points whose two nearest neighbours are at the same distance, as on a grid.

    Examples
    --------
    >>> grid = Points(np.arange(50.0)[:, None], 1.0)
    >>> tied(nearest(grid, 2))
    0.96
    """
    first, second = neighbours.distances[:, 0], neighbours.distances[:, 1]
    return float((second - first < _SAME * second).mean())


def along_one_stretch(neighbours: Neighbours, data: Points) -> float:
    """Return the share of points whose two nearest neighbours follow each other on one trajectory.

    Examples
    --------
    >>> order = np.arange(40)
    >>> passes = Points(np.repeat([0.0, 1.0], 40)[:, None] + np.tile(order, 2)[:, None] * 1e-3, 1.0)
    >>> passes = passes._replace(trial=np.repeat([0, 1], 40), time=np.tile(order, 2), window=40)
    >>> along_one_stretch(nearest(passes, 2), passes)
    1.0
    """
    if data.trial is None or data.time is None:
        return 0.0
    first, second = neighbours.indices[:, 0], neighbours.indices[:, 1]
    near = np.abs(data.time[first] - data.time[second]) <= data.window
    return float((near & (data.trial[first] == data.trial[second])).mean())


def maximum_likelihood(neighbours: Neighbours, data: Points, n_neighbors: int) -> Estimate:
    r"""Return the dimension from the distances :math:`T_j` to the first ``n_neighbors`` neighbours.

    .. math:: \frac 1 d = \frac{1}{n (k - 1)} \sum_i \sum_{j < k} \log \frac{T_k(x_i)}{T_j(x_i)}

    References
    ----------
    Levina and Bickel 2004, Maximum likelihood estimation of intrinsic dimension, NIPS 17, averaged over points as in
    MacKay and Ghahramani 2005, http://www.inference.org.uk/mackay/dimension/

    Examples
    --------
    >>> plane = Points(np.random.default_rng(0).random((2000, 2)), 1.0)
    >>> round(maximum_likelihood(nearest(plane, 20), plane, 20).value)
    2
    """
    distances = neighbours.distances[:, :n_neighbors]
    logs = np.log(distances[:, -1:] / distances[:, :-1]).sum(1)
    if logs.sum() == 0:  # all neighbours are at one distance
        return Estimate(np.nan)
    value = float(len(logs) * (n_neighbors - 1) / logs.sum())
    contributions = (n_neighbors - 1 - value * logs) / logs.sum()
    return with_error(value, contributions, data, neighbours.indices[:, :n_neighbors])


def likelihood_scales(neighbours: Neighbours, data: Points, n_neighbors: int) -> list[Scale]:
    """Return the maximum likelihood for few up to as many neighbours as there are, ``n_neighbors`` among them.

    Examples
    --------
    >>> plane = Points(np.random.default_rng(0).random((500, 2)), 1.0)
    >>> [scale.setting for scale in likelihood_scales(nearest(plane, 20), plane, 10)][-1]
    20.0
    """
    most = neighbours.distances.shape[1]
    spread = np.geomspace(min(_FEWEST_NEIGHBORS, most), most, _N_SCALES).round().astype(int)
    counts = np.unique([*spread, n_neighbors])
    found = [(int(count), maximum_likelihood(neighbours, data, int(count))) for count in counts]
    middle = np.median(neighbours.distances, axis=0)
    return [Scale(float(middle[count - 1]), float(count), one.value, one.error) for count, one in found]


def decimated(data: Points, whole: Estimate, neighbours: Neighbours, random: np.random.Generator) -> list[Scale]:
    """Return TwoNN of all points, of halves, quarters and so on, which are further apart.

    Parameters
    ----------
    data : Points
    whole : Estimate
        That of all points.
    neighbours : Neighbours
        Of all points.
    random : numpy.random.Generator
        Deals points to parts; at most 8 parts are looked at. Their spread gives the error.

    Examples
    --------
    >>> plane = Points(np.random.default_rng(0).random((400, 2)), 1.0)
    >>> near = nearest(plane, 2)
    >>> [scale.setting for scale in decimated(plane, two_nn(near, plane), near, np.random.default_rng(1))]
    [400.0, 200.0, 100.0, 50.0]
    """
    n_points = len(data.values)
    found = [Scale(float(np.median(neighbours.distances[:, 1])), float(n_points), whole.value, whole.error)]
    n_parts = 2
    while n_points // n_parts >= _FEWEST_LEFT:
        order = random.permutation(n_points)[: n_points // n_parts * n_parts]
        parts = [np.sort(rows) for rows in order.reshape(n_parts, -1)[:_MOST_PARTS]]
        values, reaches = zip(*(_of_part(data.rows(rows)) for rows in parts), strict=True)
        error = float(np.std(values, ddof=1)) / len(parts) ** 0.5
        found.append(Scale(float(np.mean(reaches)), float(n_points // n_parts), float(np.mean(values)), error))
        n_parts *= 2
    return found


def _of_part(data: Points) -> tuple[float, float]:
    neighbours = nearest(data, 2)
    return two_nn(neighbours, data._replace(trial=None, time=None)).value, float(np.median(neighbours.distances[:, 1]))
