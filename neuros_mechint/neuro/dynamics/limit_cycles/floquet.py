"""Floquet multipliers: what becomes of small deviations from a closed orbit in one turn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Complexes, Floats

_MOST_TURNS = 12
_COUPLED = 1e-7


def floquet(factors: Floats, direction: Floats | None = None) -> tuple[Complexes, Complexes]:
    """Return the eigenvalues of a product of matrices, small ones as exactly as large ones, and their logarithms.

    The product itself would lose whatever is 1e-16 of its largest eigenvalue. Instead a basis is taken through the
    factors turn after turn, made orthogonal after each, until it comes back to itself but for blocks of one (or,
    for complex pairs, two) directions; the eigenvalues are those of the blocks.

    Parameters
    ----------
    factors : numpy.ndarray of shape (n_factors, n_states, n_states)
        The first one is applied first.
    direction : numpy.ndarray of shape (n_states,), optional
        A vector that comes back to itself, such as the velocity on a closed orbit: its multiplier is the first, and
        does not mix with others that are near 1.

    Returns
    -------
    multipliers : numpy.ndarray of shape (n_states,), complex
        After that of ``direction``, by falling modulus.
    logarithms : numpy.ndarray of shape (n_states,), complex

    Examples
    --------
    >>> basis = np.array([[1.0, 2.0], [1.0, 3.0]])
    >>> half = basis @ np.diag([1.0, 1e-10]) @ np.linalg.inv(basis)
    >>> multipliers, _ = floquet(np.array([half, half]))
    >>> [f"{value:.3g}" for value in multipliers.real]
    ['1', '1e-20']
    """
    basis = _basis(np.eye(factors.shape[1]), direction)
    turns = 0
    while True:
        turn = _one_turn(factors, basis)
        blocks, turns = _blocks(turn.turned), turns + 1
        alone = all(len(block) == 1 or (len(block) == 2 and turn.within(block).imag.any()) for block in blocks)
        if alone or turns == _MOST_TURNS:
            break
        basis = _basis(turn.after, direction)
    multipliers, logarithms = _of_blocks(turn, blocks)
    first = 0 if direction is None else 1
    order = np.concatenate([np.arange(first), first + np.argsort(-logarithms.real[first:], kind="stable")])
    return multipliers[order], logarithms[order]


def _basis(columns: Floats, direction: Floats | None) -> Floats:
    """Return an orthogonal basis, which begins with ``direction``."""
    if direction is None:
        return columns
    if columns[:, 0] @ direction == 0 or np.allclose(columns, np.eye(len(columns))):
        # any basis that has the direction in it: the reflection that takes the first axis there
        return np.linalg.qr(np.column_stack([direction, columns]))[0][:, : len(columns)]
    return np.linalg.qr(np.column_stack([direction, columns[:, 1:]]))[0]


class _Turn(NamedTuple):
    """What one turn does to a basis."""

    after: Floats
    turned: Floats
    """The basis after the turn, in terms of that before."""
    triangle: Floats
    """What the factors do beside turning it, upper triangular."""
    signs: Floats
    logs: Floats
    """Of the diagonal of the triangle, which may underflow."""

    def within(self, block: list[int]) -> Complexes:
        """Return the eigenvalues of directions that mix with each other only."""
        rows = np.ix_(block, block)
        return np.linalg.eigvals(self.turned[rows] @ self.triangle[rows]).astype(complex)


def _one_turn(factors: Floats, basis: Floats) -> _Turn:
    after, triangle = basis, np.eye(len(basis))
    signs, logs = np.ones(len(basis)), np.zeros(len(basis))
    with np.errstate(divide="ignore"):
        for factor in factors:
            after, upper = np.linalg.qr(factor @ after)
            signs *= np.sign(np.diag(upper))
            logs += np.log(np.abs(np.diag(upper)))
            triangle = upper @ triangle
    return _Turn(after, basis.T @ after, triangle, signs, logs)


def _blocks(turned: Floats) -> list[list[int]]:
    """Return neighbouring directions that come back mixed with each other."""
    blocks: list[list[int]] = [[0]]
    for index in range(1, len(turned)):
        mixed = np.abs(turned[index:, :index]).max() > _COUPLED
        if mixed:
            blocks[-1].append(index)
        else:
            blocks.append([index])
    return blocks


def _of_blocks(turn: _Turn, blocks: list[list[int]]) -> tuple[Complexes, Complexes]:
    multipliers, logarithms = [], []
    with np.errstate(divide="ignore"):
        for block in blocks:
            if len(block) == 1:
                at = block[0]
                sign = turn.signs[at] * np.sign(turn.turned[at, at])
                logarithm = np.array([complex(turn.logs[at], np.pi if sign < 0 else 0.0)])
                value = np.array([sign * np.exp(turn.logs[at])], dtype=complex)
            else:
                value = turn.within(block)
                logarithm = np.where(value == 0, turn.logs[block].mean(), np.log(value))
            multipliers.append(value)
            logarithms.append(logarithm)
    return np.concatenate(multipliers), np.concatenate(logarithms)
