"""The path between two minima over the lowest pass: the string method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.neuro.information.energy.paths.results import EnergyPath

_CLOSE = 1e-5  # of its length a path moves in one round of steps
_STEPS_PER_ROUND = 50
_NEWTON_STEPS = 20
_FEW = 3  # corners of a first guess stay corners


def minimum_energy_path(
    potential: Callable[[torch.Tensor], torch.Tensor],
    start: Any,
    end: Any,
    through: Any = None,
    n_points: int = 41,
    n_rounds: int = 400,
) -> EnergyPath:
    """Return the path between two minima along which only the gradient pushes: the string method.

    Points slide downhill, and are spread out evenly along the path after each step; ends slide into their minima.

    Parameters
    ----------
    potential : callable
        Takes a tensor (n_points, n_dimensions), returns the energies (n_points,).
    start, end : array_like of shape (n_dimensions,)
        In the basins of the two minima.
    through : array_like of shape (n_dimensions,), optional
        A point that the first guess leads through; else it is a straight line. Of several passes, the one nearest to
        the guess is found.
    n_points : int
    n_rounds : int
        Of 50 steps, at most.

    Returns
    -------
    EnergyPath

    Raises
    ------
    InputError
        Ends of different sizes, or in one basin; a potential that is not one finite number for each point.

    References
    ----------
    E, Ren and Vanden-Eijnden 2007, Simplified and improved string method for computing the minimum energy paths in
    barrier-crossing events, doi:10.1063/1.2720838

    Examples
    --------
    >>> def double_well(x):
    ...     return (x[:, 0] ** 2 - 1) ** 2 + 2 * (x[:, 1] - x[:, 0] ** 2) ** 2
    >>> path = minimum_energy_path(double_well, [-1.0, 1.0], [1.0, 1.0], through=[0.0, 0.5])
    >>> bool(abs(path.barrier - 1) < 1e-3), bool(abs(path.saddle).max() < 0.01)
    (True, True)
    """
    path = first_guess(start, end, through, whole("n_points", n_points, 5))
    arguments = {"start": path[0], "end": path[-1], "through": through, "n_points": n_points, "n_rounds": n_rounds}
    scale = float(np.linalg.norm(np.ptp(path, axis=0)))
    refuse_no_function(potential, "potential")
    _slopes(potential, path)  # refuses what is no potential
    converged = False
    for _ in range(whole("n_rounds", n_rounds)):
        step, before = 1 / _largest_curvature(potential, path), path
        for _ in range(_STEPS_PER_ROUND):
            moved = path - step * _slopes(potential, path)[1]
            if np.abs(moved[-1] - moved[0]).max() < _CLOSE * scale:
                raise _no_pass("ends that slide into one minimum")
            path = evenly_spaced(moved)
        if np.abs(path - before).max() < _CLOSE * scale:
            converged = True
            break
    energies, _ = _slopes(potential, path)
    saddle, height = _summit(potential, path, energies)
    return EnergyPath(
        xr.Dataset(
            {
                "energy": ("point", energies, {"long_name": "energy"}),
                "position": (("point", "dimension"), path, {"long_name": "position"}),
                "saddle": ("dimension", saddle, {"long_name": "position of the pass"}),
                "barrier": ((), height - float(energies[0]), {"long_name": "barrier from the start"}),
            }
        ),
        "Path of least energy",
        attributes={"converged": converged},
        provenance=Provenance.record(None, arguments=arguments),
        citations=("weinan2007",),
    )


def first_guess(start: Any, end: Any, through: Any, n_points: int) -> Floats:
    """Return evenly spaced points on a straight line, or on two by way of a third point.

    Examples
    --------
    >>> first_guess([0.0], [2.0], None, 3).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    ends = [
        real_array(point, name)
        for point, name in ((start, "start"), (through, "through"), (end, "end"))
        if point is not None
    ]
    if len({point.shape for point in ends}) > 1 or ends[0].ndim != 1 or np.allclose(ends[0], ends[-1]):
        raise InputError(
            "start and end do not fit",
            expected="two different points of shape (n_dimensions,)",
            got=", ".join(str(point.tolist()) for point in ends),
        )
    return evenly_spaced(np.array(ends), n_points)


