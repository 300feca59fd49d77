"""The likeliest path against any drift, with a potential or without: the geometric minimum action method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.neuro.information.energy.paths.energy import described, first_guess, refuse_no_function
from neuros_mechint.neuro.information.energy.paths.results import ActionPath

_ROUNDS = 2
_TINY = 1e-10


def minimum_action_path(
    drift: Callable[[torch.Tensor], torch.Tensor],
    start: Any,
    end: Any,
    through: Any = None,
    n_points: int = 61,
) -> ActionPath:
    r"""Return the likeliest path of :math:`dx = b(x)\,dt + \sqrt{\varepsilon}\,dW` for small noise, at any pace.

    Minimises the geometric action :math:`\int |b| |\dot x| - b \cdot \dot x`, which needs no potential. Where b = -grad
    U, it is twice the rise of U on the way, and 0 downhill.

    Parameters
    ----------
    drift : callable
        Takes and returns tensors (n_points, n_dimensions).
    start, end : array_like of shape (n_dimensions,)
        Held.
    through : array_like of shape (n_dimensions,), optional
        A point that the first guess leads through; else it is a straight line.
    n_points : int

    Returns
    -------
    ActionPath

    Raises
    ------
    InputError
        Ends of different sizes, or a drift that is not one finite vector for each point.

    References
    ----------
    Heymann and Vanden-Eijnden 2008, The geometric minimum action method: a least action principle on the space of
    curves, doi:10.1002/cpa.20238

    Examples
    --------
    >>> uphill = minimum_action_path(lambda x: -x, [0.0, 0.0], [1.0, 0.0])
    >>> round(uphill.action, 3), round(minimum_action_path(lambda x: -x, [1.0, 0.0], [0.0, 0.0]).action, 3)
    (1.0, 0.0)
    """
    from scipy.optimize import minimize

    path = first_guess(start, end, through, whole("n_points", n_points, 5))
    refuse_no_function(drift, "drift")
    arguments = {"start": path[0], "end": path[-1], "through": through, "n_points": n_points}
    first, last = path[:1], path[-1:]
    found: Any = None
    for _ in range(_ROUNDS):
        size = max(_action_of(drift, path), _TINY)

        def loss(inner: Floats, size: float = size) -> tuple[float, Floats]:
            points = torch.from_numpy(np.concatenate([first, inner.reshape(-1, first.shape[1]), last]))
            points.requires_grad_()
            lengths = _lengths(points)
            # the action does not depend on the pace: without this, points would pile up where it is cheap to jump
            uneven = (lengths / lengths.mean() - 1).square().mean()
            value = _actions(drift, points).sum() + size * uneven
            (slope,) = torch.autograd.grad(value, points)
            return float(value.detach()), slope[1:-1].numpy().ravel()

        options = {"maxiter": 2000, "maxfun": 4000}
        found = minimize(loss, path[1:-1].ravel(), jac=True, method="L-BFGS-B", options=options)
        path = np.concatenate([first, found.x.reshape(-1, first.shape[1]), last])
    costs = _actions(drift, torch.from_numpy(path)).detach().numpy()
    return ActionPath(
        xr.Dataset(
            {
                "action": ("point", np.append(0.0, np.cumsum(costs)), {"long_name": "action up to there"}),
                "position": (("point", "dimension"), path, {"long_name": "position"}),
            }
        ),
        "Path of least action",
        attributes={"converged": bool(found.success)},
        provenance=Provenance.record(None, arguments=arguments),
        citations=("heymann2008",),
    )


def _action_of(drift: Callable[[torch.Tensor], torch.Tensor], path: Floats) -> float:
    return float(_actions(drift, torch.from_numpy(path)).detach().sum())


def _lengths(points: torch.Tensor) -> torch.Tensor:
    return ((points[1:] - points[:-1]).square().sum(1) + _TINY**2).sqrt()


def _actions(drift: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """Return the geometric action of each step by Simpson's rule: with midpoints alone, paths would jump drifts."""
    steps, middle = points[1:] - points[:-1], (points[1:] + points[:-1]) / 2
    at, between = drift(points), drift(middle)
    if (
        not isinstance(at, torch.Tensor)
        or at.shape != points.shape
        or not (torch.isfinite(at).all() and torch.isfinite(between).all())
    ):
        raise InputError(
            "this is no drift",
            expected=f"finite vectors of shape {tuple(points.shape)}",
            got=described(at),
            fix="use torch's functions, and give one vector for each point",
        )
    size, inner = ((b.square().sum(1) + _TINY**2).sqrt() for b in (at, between))
    speed = (size[1:] + 4 * inner + size[:-1]) / 6
    mean = (at[1:] + 4 * between + at[:-1]) / 6
    return speed * _lengths(points) - (mean * steps).sum(1)
