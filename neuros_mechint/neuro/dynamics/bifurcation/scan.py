"""Fixed points followed over the values of one parameter, with the bifurcations between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import refuse_masked
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.neuro.dynamics.bifurcation.branches import Branch, End, complete, follow, joined
from neuros_mechint.neuro.dynamics.bifurcation.critical import Bifurcation, bifurcations
from neuros_mechint.neuro.dynamics.bifurcation.family import Family, Found
from neuros_mechint.neuro.dynamics.bifurcation.missing import across_folds, beside_branch_points
from neuros_mechint.neuro.dynamics.bifurcation.results import BifurcationScan

_FEWEST_VALUES = 3
_MOST_ROUNDS = 3


def bifurcation_scan(
    make_step: Callable[[float], Any],
    parameter_values: Any,
    initial_states: Any,
    inputs: Any = None,
    progress: bool = True,
) -> BifurcationScan:
    r"""Return the fixed points of a system over one parameter, joined into branches, and where they change.

    At each value Newton's method starts from the initial states, from the fixed points at the value before and from
    both sides of these. The tangent :math:`dx / dp = (I - J)^{-1} \partial F / \partial p` joins a point to its
    successor, in steps as short as are needed. Eigenvalues :math:`\lambda` of the step's Jacobian :math:`J` that cross
    the unit circle tell a bifurcation and its kind:

    - 1, where two branches end in each other: a fold (saddle-node);
    - 1, where two branches cross and exchange their stability: transcritical;
    - 1, where two branches part from a third: a pitchfork, supercritical if they are stable;
    - 1, where no other branch was found: a branch point;
    - -1: period doubling;
    - a complex pair: a Hopf bifurcation of a flow, whose cycle starts with the frequency given; a Neimark-Sacker
      bifurcation of a map.

    Parameters
    ----------
    make_step : callable
        ``make_step(value)`` returns a step, ``step(states)`` or ``step(states, inputs)``; it is also called between the
        values. For orbits of period p of a map, return its p-th iterate.
    parameter_values : array_like of shape (n_values,)
        Increasing, at least 3. A value at which fixed points are not isolated, as at a bifurcation, is moved by a
        thousandth of the distance to the next, which a warning tells. Two bifurcations of one branch between two
        neighbours may cancel and be missed.
    initial_states : array_like or torch.Tensor of shape (batch, n_states)
        Where fixed points are looked for.
    inputs : array_like or torch.Tensor of shape (n_inputs,), optional
        Held at every step.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    BifurcationScan
        Its ``index_sum`` at each value is evidence of whether fixed points were missed: it is 1 if the system sends
        some ball of states into itself, and changes only where points were missed or leave all bounds.

    Raises
    ------
    InputError
        Values that do not increase or are too few, or, with the value of the parameter, a step that is not finite or
        cannot be differentiated.

    References
    ----------
    Kuznetsov 2004, Elements of applied bifurcation theory, doi:10.1007/978-1-4757-3978-7

    Examples
    --------
    >>> scan = bifurcation_scan(lambda r: lambda x: x + r * x - x**3, [-1.0, -0.3, 0.4, 1.0], [[0.1]])
    >>> [(one.kind, abs(round(one.value, 6))) for one in scan.bifurcations], scan.n_branches
    ([('supercritical pitchfork', 0.0)], 3)
    """
    if not callable(make_step):
        raise InputError("there is no system", expected="make_step(value), a function", got=type(make_step).__name__)
    values = _increasing(parameter_values)
    family = Family(make_step, initial_states, _one_row(inputs))
    found = follow(family, values, progress)
    branches, ends = joined(family, found, progress)
    told, lost = bifurcations(family, found, branches, ends)
    # what is missed at first, beside a branch point or across a fold, is looked for from there
    for _ in range(_MOST_ROUNDS):
        beside = beside_branch_points(family, found, branches, told)
        if not across_folds(family, found, lost) and not beside:
            break
        complete(family, found)
        branches, ends = joined(family, found, progress)
        told, lost = bifurcations(family, found, branches, ends)
    return BifurcationScan(
        _dataset(family, found, branches, told),
        "Fixed points over a parameter",
        attributes={
            "dt": family.dt,
            "n_values": len(values),
            "n_initial_states": len(family.starts),
        },
        provenance=Provenance.record(
            arguments={"parameter_values": values, "initial_states": initial_states, "inputs": inputs}
        ),
        citations=("kuznetsov2004",),
        warnings=_warnings(family, values, found, lost),
    )


def _increasing(parameter_values: Any) -> Floats:
    refuse_masked(parameter_values, "values of the parameter")
    try:
        values = np.asarray(parameter_values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("the values of the parameter are no real numbers", got=str(error)) from error
    if values.ndim != 1 or len(values) < _FEWEST_VALUES:
        raise InputError(
            "too few values of the parameter", expected=f"(n_values,), at least {_FEWEST_VALUES}", got=values.shape
        )
    if not np.isfinite(values).all():
        raise InputError(
            "values of the parameter are not finite", got=f"{np.sum(~np.isfinite(values))} of {len(values)}"
        )
    if not (np.diff(values) > 0).all():
        raise InputError(
            "the values of the parameter do not increase", got=values[:6].tolist(), fix="np.unique(values)"
        )
    return values


def _one_row(inputs: Any) -> Any:
    if inputs is not None and np.ndim(inputs) > 1 and len(inputs) > 1:
        raise InputError(
            "a scan holds one input",
            expected="inputs of shape (n_inputs,)",
            got=tuple(np.shape(inputs)),
            fix="one scan for each, or make the input the parameter: make_step=lambda u: lambda x: step(x, u)",
        )
    return inputs


def _warnings(family: Family, values: Floats, found: list[Found], lost: list[End]) -> tuple[str, ...]:
    told = []
    moved = [f"{value:g} to {one.value:g}" for value, one in zip(values, found, strict=True) if one.value != value]
    if moved:
        told.append(f"values at which fixed points are not isolated were moved a little: {', '.join(moved)}")
    if not any(len(one.states) for one in found):
        told.append("no isolated fixed point was found at any value: try other initial states")
    if family.singular:
        told.append(
            f"at {len(family.singular)} values there were fixed points that are not isolated (a line or ring, or an "
            "eigenvalue of exactly 1): those were left out"
        )
    for end in lost:
        low, high = found[end.place].value, found[end.place + 1].value
        told.append(
            f"branch {end.branch} {'begins' if end.begins else 'ends'} between {low:.4g} and {high:.4g}, and nothing "
            "was found that explains it: it leaves all bounds, or more values or initial states are needed"
        )
    return tuple(told)


def _dataset(family: Family, found: list[Found], branches: list[Branch], told: list[Bifurcation]) -> xr.Dataset:
    n_states = family.starts.shape[1]
    shape = (len(branches), len(found))
    states, eigenvalues = np.full((*shape, n_states), np.nan), np.full((*shape, n_states), np.nan, dtype=complex)
    unstable = np.full(shape, np.nan)
    for number, branch in enumerate(branches):
        for place in range(branch.first, branch.last + 1):
            one, row = found[place], branch.at(place)
            states[number, place] = one.states[row].double().cpu().numpy()
            eigenvalues[number, place], unstable[number, place] = one.eigenvalues[row], one.n_unstable[row]
    sums = [np.nan if one.value in family.singular else np.sum(one.index) for one in found]
    critical = np.array([one.eigenvalue for one in told], dtype=complex)
    places = np.array([one.state for one in told]).reshape(len(told), n_states)
    turning = np.abs(np.angle(critical)) / (family.dt or 1)
    per_time = "radians / step" if family.dt is None else "radians / unit of time"
    over, of_all = ("branch", "parameter"), "bifurcation"
    data = {
        "state": ((*over, "unit"), states, {"long_name": "state of the fixed point"}),
        "n_unstable": (over, unstable, {"long_name": "directions that grow", "units": "1"}),
        "eigenvalue_real": (
            (*over, "mode"),
            np.real(eigenvalues),
            {"long_name": "eigenvalue, real part", "units": "1"},
        ),
        "eigenvalue_imag": (
            (*over, "mode"),
            np.imag(eigenvalues),
            {"long_name": "eigenvalue, imaginary part", "units": "1"},
        ),
        "index_sum": ("parameter", np.array(sums, dtype=float), {"long_name": "sum of indices", "units": "1"}),
        "kind": (of_all, np.array([one.kind for one in told], dtype=str)),
        "value": (of_all, np.array([one.value for one in told], dtype=float), {"long_name": "parameter"}),
        "place": ((of_all, "unit"), places, {"long_name": "state at the bifurcation"}),
        "critical_real": (of_all, np.real(critical), {"long_name": "critical eigenvalue, real part", "units": "1"}),
        "critical_imag": (
            of_all,
            np.imag(critical),
            {"long_name": "critical eigenvalue, imaginary part", "units": "1"},
        ),
        "frequency": (of_all, turning, {"long_name": "angular frequency at the bifurcation", "units": per_time}),
        "concerns": (
            (of_all, "branch"),
            np.array([[number in one.branches for number in range(len(branches))] for one in told], dtype=bool).reshape(
                len(told), len(branches)
            ),
            {"long_name": "branches that meet there"},
        ),
    }
    coordinates = {
        "parameter": ("parameter", np.array([one.value for one in found]), {"long_name": "parameter"}),
        "branch": np.arange(len(branches)),
        "unit": np.arange(n_states),
    }
    return xr.Dataset(data, coordinates)
