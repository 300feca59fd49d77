"""Controllability and observability of linear systems, and of nonlinear ones where they are linearised."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.neuro.dynamics.control.gramians import (
    Places,
    Reach,
    impulse_energies,
    infinite_gramian,
    modal_controllability,
    reach,
    reached,
    seen,
    spectral_radii,
    stable,
)
from neuros_mechint.neuro.dynamics.control.linear import Linear, from_matrix, from_step
from neuros_mechint.neuro.dynamics.control.result import Controllability

_OFF_THE_TRAJECTORY = 1e-3


def controllability(
    system: Any,
    input_matrix: Any = None,
    output_matrix: Any = None,
    *,
    states: Any = None,
    inputs: Any = None,
    horizon: int | None = None,
    trajectory: bool = False,
    normalize: bool = False,
) -> Controllability:
    r"""Return how well inputs steer a linear or linearised system, and how well outputs show its state.

    For :math:`x_{t+1} = A x_t + B u_t`, :math:`y_t = C x_t`: the controllability Gramian
    :math:`W = \sum_k A^k B B^\top A^{\top k}` and the observability Gramian
    :math:`\sum_k A^{\top k} C^\top C A^k`, over ``horizon`` steps or all; the number of dimensions that the inputs
    reach; the energy :math:`d^\top W^{-1} d` it takes at least to move by d (`Controllability.minimum_energy`). One
    rule for both: a direction counts as reached where a unit of energy moves the state along it at least
    ``attributes["tolerance"]`` times as far as along the easiest one (4e-11 in double precision). For
    each unit i, as in Gu et al. 2015: its average controllability, the trace of W where this unit alone is
    driven (whatever B is), and its modal controllability :math:`\sum_j (1 - |\lambda_j|^2) |w_{ij}|^2`, large where the
    unit moves modes that decay fast; here w are left eigenvectors, which are theirs where A is symmetric.

    Parameters
    ----------
    system : array_like of shape (n_units, n_units), callable, or an object with a method ``step``
        A, where column j says what unit j does; or ``step(states[, inputs])``, linearised at ``states``.
    input_matrix : array_like of shape (n_units, n_inputs) or (n_units,), optional
        B. By default, each unit has an input of its own; for a step that is given ``inputs``, B is its Jacobian with
        respect to these.
    output_matrix : array_like of shape (n_outputs, n_units) or (n_units,), optional
        C. By default, each unit is seen.
    states : array_like or torch.Tensor of shape (point, n_units) or (n_units,)
        For a step: where it is linearised, fixed points for instance; or the states of a trajectory in their order.
    inputs : array_like or torch.Tensor of shape (n_inputs,) or (point, n_inputs), optional
        For a step that takes some: those that are held at each state.
    horizon : int, optional
        Number of steps. By default infinite; along a trajectory, as long as this is.
    trajectory : bool
        Take ``states`` as one trajectory and follow its linearisation as it changes, ``horizon`` steps from each
        possible start.
    normalize : bool
        Divide a matrix by one plus its largest singular value, as Gu et al. do to make connectomes stable. The
        spectrum, and with it all numbers, are then those of the scaled matrix.

    Returns
    -------
    Controllability

    Raises
    ------
    InputError
        Arrays that are no finite numbers or do not fit; an unstable system with an infinite horizon, whose Gramian
        does not exist; a step that is none or cannot be differentiated.
    OptionError
        ``normalize`` for a step, ``states`` for a matrix, a horizon longer than the trajectory.

    References
    ----------
    Gu et al. 2015, Controllability of structural brain networks, doi:10.1038/ncomms9414; Pasqualetti, Zampieri and
    Bullo 2014, Controllability metrics, limitations and algorithms for complex networks,
    doi:10.1109/TCNS.2014.2310254

    Examples
    --------
    >>> chain = [[0.5, 0.0], [0.4, 0.5]]
    >>> driven_first = controllability(chain, input_matrix=[1.0, 0.0])
    >>> driven_last = controllability(chain, input_matrix=[0.0, 1.0])
    >>> int(driven_first.rank), int(driven_last.rank)
    (2, 1)

    A nonlinear system, at one state:

    >>> import torch
    >>> step = lambda x, u: torch.tanh(x @ torch.tensor([[0.5, 0.4], [0.0, 0.5]], dtype=x.dtype) + u)
    >>> controllability(step, states=[0.0, 0.0], inputs=[0.0, 0.0]).gramian.shape
    (1, 2, 2)
    """
    check_option("trajectory", trajectory, (True, False))
    check_option("normalize", normalize, (True, False))
    if callable(system) or hasattr(system, "step"):
        if normalize:
            raise OptionError("a step is linearised as it is", fix="normalize its Jacobian and pass that as a matrix")
        linear = from_step(system, input_matrix, output_matrix, states, inputs, trajectory)
    else:
        if states is not None or inputs is not None or trajectory:
            raise OptionError("states, inputs and trajectory are for steps", fix="pass the step instead of a matrix")
        linear = from_matrix(system, input_matrix, output_matrix, normalize)
    radii = spectral_radii(linear.jacobians)
    horizon, places = _horizon(horizon, linear, radii)
    problems = _problems(linear)
    for text in problems:
        warnings.warn(text, UserWarning, stacklevel=2)
    given = {"system": system, "input_matrix": input_matrix, "output_matrix": output_matrix, "states": states}
    more = {"inputs": inputs, "horizon": horizon, "trajectory": trajectory, "normalize": normalize}
    tolerance = float(linear.epsilon ** (2 / 3))
    return Controllability(
        _dataset(linear, radii, places, horizon, tolerance),
        "Controllability",
        attributes={
            "kind": linear.kind,
            "about": linear.about,
            "horizon": horizon,
            "tolerance": tolerance,
            "normalized": normalize,
            "inputs_given": input_matrix is not None or inputs is not None,
            "outputs_given": output_matrix is not None,
        },
        provenance=Provenance.record(arguments=given | more),
        citations=("gu2015", "pasqualetti2014"),
        warnings=problems,
    )


def _horizon(horizon: int | None, linear: Linear, radii: Floats) -> tuple[int | None, Places | None]:
    """Return the horizon, None if infinite, and which place acts at each of its steps, ``(horizon, window)``."""
    n_places = len(linear.jacobians)
    if linear.kind == "trajectory":
        longest = n_places - 1
        horizon = longest if horizon is None else whole("horizon", horizon)
        if horizon > longest:
            raise OptionError("horizon is longer than the trajectory", expected=f"at most {longest} steps", got=horizon)
        return horizon, np.arange(horizon)[:, None] + np.arange(n_places - horizon)
    if horizon is None:
        _check_stable(linear, radii)
        return None, None
    horizon = whole("horizon", horizon)
    return horizon, np.broadcast_to(np.arange(n_places), (horizon, n_places))


def _check_stable(linear: Linear, radii: Floats) -> None:
    unstable = np.flatnonzero(~stable(radii))
    if not unstable.size:
        return
    which = f" at {unstable.size} of {len(radii)} states, the first number {unstable[0]}" if len(radii) > 1 else ""
    or_normalize = ", or normalize=True" if linear.kind == "matrix" else ""
    raise InputError(
        f"an unstable system has no Gramian over infinite time{which}",
        expected="absolute eigenvalues below 1",
        got=f"one of {radii.max():.6g}",
        fix=f"give a finite horizon, such as horizon=20{or_normalize}",
    )


def _problems(linear: Linear) -> tuple[str, ...]:
    if linear.kind != "trajectory":
        return ()
    steps = np.linalg.norm(np.diff(linear.states, axis=0), axis=1).mean()
    missed = np.linalg.norm(linear.drifts, axis=1).max()
    if missed <= _OFF_THE_TRAJECTORY * steps:
        return ()
    return (
        f"the states are no trajectory of this step with these inputs: it misses the next state by up to {missed:.3g}, "
        f"where one step is {steps:.3g} long on average",
    )


def _dataset(linear: Linear, radii: Floats, places: Places | None, horizon: int | None, tolerance: float) -> xr.Dataset:
    moves = linear.kind == "trajectory"
    window, place = ("start", "time") if moves else ("point", "point")
    jacobians, driven = linear.jacobians, linear.inputs @ linear.inputs.swapaxes(1, 2)
    observed = linear.outputs.T @ linear.outputs
    if places is None:
        driving = np.stack([infinite_gramian(a, b) for a, b in zip(jacobians, driven, strict=True)])
        tell = np.stack([infinite_gramian(a.T, observed) for a in jacobians])
        alone = np.stack([np.diag(infinite_gramian(a.T, np.eye(len(a)))) for a in jacobians])
    else:
        driving, tell = reached(jacobians, driven, places), seen(jacobians, observed, places)
        alone = impulse_energies(jacobians, places)
    modal = np.full(jacobians.shape[:2], np.nan)
    for index in np.flatnonzero(stable(radii)):
        modal[index] = modal_controllability(jacobians[index])
    inputs_seen = np.broadcast_to(linear.outputs.T, (len(jacobians), *linear.outputs.T.shape))
    reachable = _spaces(jacobians, linear.inputs, places, tolerance)
    # what outputs tell of a state is what the transposed system reaches, in the opposite order of time
    observable = _spaces(jacobians.swapaxes(1, 2), inputs_seen, _reversed(places), tolerance)
    data = {
        "average_controllability": ((window, "unit"), alone),
        "modal_controllability": ((place, "unit"), modal),
        "controllability_gramian": ((window, "unit", "other_unit"), driving),
        "observability_gramian": ((window, "unit", "other_unit"), tell),
        "controllable_dimensions": (window, [one.basis.shape[1] for one in reachable]),
        "observable_dimensions": (window, [one.basis.shape[1] for one in observable]),
        "controllable_at_any_cost": (window, [one.at_any_cost for one in reachable]),
        "observable_at_any_cost": (window, [one.at_any_cost for one in observable]),
        "easiest_energy": (window, [one.easiest for one in reachable]),
        "hardest_energy": (window, [one.hardest for one in reachable]),
        "spectral_radius": (place, radii),
        "state": ((place, "unit"), linear.states),
        "drift": ((place, "unit"), linear.drifts),
        "jacobian": ((place, "unit", "other_unit"), jacobians),
        "input_matrix": ((place, "unit", "input"), linear.inputs),
        "output_matrix": (("output", "unit"), linear.outputs),
    }
    named = {
        name: (dims, values, {"units": "1", "long_name": name.replace("_", " ")})
        for name, (dims, values) in data.items()
    }
    coords = {"unit": ("unit", np.arange(jacobians.shape[1]), {"long_name": "unit"})}
    if moves:
        coords["start"] = ("start", np.arange(len(alone)), {"long_name": "start of the window", "units": "steps"})
    else:
        coords["point"] = ("point", np.arange(len(alone)), {"long_name": "state"})
    return xr.Dataset(named, coords)


def _spaces(jacobians: Floats, inputs: Floats, places: Places | None, tolerance: float) -> list[Reach]:
    if places is None:
        return [reach(a[None], b[None], None, tolerance) for a, b in zip(jacobians, inputs, strict=True)]
    return [reach(jacobians, inputs, window, tolerance) for window in places.T]


def _reversed(places: Places | None) -> Places | None:
    return None if places is None else places[::-1]
