"""Representations at many moments of training, compared all with all: kernels of which the cosine is debiased CKA."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.random import generator

MOST_ROWS = 128
"""Observations whose kernel is kept; more than that are drawn from, once for all steps."""
FEWEST_ROWS = 4


def kept_rows(n_rows: int, most: int = MOST_ROWS, seed: int = 0) -> np.ndarray:
    """Return which observations of a site are used, in order: all, or ``most`` of them.

    Examples
    --------
    >>> kept_rows(3).tolist(), len(kept_rows(1000))
    ([0, 1, 2], 128)
    """
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(generator(seed).choice(n_rows, most, replace=False))


def kernel_vector(x: Floats) -> Floats:
    r"""Return the linear kernel of observations as a vector of length 1, of which products are debiased CKA.

    Of the kernel :math:`X X^\top` without its diagonal, the means of rows and columns are taken away as a U-statistic
    has them; what is left above the diagonal is the vector. For many steps of a training this is smaller than the
    activations, and all pairs are one product of matrices.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_observations, n_features)
        At least 4 observations.

    Returns
    -------
    numpy.ndarray of shape (n_observations * (n_observations - 1) / 2,)
        NaN where nothing differs between observations, or values are not finite.

    References
    ----------
    Szekely and Rizzo 2014, Partial distance correlation with methods for dissimilarities, doi:10.1214/14-AOS1255

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> x, y = np.random.default_rng(0).normal(size=(2, 20, 5))
    >>> bool(np.isclose(kernel_vector(x) @ kernel_vector(y), nm.CKA().score(x, y)))
    True
    """
    n = len(x)
    above = _above_diagonal(n)
    if not np.isfinite(x).all():
        return np.full(len(above[0]), np.nan)
    x = x - x.mean(0)
    size = float(np.abs(x).max(initial=0.0))
    if not size:
        return np.full(len(above[0]), np.nan)
    kernel = (x / size) @ (x / size).T
    np.fill_diagonal(kernel, 0)
    sums = kernel.sum(0)
    kernel += sums.sum() / ((n - 1) * (n - 2)) - (sums[:, None] + sums) / (n - 2)
    vector = kernel[above]
    return vector / np.linalg.norm(vector)


@functools.cache
def _above_diagonal(n: int) -> tuple[Any, ...]:
    return np.triu_indices(n, 1)


def trajectory(similarity: Floats, n_components: int) -> tuple[Floats, Floats]:
    """Return places whose distances are those of representations, by classical scaling, and the share of each axis.

    Parameters
    ----------
    similarity : numpy.ndarray of shape (n_steps, n_steps)
        CKA of all pairs; squared distance is ``2 - 2 * CKA``.
    n_components : int

    Returns
    -------
    places : numpy.ndarray of shape (n_steps, n_components)
    share : numpy.ndarray of shape (n_components,)
        Of the variance.

    Examples
    --------
    >>> angles = np.array([0.0, 0.3, 0.6])  # unit vectors in a plane
    >>> places, share = trajectory(np.cos(angles[:, None] - angles), 2)
    >>> bool(np.isclose(np.linalg.norm(places[0] - places[2]), 2 * np.sin(0.3)))
    True
    """
    centred = similarity - similarity.mean(0) - similarity.mean(1, keepdims=True) + similarity.mean()
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    places = np.zeros((len(similarity), n_components))
    share = np.zeros(n_components)
    found = min(n_components, len(values))
    places[:, :found] = vectors[:, :found] * np.sqrt(values[:found])
    # of two mirror images, the one that ends on the positive side
    places *= np.where(places[-1] < places[0], -1.0, 1.0)
    if values.sum() > 0:
        share[:found] = values[:found] / values.sum()
    return places, share
