"""All states of binary units at once: products of spins are Walsh functions, and one fast transform sums over them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

Whole = npt.NDArray[np.intp]


def walsh_transform(values: Floats) -> Floats:
    r"""Return :math:`\sum_s v(s) \prod_{i \in S} s_i` for all sets S of units, in N 2^N steps.

    Parameters
    ----------
    values : numpy.ndarray of shape (2 ** n_units,)
        One for each state: bit i of its number is 0 where unit i is +1, and 1 where it is -1.

    Returns
    -------
    numpy.ndarray of shape (2 ** n_units,)
        One for each set: bit i of its number says whether unit i belongs to it. The same transform, applied to
        coefficients of sets, gives sums over sets for each state.

    Examples
    --------
    >>> walsh_transform(np.array([0.4, 0.1, 0.1, 0.4])).round(1).tolist()  # 1, mean of s_0, mean of s_1, of s_0 s_1
    [1.0, 0.0, 0.0, 0.6]
    """
    found, half = np.array(values, dtype=float), 1
    while half < len(found):
        pairs = found.reshape(-1, 2, half)
        found = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).ravel()
        half *= 2
    return found


def pairwise_sets(n_units: int) -> Whole:
    """Return the numbers of all sets of one unit, then of all sets of two.

    Examples
    --------
    >>> pairwise_sets(3).tolist()
    [1, 2, 4, 3, 5, 6]
    """
    first, second = np.triu_indices(n_units, 1)
    return np.concatenate([1 << np.arange(n_units), (1 << first) + (1 << second)]).astype(np.intp)


def state_numbers(states: Floats) -> Whole:
    """Return the numbers of states of -1 and 1.

    Examples
    --------
    >>> state_numbers(np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])).tolist()
    [0, 1, 3]
    """
    return ((states < 0).astype(float) @ 2.0 ** np.arange(states.shape[1])).astype(np.intp)


def states_of(numbers: Whole, n_units: int) -> Floats:
    """Return states of -1 and 1 by their numbers, ``(n_states, n_units)``.

    Examples
    --------
    >>> states_of(np.array([0, 1]), 2).tolist()
    [[1.0, 1.0], [-1.0, 1.0]]
    """
    bits = numbers[:, None] >> np.arange(n_units) & 1
    return np.where(bits == 1, -1.0, 1.0)


def pairwise_energies(fields: Floats, couplings: Floats) -> Floats:
    """Return the energies of all states in kT, in the order of their numbers.

    Parameters
    ----------
    fields : numpy.ndarray of shape (n_units,)
    couplings : numpy.ndarray of shape (n_units, n_units)

    Examples
    --------
    >>> pairwise_energies(np.array([1.0, 0.0]), np.array([[0.0, 0.5], [0.5, 0.0]])).tolist()
    [-1.5, 1.5, -0.5, 0.5]
    """
    n_units = len(fields)
    coefficients = np.zeros(2**n_units)
    coefficients[pairwise_sets(n_units)] = np.concatenate([fields, couplings[np.triu_indices(n_units, 1)]])
    return -walsh_transform(coefficients)


def as_matrix(parameters: Floats, n_units: int) -> tuple[Floats, Floats]:
    """Return fields and the symmetric matrix of couplings, of parameters in the order of `pairwise_sets`.

    Examples
    --------
    >>> as_matrix(np.array([0.1, 0.2, 0.5]), 2)[1].tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    couplings = np.zeros((n_units, n_units))
    couplings[np.triu_indices(n_units, 1)] = parameters[n_units:]
    return parameters[:n_units].copy(), couplings + couplings.T
