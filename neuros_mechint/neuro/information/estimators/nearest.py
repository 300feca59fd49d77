"""Information by nearest neighbours: no bins and no model, but few dimensions only."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.estimators.neighbours import counts_within, distances_to_neighbour, neighbours_of
from neuros_mechint.neuro.information.variables import Whole


def kraskov(x: Floats, y: Floats, n_neighbors: int) -> float:
    r"""Return mutual information in nats by the first estimator of Kraskov, Stoegbauer and Grassberger.

    :math:`\psi(k) + \psi(N) - \langle \psi(n_x + 1) + \psi(n_y + 1) \rangle`, where :math:`n_x` samples are
    nearer in ``x`` than the kth neighbour in both.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_x)
    y : numpy.ndarray of shape (n_samples, n_y)
        Both of like scale.
    n_neighbors : int

    References
    ----------
    Kraskov et al. 2004, Estimating mutual information, doi:10.1103/PhysRevE.69.066138

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, noise = random.normal(size=(2, 3000, 1))
    >>> round(kraskov(x, 0.9 * x + 0.19**0.5 * noise, 3), 2)  # the truth is 0.83
    0.84
    """
    from scipy.special import digamma

    reach = distances_to_neighbour(np.hstack([x, y]), n_neighbors)
    inside = digamma(counts_within(x, reach)) + digamma(counts_within(y, reach))
    return float(digamma(n_neighbors) + digamma(len(x)) - inside.mean())


def kraskov_second(x: Floats, y: Floats, n_neighbors: int) -> float:
    r"""Return mutual information by the second estimator, whose neighbourhoods are as wide as they are high.

    :math:`\psi(k) - 1/k + \psi(N) - \langle \psi(n_x) + \psi(n_y) \rangle`, where :math:`n_x` samples are at
    most as far in ``x`` as the furthest of the k neighbours is. It errs less by chance, and is too low sooner.

    Parameters
    ----------
    x, y, n_neighbors
        See `kraskov`.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, noise = random.normal(size=(2, 3000, 1))
    >>> round(kraskov_second(x, 0.9 * x + 0.19**0.5 * noise, 3), 2)
    0.84
    """
    from scipy.special import digamma

    near = neighbours_of(np.hstack([x, y]), n_neighbors)
    inside = 0.0
    for values in (x, y):
        reach = np.abs(values[near] - values[:, None]).max((1, 2))
        inside = inside + digamma(counts_within(values, reach, edge=True) - 1)
    return float(digamma(n_neighbors) - 1 / n_neighbors + digamma(len(x)) - np.mean(inside))


def ross(x: Floats, codes: Whole, n_neighbors: int) -> float:
    r"""Return the information between a continuous variable and categories, in nats.

    :math:`\psi(N) + \langle \psi(k) - \psi(N_c) - \psi(m) \rangle`: of the :math:`N_c` samples of its category
    the kth neighbour lies at some distance, and :math:`m` of all samples lie nearer. In categories with fewer samples
    all of them are neighbours.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_features)
    codes : numpy.ndarray of shape (n_samples,)
        The category of each sample; each has at least two samples.
    n_neighbors : int

    References
    ----------
    Ross 2014, Mutual Information between Discrete and Continuous Data Sets, doi:10.1371/journal.pone.0087357

    Examples
    --------
    >>> codes = np.repeat([0, 1], 500)
    >>> x = np.random.default_rng(0).uniform(size=(1000, 1)) + 5 * codes[:, None]
    >>> round(ross(x, codes, 3), 2)  # log 2: they do not overlap
    0.69
    """
    from scipy.special import digamma

    reach, neighbours = np.empty(len(x)), np.empty(len(x))
    sizes = np.bincount(codes)
    for code in np.flatnonzero(sizes):
        members = codes == code
        neighbours[members] = least = min(n_neighbors, sizes[code] - 1)
        reach[members] = distances_to_neighbour(x[members], int(least))
    inside = digamma(counts_within(x, reach))
    return float(digamma(len(x)) + np.mean(digamma(neighbours) - digamma(sizes[codes]) - inside))


def frenzel_pompe(x: Floats, y: Floats, z: Floats, n_neighbors: int) -> float:
    r"""Return the information between two variables given a third, in nats.

    :math:`\psi(k) + \langle \psi(n_z + 1) - \psi(n_{xz} + 1) - \psi(n_{yz} + 1) \rangle`.

    Parameters
    ----------
    x, y, z : numpy.ndarray of shape (n_samples, n_features)
        All of like scale.
    n_neighbors : int

    References
    ----------
    Frenzel and Pompe 2007, Partial Mutual Information for Coupling Analysis of Multivariate Time Series,
    doi:10.1103/PhysRevLett.99.204101

    Examples
    --------
    >>> z, first, second = np.random.default_rng(0).normal(size=(3, 2000, 1))
    >>> bool(abs(frenzel_pompe(z + first, z + second, z, 3)) < 0.05)  # what they share is z
    True
    """
    from scipy.special import digamma

    reach = distances_to_neighbour(np.hstack([x, y, z]), n_neighbors)
    given, with_x, with_y = (digamma(counts_within(part, reach)) for part in (z, np.hstack([x, z]), np.hstack([y, z])))
    return float(digamma(n_neighbors) + np.mean(given - with_x - with_y))


def mesner_shalizi(x: Floats, y: Floats, z: Floats, n_neighbors: int) -> float:
    r"""Return the information between two variables given a third, each continuous, discrete or a mixture, in nats.

    Where the kth neighbour is some distance away, and no other is as far, as `frenzel_pompe`. Where samples repeat, or
    several are as far, counts take the place of k: :math:`\psi(n_{xyz}) + \psi(n_z) - \psi(n_{xz}) - \psi(n_{yz})`
    of the samples that are nearer (no distance away where that is all), the sample itself among them. Mesner and
    Shalizi count those on the edge everywhere, which for continuous variables is too high (3,000 normal samples: by
    .04 nats) and for counts too low (2,000 samples: by .03).

    Parameters
    ----------
    x, y, z : numpy.ndarray of shape (n_samples, n_features)
        Categories as one column each, 0 or 1.
    n_neighbors : int

    References
    ----------
    Mesner and Shalizi 2021, Conditional Mutual Information Estimation for Mixed, Discrete and Continuous Data,
    doi:10.1109/TIT.2020.3024886

    Examples
    --------
    >>> x, z = np.random.default_rng(0).integers(2, size=(2, 2000, 1)).astype(float)
    >>> round(mesner_shalizi(x, (x + z) % 2, z, 5), 2)  # log 2
    0.69
    """
    from scipy.special import digamma

    joint = np.hstack([x, y, z])
    reach = distances_to_neighbour(joint, n_neighbors)
    tied = counts_within(joint, reach, edge=True) > n_neighbors + 1
    near = np.where(tied, counts_within(joint, reach), n_neighbors)
    parts = ((1, z), (-1, np.hstack([x, z])), (-1, np.hstack([y, z])))
    local = sum(sign * digamma(counts_within(part, reach)) for sign, part in parts)
    return float(np.mean(digamma(near) + local))
