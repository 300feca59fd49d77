"""The least that two sources can tell of a target, given what each alone has to do with it: a convex minimum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats

_NEGLIGIBLE = 1e-10
_FIRST_BARRIER = 0.1
_SHRINK = 0.01
_MOST_STEPS = 50
_NEAR_CENTRE = 1e-2
_LAST_STEPS = 3
_SUFFICIENT = 0.1
_SHORTEST_STEP = 1e-10


class LeastInformation(NamedTuple):
    """The minimum.

    Parameters
    ----------
    value : float
        Nats.
    gap : float
        It lies no further above the true minimum than this (up to rounding): the distance to the dual problem.
    table : numpy.ndarray of shape (n_values_1, n_values_2, n_values_target)
        Probabilities at which it is reached.
    """

    value: float
    gap: float
    table: Floats


def least_information(table: Floats, precision: float = 1e-9) -> LeastInformation:
    r"""Return the least information between a target and two sources that keep each their joint table with the target.

    Newton's method with a logarithmic barrier, from the table in which the sources are independent given the target.
    The gradient on the way gives multipliers :math:`\lambda(s_1, t) + \lambda(s_2, t)`, and with them a lower bound:
    those with :math:`\sum_t e^\lambda \le 1` for every pair of source values are the points of the dual problem.

    Parameters
    ----------
    table : numpy.ndarray of shape (n_values_1, n_values_2, n_values_target)
        Joint probabilities; values of a source that go with a value of the target less often than 1e-10 count as never.
    precision : float
        Nats by which the minimum may be missed.

    Returns
    -------
    LeastInformation

    References
    ----------
    Makkeh, Theis and Vicente 2018, BROJA-2PID: A Robust Estimator for Bivariate Partial Information Decomposition,
    doi:10.3390/e20040271

    Examples
    --------
    >>> either = np.zeros((2, 2, 2))  # the target is 1 where both sources are
    >>> for first, second in np.ndindex(2, 2):
    ...     either[first, second, first & second] = 0.25
    >>> found = least_information(either)
    >>> print(round(found.value / np.log(2), 4), found.gap < 1e-8)
    0.3113 True
    """
    first, second, target = table.sum(1), table.sum(0), table.sum((0, 1))
    first, second = (np.where(pairs > _NEGLIGIBLE, pairs, 0.0) for pairs in (first, second))
    pairs = first[:, None, :] * second
    start = np.divide(pairs, target, out=np.zeros_like(table), where=target > 0)
    cells = np.nonzero(start)
    search = _Search(start[cells], cells, _directions(first, second, target)[:, *cells])
    search.run(precision)
    found = np.zeros_like(table)
    found[cells] = search.probabilities
    entropy = -float((target[target > 0] * np.log(target[target > 0])).sum())
    value = entropy + search.negative_entropy(search.probabilities)
    return LeastInformation(value, search.gap(), found)


def _directions(first: Floats, second: Floats, target: Floats) -> Floats:
    """Return changes of a table that leave both pairwise tables alone, ``(n_directions, *table.shape)``.

    They are orthonormal in units of the root of the start's probabilities, where the curvature of the objective is
    about one in each: however rare a value is, Newton's equations stay well conditioned.
    """
    found = [np.zeros((0, len(first), len(second), len(target)))]
    for value, probability in enumerate(target):
        rows, columns = (np.flatnonzero(pairs[:, value]) for pairs in (first, second))
        if len(rows) < 2 or len(columns) < 2:
            continue
        sides = [_balanced(np.sqrt(pairs[kept, value])) for pairs, kept in ((first, rows), (second, columns))]
        changes = np.einsum("ai,bj->abij", *sides).reshape(-1, len(rows), len(columns)) / np.sqrt(probability)
        placed = np.zeros((len(changes), len(first), len(second), len(target)))
        placed[:, rows[:, None], columns, value] = changes
        found.append(placed)
    return np.concatenate(found)


def _balanced(root: Floats) -> Floats:
    """Return ``(n - 1, n)`` changes that sum to zero, orthonormal after division by ``root``."""
    return np.linalg.qr(root[:, None], mode="complete")[0][:, 1:].T * root


class _Search:
    """Probabilities on their way to the minimum of the negative entropy of the target given both sources."""

    def __init__(self, start: Floats, cells: tuple[np.ndarray, ...], directions: Floats) -> None:
        self.probabilities = start
        self.cells = cells
        self.directions = directions
        self.pairs = _numbered(cells[0], cells[1])
        self.n_pairs = int(self.pairs.max()) + 1
        self.in_pairs = np.zeros((len(directions), self.n_pairs))
        np.add.at(self.in_pairs.T, self.pairs, directions.T)
        self.barrier = 0.0

    def run(self, precision: float) -> None:
        """Follow the minimum while the barrier falls, until the dual problem is so near."""
        if not len(self.directions):
            return  # nothing can be changed
        last = precision / len(self.probabilities)
        self.barrier = _FIRST_BARRIER / len(self.probabilities)
        self._centre()
        while self.barrier > last:
            self._lower(max(self.barrier * _SHRINK, last))
            self._centre()
        self._polish()

    def negative_entropy(self, probabilities: Floats) -> float:
        """Return the negative entropy of the target given both sources."""
        pairs = np.bincount(self.pairs, probabilities, self.n_pairs)
        return float((probabilities * np.log(probabilities / pairs[self.pairs])).sum())

    def gap(self) -> float:
        """Return how far the value lies above that of the nearest point of the dual problem."""
        first, second, target = self.cells
        tables = [np.eye(labels.max() + 1)[labels] for labels in (_numbered(first, target), _numbered(second, target))]
        design, weights = np.hstack(tables), np.sqrt(self.probabilities)
        fitted = np.linalg.lstsq(design * weights[:, None], self._gradient() * weights, rcond=None)[0]
        multipliers = design @ fitted
        most = np.log(np.bincount(self.pairs, np.exp(multipliers), self.n_pairs).max())
        lower = float(self.probabilities @ multipliers) - float(most)
        return max(self.negative_entropy(self.probabilities) - lower, 0.0)

    def _lower(self, barrier: float) -> None:
        """Lower the barrier and follow the minimum along its tangent: what tends to zero falls as the barrier does."""
        tangent = np.linalg.solve(self._curvature(), self.directions @ (1 / self.probabilities)) @ self.directions
        moved = self.probabilities + (barrier - self.barrier) * tangent
        if (moved > 0).all():
            self.probabilities = moved
        self.barrier = barrier

    def _centre(self) -> None:
        """Come near the minimum under the barrier, to where Newton's steps need no control."""
        for _ in range(_MOST_STEPS):
            change, descent = self._newton()
            if descent <= _NEAR_CENTRE * self.barrier or not self._move(change, descent):
                return

    def _polish(self) -> None:
        """Come as near the minimum as rounding allows: each step squares the distance."""
        for _ in range(_LAST_STEPS):
            moved = self.probabilities + self._newton()[0]
            if (moved > 0).all():
                self.probabilities = moved

    def _newton(self) -> tuple[Floats, float]:
        """Return the change that Newton's method asks for, and twice how far the objective would fall by it."""
        gradient = self.directions @ self._gradient()
        step = -np.linalg.solve(self._curvature(), gradient)
        return step @ self.directions, -float(gradient @ step)

    def _move(self, change: Floats, descent: float) -> bool:
        """Go as far along a change as the objective falls enough, and say whether it did."""
        falling = change < 0
        room = float((self.probabilities[falling] / -change[falling]).min()) if falling.any() else np.inf
        length, before = min(1.0, 0.99 * room), self._objective(self.probabilities)
        while length > _SHORTEST_STEP:
            moved = self.probabilities + length * change
            if self._objective(moved) <= before - _SUFFICIENT * length * descent:
                self.probabilities = moved
                return True
            length /= 2
        return False  # rounding is all that is left

    def _objective(self, probabilities: Floats) -> float:
        return self.negative_entropy(probabilities) - self.barrier * float(np.log(probabilities).sum())

    def _gradient(self) -> Floats:
        pairs = np.bincount(self.pairs, self.probabilities, self.n_pairs)
        return np.log(self.probabilities / pairs[self.pairs]) - self.barrier / self.probabilities

    def _curvature(self) -> Floats:
        pairs = np.bincount(self.pairs, self.probabilities, self.n_pairs)
        own = 1 / self.probabilities + self.barrier / self.probabilities**2
        return (self.directions * own) @ self.directions.T - (self.in_pairs / pairs) @ self.in_pairs.T


def _numbered(*labels: np.ndarray) -> np.ndarray:
    """Return one number for each combination of labels that occurs."""
    return np.unique(np.stack(labels), axis=1, return_inverse=True)[1].ravel()