def evenly_spaced(path: Floats, n_points: int | None = None) -> Floats:
    """Return points at equal distances along a path, by a cubic spline.

    Examples
    --------
    >>> evenly_spaced(np.array([[0.0], [1.0], [4.0]]), 5).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    places = np.linspace(0, along[-1], n_points or len(path))
    if len(path) <= _FEW:
        return np.stack([np.interp(places, along, column) for column in path.T], 1)
    from scipy.interpolate import CubicSpline

    return CubicSpline(along, path)(places)


def _slopes(potential: Callable[[torch.Tensor], torch.Tensor], path: Floats) -> tuple[Floats, Floats]:
    points = torch.from_numpy(path.copy()).requires_grad_()
    energies = potential(points)
    if not isinstance(energies, torch.Tensor) or energies.shape != (len(path),) or not energies.requires_grad:
        raise InputError(
            "this is no potential",
            expected=f"a tensor that is computed from the points in torch, shape ({len(path)},)",
            got=described(energies),
            fix="use torch's functions; sum over dimensions with .sum(-1)",
        )
    if not torch.isfinite(energies).all():
        raise InputError(
            "this potential is not finite along the path",
            expected="a finite energy for each point",
            got=f"{int((~torch.isfinite(energies)).sum())} of {len(path)} are not",
            fix="start within its range; without a lower bound points slide to minus infinity",
        )
    (slopes,) = torch.autograd.grad(energies.sum(), points)
    return energies.detach().numpy(), slopes.numpy()


def described(found: Any) -> str:
    """Return what a function gave, for the error.

    Examples
    --------
    >>> described(torch.zeros(3)), described(1.0)
    ('a tensor of shape (3,) without gradient', 'float')
    """
    if not isinstance(found, torch.Tensor):
        return type(found).__name__
    return f"a tensor of shape {tuple(found.shape)}{'' if found.requires_grad else ' without gradient'}"


def refuse_no_function(function: Any, name: str) -> None:
    """Raise `InputError` unless this can be called.

    Examples
    --------
    >>> refuse_no_function(abs, "drift")
    """
    if not callable(function):
        raise InputError(
            f"{name} is no function", expected="a function of points, in torch", got=type(function).__name__
        )


def _no_pass(got: str) -> InputError:
    return InputError(
        "there is no pass between start and end",
        expected="ends in the basins of two minima",
        got=got,
        fix="start from two minima, such as minima_ of EnergyLandscape",
    )


def _largest_curvature(potential: Callable[[torch.Tensor], torch.Tensor], path: Floats) -> float:
    largest = np.abs(np.linalg.eigvalsh(_curvatures(potential, path))).max()
    return max(float(largest), 1e-300)


def _curvatures(potential: Callable[[torch.Tensor], torch.Tensor], path: Floats) -> Floats:
    """Return second derivatives at points, ``(n_points, n_dimensions, n_dimensions)``."""
    points = torch.from_numpy(path.copy()).requires_grad_()
    (slopes,) = torch.autograd.grad(potential(points).sum(), points, create_graph=True)
    if not slopes.requires_grad:  # a plane
        return np.zeros((*path.shape, path.shape[1]))
    rows = [torch.autograd.grad(slope.sum(), points, retain_graph=True)[0].numpy() for slope in slopes.T]
    return np.stack(rows, 1)


def _summit(potential: Callable[[torch.Tensor], torch.Tensor], path: Floats, energies: Floats) -> tuple[Floats, float]:
    """Return the saddle next to the highest point of a path, by Newton's method, and its energy."""
    top = int(energies.argmax())
    if top in (0, len(path) - 1):
        raise _no_pass("a path that is highest at an end")
    saddle, spacing = path[top], float(np.linalg.norm(path[top + 1] - path[top]))
    for _ in range(_NEWTON_STEPS):
        _, slope = _slopes(potential, saddle[None])
        moved = saddle - np.linalg.lstsq(_curvatures(potential, saddle[None])[0], slope[0], rcond=None)[0]
        if np.linalg.norm(moved - path[top]) > 2 * spacing:  # to some other stationary point
            return path[top], float(energies[top])
        saddle = moved
    return saddle, float(_slopes(potential, saddle[None])[0][0])
