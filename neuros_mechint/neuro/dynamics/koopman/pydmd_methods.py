"""Methods of PyDMD, in the form that all methods here share."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.optional import soft_import
from neuros_mechint.neuro.dynamics.embedding.delays import delay_vectors
from neuros_mechint.neuro.dynamics.koopman.regression import principal_directions

METHODS = ("bopdmd", "dmdc", "havok")
ONE_TRIAL = ("bopdmd", "havok")
_FEWEST_COORDINATES = 2

Model = dict[str, Floats]
"""``encode`` (n_features, rank), ``step`` (rank, rank), ``decode`` (rank, n_units), and ``drive`` (n_inputs, rank)."""


def optimised_dmd(observed: Floats, rank: Any, dt: float, n_units: int) -> Model:
    """Fit exponentials to all times of one trial at once, by variable projection.

    This is PyDMD's ``BOPDMD`` without bags: its standard deviations over bags are not passed on, because of noiseless
    exponentials they come out at 3e-3 where the eigenvalues are right to 1e-8.

    Parameters
    ----------
    observed : numpy.ndarray of shape (n_times, n_features)
        One trial.
    rank : int, "optimal" or None
    dt : float
    n_units : int
        The last so many features are the states.

    References
    ----------
    Askham and Kutz 2018, Variable projection methods for an optimized dynamic mode decomposition, doi:10.1137/M1124176

    Examples
    --------
    >>> time = np.arange(60) * 0.1
    >>> wave = np.stack([np.cos(time), np.sin(time)], 1)
    >>> fitted = optimised_dmd(wave, rank=2, dt=0.1, n_units=2)
    >>> np.log(np.linalg.eigvals(fitted["step"])).imag.round(6).tolist()
    [0.1, -0.1]
    """
    pydmd = soft_import("pydmd", "optimised dynamic mode decomposition", "koopman")
    directions, _ = principal_directions(torch.from_numpy(np.ascontiguousarray(observed)), rank)
    basis = directions.numpy()
    fitted = pydmd.BOPDMD(
        svd_rank=basis.shape[1],
        proj_basis=basis,
        use_proj=True,
        eig_constraints={"conjugate_pairs"},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rounds that did not converge: residuals judge what comes out
        fitted.fit(observed.T, np.arange(len(observed)) * dt)
    modes = basis.T @ fitted.modes
    step = (modes * np.exp(fitted.eigs * dt)) @ np.linalg.pinv(modes)
    return {"encode": basis, "step": step.real.T, "decode": basis.T[:, -n_units:]}


def dmd_with_inputs(before: Floats, after: Floats, inputs: Floats, rank: Any, n_units: int) -> Model:
    """Fit states and inputs together: ``after = before A + inputs B``.

    Parameters
    ----------
    before, after : numpy.ndarray of shape (n_pairs, n_units)
    inputs : numpy.ndarray of shape (n_pairs, n_inputs)
        At the times of ``before``.
    rank : int, "optimal" or None
    n_units : int
        The last so many features are the states.

    References
    ----------
    Proctor, Brunton and Kutz 2016, Dynamic mode decomposition with control, doi:10.1137/15M1013857

    Examples
    --------
    >>> inputs = np.sin(np.arange(20.0))[:, None]
    >>> before = np.cos(3 * np.arange(20.0))[:, None]
    >>> fitted = dmd_with_inputs(before, 0.5 * before + 2 * inputs, inputs, rank=None, n_units=1)
    >>> fitted["step"].round(6).tolist(), abs(fitted["drive"]).round(6).tolist()
    ([[0.5]], [[2.0]])
    """
    dmdc = soft_import("pydmd.dmdc", "dynamic mode decomposition with inputs", "koopman")
    directions, _ = principal_directions(torch.from_numpy(np.ascontiguousarray(after)), rank)
    known = np.hstack([before, inputs])
    n_known = principal_directions(torch.from_numpy(known), None)[0].shape[1]
    # PyDMD's own fit takes one trial; its operator takes pairs, which need not be neighbours
    operator = dmdc.DMDBUnknownOperator(svd_rank=directions.shape[1], svd_rank_omega=n_known, tlsq_rank=0)
    basis, drive = operator.compute_operator(before.T, after.T, inputs.T)
    return {
        "encode": basis,
        "step": operator.as_numpy_array.T,
        "decode": basis.T[:, -n_units:],
        "drive": drive.T @ basis,
    }


def havok(trial: Floats, delays: int, rank: Any, dt: float) -> Model:
    """Fit linear dynamics to the leading delay coordinates of one trial, with the last one as their input.

    Parameters
    ----------
    trial : numpy.ndarray of shape (n_times, n_units)
    delays : int
    rank : int, "optimal" or None
        Of the delay vectors; the last coordinate is the forcing.
    dt : float

    References
    ----------
    Brunton et al. 2017, Chaos as an intermittently forced linear system, doi:10.1038/s41467-017-00030-8

    Examples
    --------
    >>> time = np.arange(400) * 0.01
    >>> two_waves = (np.cos(3 * time) + np.cos(7 * time))[:, None]
    >>> fitted = havok(two_waves, delays=50, rank=4, dt=0.01)
    >>> fitted["step"].shape, fitted["drive"].shape
    ((3, 3), (1, 3))
    """
    from scipy.linalg import expm

    pydmd = soft_import("pydmd", "the Hankel alternative view of Koopman", "koopman")
    kept = principal_directions(torch.from_numpy(delay_vectors(trial, delays)), rank)[0].shape[1]
    if kept < _FEWEST_COORDINATES:
        raise InputError(
            "havok needs a coordinate for the dynamics and one for the forcing",
            expected=f"a rank of at least {_FEWEST_COORDINATES}",
            got=kept,
            fix="take more delays, or rank=None",
        )
    fitted = pydmd.HAVOK(svd_rank=kept, delays=delays).fit(trial.T, dt)
    linear = kept - 1
    axes, sizes = fitted.modes[:, :linear], fitted.singular_vals[:linear]
    drive = _held(fitted.A, fitted.B, dt)
    return {
        "encode": axes / sizes,
        "step": np.asarray(expm(fitted.A * dt), dtype=np.float64).T,
        "decode": (axes * sizes)[-trial.shape[1] :].T,
        "drive": drive.T,
        "forcing": fitted.forcing,
    }


def _held(matrix: Floats, inputs: Floats, dt: float) -> Floats:
    """Return what inputs held for one step add to the states."""
    from scipy.linalg import expm

    n_states, n_inputs = inputs.shape
    joint = np.zeros((n_states + n_inputs, n_states + n_inputs))
    joint[:n_states, :n_states], joint[:n_states, n_states:] = matrix, inputs
    return np.asarray(expm(joint * dt), dtype=np.float64)[:n_states, n_states:]


def check_one_trial(method: str, n_trials: int) -> None:
    """Raise `OptionError` where a method that takes one trial is given several.

    Examples
    --------
    >>> check_one_trial("dmdc", 3)
    """
    if method in ONE_TRIAL and n_trials > 1:
        raise OptionError(
            f"{method} takes one trial",
            expected="one trial: trials are never joined",
            got=f"{n_trials} trials",
            fix="fit each trial on its own, or take method='hankel', with regression='total_least_squares' for noise",
        )
