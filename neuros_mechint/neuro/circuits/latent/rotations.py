"""Rotations of the latent space: small ones by angles of pairs of nodes, and the nearest to a matrix."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats


def planes_of_rotation(n_nodes: int) -> Floats:
    """Return how states change at first as each pair of nodes is turned, ``(n_pairs, n_nodes, n_nodes)``, skew.

    Examples
    --------
    >>> planes_of_rotation(2).tolist()
    [[[0.0, -1.0], [1.0, 0.0]]]
    """
    first, second = np.tril_indices(n_nodes, -1)
    pairs, planes = np.arange(len(first)), np.zeros((len(first), n_nodes, n_nodes))
    planes[pairs, first, second], planes[pairs, second, first] = 1, -1
    return planes


def small_rotation(angles: Floats, n_nodes: int) -> Floats:
    """Return the rotation that angles of pairs of nodes make, by Cayley's transform.

    Examples
    --------
    >>> rotation = small_rotation(np.array([0.1]), 2)
    >>> bool(np.allclose(rotation @ rotation.T, np.eye(2))), rotation.round(3).tolist()
    (True, [[0.995, -0.1], [0.1, 0.995]])
    """
    half = np.einsum("p,pij->ij", angles, planes_of_rotation(n_nodes)) / 2
    return np.linalg.solve(np.eye(n_nodes) - half, np.eye(n_nodes) + half)


def nearest_orthogonal(matrix: Floats) -> Floats:
    """Return the nearest matrix with orthonormal columns.

    Examples
    --------
    >>> nearest_orthogonal(np.array([[2.0, 0.0], [0.0, 3.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right
