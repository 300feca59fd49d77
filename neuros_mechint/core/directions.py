"""Directions and subspaces in the space of a site's features: checked, and laid along the right axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import graph_tensor

FEATURE_AXES = ("unit", "feature", "channel")


def feature_axis(axes: Iterable[str], who: str) -> int:
    """Return which of ``axes`` counts the features of an activation.

    Parameters
    ----------
    axes : iterable of str
        Axes of the selected block.
    who : str
        For the error: what needs the features.

    Raises
    ------
    InputError
        There is none.

    Examples
    --------
    >>> feature_axis(("sample", "channel", "height", "width"), "Project('conv')")
    1
    """
    names = list(axes)
    found = next((axis for axis in FEATURE_AXES if axis in names), None)
    if found is None:
        raise InputError(
            f"{who} finds no features to project",
            expected="a site with an axis 'unit', 'feature' or 'channel' that the index keeps whole",
            got=", ".join(names),
            fix="name the site without that index; to change one entry by a number, use Add(site, number)",
        )
    return names.index(found)


def orthonormal_directions(basis: Any, who: str) -> torch.Tensor:
    """Return orthonormal directions of the span of ``basis``, ``(n_units, rank)``, in double precision.

    Parameters
    ----------
    basis : array of shape (n_directions, n_units) or (n_units,)
        They need not be orthogonal.
    who : str
        For the error: who was given them.

    Raises
    ------
    InputError
        No directions, numbers that are not finite, or nothing but zeros.

    Examples
    --------
    >>> orthonormal_directions([0.0, 2.0], "here").abs().flatten()
    tensor([0., 1.], dtype=torch.float64)
    """
    rows = torch.atleast_2d(graph_tensor(basis, f"directions of {who}").double())
    if rows.ndim > 2 or not bool(torch.isfinite(rows).all()) or not rows.numel():
        raise InputError(
            f"{who} got no directions",
            expected="finite numbers, (n_units,) or (n_directions, n_units)",
            got=f"shape {tuple(rows.shape)}",
        )
    _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
    spanned = singular > singular.max() * max(rows.shape) * torch.finfo(rows.dtype).eps
    if not spanned.any():
        raise InputError(f"{who} got only zero directions", expected="a nonzero direction")
    return directions[spanned].T


def one_direction(direction: Any, who: str) -> torch.Tensor:
    """Return a direction as a detached tensor ``(n_units,)``.

    Raises
    ------
    InputError
        Not one-dimensional, not finite, or of length zero.

    Examples
    --------
    >>> one_direction([3, 4], "here").norm()
    tensor(5.)
    """
    vector = graph_tensor(direction, f"direction of {who}").detach()
    vector = vector if isinstance(direction, torch.Tensor) else vector.float()
    if vector.ndim != 1 or not bool(torch.isfinite(vector).all()):
        raise InputError(
            f"{who} got no direction", expected="finite numbers of shape (n_units,)", got=f"shape {tuple(vector.shape)}"
        )
    if not bool(vector.any()):
        raise InputError(f"{who} got a direction of length zero", expected="a nonzero direction")
    return vector


def check_width(directions: torch.Tensor, n_units: int, who: str) -> None:
    """Raise `InputError` unless directions ``(n_units, ...)`` are as long as the site has features."""
    if directions.shape[0] != n_units:
        raise InputError(
            f"{who} got directions of another width than the site",
            expected=f"({n_units},) or (n_directions, {n_units})",
            got=f"width {directions.shape[0]}",
        )


def along_features(direction: torch.Tensor, axes: Sequence[str], who: str) -> torch.Tensor:
    """Return a direction ``(n_units,)`` shaped so that it broadcasts along the features of a block.

    Examples
    --------
    >>> along_features(torch.ones(3), ("sample", "channel", "height", "width"), "here").shape
    torch.Size([3, 1, 1])
    """
    return direction.reshape(-1, *[1] * (len(axes) - 1 - feature_axis(axes, who)))
