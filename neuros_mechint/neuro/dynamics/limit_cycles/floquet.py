"""Floquet multipliers: what becomes of small deviations from a closed orbit in one turn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

Complexes = npt.NDArray[np.complex128]
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
    >>> rng = np.random.default_rng(0)
    >>> basis = rng.normal(size=(3, 3))
    >>> halves = basis @ np.diag([1.0, 1e-3, 1e-12]) @ np.linalg.inv(basis)
    >>> multipliers, _ = floquet(np.array([halves, halves]))
    >>> [float(f"{value:.6g}") for value in multipliers.real]
    [1.0, 1e-06, 1e-24]
    """
    basis = _basis(np.eye(factors.shape[1]), direction)
    turns = 0
    while True:
        after, triangle, logs = _one_turn(factors, basis)
        turned = basis.T @ after
        blocks, turns = _blocks(turned), turns + 1
        if turns == _MOST_TURNS or all(len(block) == 1 or _is_pair(block, turned @ triangle) for block in blocks):
            break
        basis = _basis(after, direction)
    multipliers, logarithms = _of_blocks(turned @ triangle, logs, turned, blocks)
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


def _one_turn(factors: Floats, basis: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the basis after one turn, the triangle of what happened to it, and logarithms of its diagonal."""
    triangle, logs = np.eye(len(basis)), np.zeros(len(basis))
    with np.errstate(divide="ignore"):
        for factor in factors:
            basis, upper = np.linalg.qr(factor @ basis)
            logs += np.log(np.abs(np.diag(upper)))
            triangle = upper @ triangle
    return basis, triangle, logs


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


def _is_pair(block: list[int], matrix: Floats) -> bool:
    """Return whether two directions stay mixed for good: they turn around each other."""
    return len(block) == 2 and bool(np.linalg.eigvals(matrix[np.ix_(block, block)]).imag.any())


def _of_blocks(matrix: Floats, logs: Floats, turned: Floats, blocks: list[list[int]]) -> tuple[Complexes, Complexes]:
    multipliers, logarithms = [], []
    with np.errstate(divide="ignore"):
        for block in blocks:
            if len(block) == 1:
                # the diagonal of the triangle may underflow; its logarithm does not
                sign = np.sign(matrix[block[0], block[0]]) or np.sign(turned[block[0], block[0]])
                logarithm = np.array([complex(logs[block[0]], 0.0 if sign > 0 else np.pi)])
                value = np.array([sign * np.exp(logs[block[0]])], dtype=complex)
            else:
                value = np.linalg.eigvals(matrix[np.ix_(block, block)]).astype(complex)
                logarithm = np.log(value)
                lost = value == 0
                logarithm[lost] = logs[block].mean()
            multipliers.append(value)
            logarithms.append(logarithm)
    return np.concatenate(multipliers), np.concatenate(logarithms)
