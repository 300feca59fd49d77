"""Systems in thermal noise, whose stationary distributions are known: diffusion in a force, and spins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import SeedLike, generator

_STEPS_AT_ONCE = 1000
_MOST_COUNTED = 20
_CHAINS, _SWEEPS, _FIRST_SWEEPS = 1000, 10, 200


def langevin(
    force: Callable[[torch.Tensor], torch.Tensor],
    start: Any,
    n_steps: int,
    dt: float = 0.01,
    temperature: float = 1.0,
    discard: int = 0,
    seed: SeedLike = 0,
) -> Floats:
    r"""Return trajectories of :math:`dx = f(x)\,dt + \sqrt{2 T}\,dW`; where f = -grad U, their density is exp(-U / T).

    Heun's method: errors of the distribution are of second order in ``dt``; those of Euler's method, of first order,
    would change rates over a barrier by several percent.

    Parameters
    ----------
    force : callable
        Takes and returns tensors of shape (n_trials, n_states); such as those of `neuros_mechint.datasets.systems`.
    start : array_like of shape (n_trials, n_states)
    n_steps : int
        That are returned.
    dt : float
    temperature : float
        kT, in units of the energy U; also the diffusion coefficient, as mobility is 1.
    discard : int
        Steps before the first that is returned.
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_trials, n_steps, n_states)

    Raises
    ------
    InputError
        Starts of another shape, or a trajectory that leaves all bounds.
    OptionError
        No steps, a negative temperature or a step of no duration.

    References
    ----------
    Kloeden and Platen 1992, Numerical solution of stochastic differential equations, doi:10.1007/978-3-662-12616-5

    Examples
    --------
    >>> from neuros_mechint.datasets.systems import double_well
    >>> trajectories = langevin(double_well, [[-1.0], [1.0]], n_steps=500, temperature=0.1)
    >>> trajectories.shape, bool((trajectories[1] > 0).all())
    ((2, 500, 1), True)
    """
    n_steps, discard = whole("n_steps", n_steps), whole("discard", discard, least=0)
    dt = number("dt", dt, 0, float("inf"))
    size = (2 * number("temperature", temperature, 0, float("inf"), closed="left") * dt) ** 0.5
    now = torch.from_numpy(real_array(start, "start"))
    if now.ndim != 2:
        raise InputError("start has no trials", expected="(n_trials, n_states)", got=f"shape {tuple(now.shape)}")
    random, found = generator(seed), np.empty((len(now), n_steps, now.shape[1]))
    noise = torch.empty(0)
    with torch.no_grad():
        for index in range(-discard, n_steps):
            at = (index + discard) % _STEPS_AT_ONCE
            if at == 0:
                noise = torch.from_numpy(size * random.normal(size=(_STEPS_AT_ONCE, *now.shape)))
            slope = force(now)
            now = now + noise[at] + dt / 2 * (slope + force(now + dt * slope + noise[at]))
            if index >= 0:
                found[:, index] = now.numpy()
    if not np.isfinite(found).all():
        raise InputError("a trajectory leaves all bounds", got=f"dt = {dt}", fix="make dt smaller")
    return found


def ising_states(fields: Any, couplings: Any, n_samples: int, seed: SeedLike = 0) -> Floats:
    r"""Return independent states of spins with energy :math:`-\sum_i h_i s_i - \sum_{i<j} J_{ij} s_i s_j`, in kT.

    Up to 20 units all states are counted out, and the draws are exact; beyond, a thousand chains of Gibbs sampling run
    200 sweeps before the first draw and 10 between two.

    Parameters
    ----------
    fields : array_like of shape (n_units,)
    couplings : array_like of shape (n_units, n_units)
        Symmetric; the diagonal is ignored.
    n_samples : int
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_samples, n_units)
        -1 and 1.

    Raises
    ------
    InputError
        Couplings that are not symmetric, or of another number of units.

    Examples
    --------
    >>> states = ising_states([0.0, 0.0], [[0.0, 0.5], [0.5, 0.0]], n_samples=20_000)
    >>> bool(abs((states[:, 0] * states[:, 1]).mean() - np.tanh(0.5)) < 0.02)
    True
    """
    h, J, n_samples = real_array(fields, "fields"), real_array(couplings, "couplings"), whole("n_samples", n_samples)
    if h.ndim != 1 or J.shape != (len(h), len(h)) or not np.allclose(J, J.T):
        raise InputError(
            "couplings do not fit",
            expected=f"a symmetric matrix for {len(h)} fields" if h.ndim == 1 else "fields (n_units,)",
            got=f"shapes {h.shape} and {J.shape}",
        )
    J, random = J - np.diag(np.diag(J)), generator(seed)
    if len(h) > _MOST_COUNTED:
        return _gibbs(h, J, n_samples, random)
    bits = np.arange(2 ** len(h))[:, None] >> np.arange(len(h)) & 1
    states = 2.0 * bits - 1
    weight = states @ h + 0.5 * ((states @ J) * states).sum(1)
    chance = np.exp(weight - weight.max())
    return states[random.choice(len(states), size=n_samples, p=chance / chance.sum())]


def _gibbs(h: Floats, J: Floats, n_samples: int, random: np.random.Generator) -> Floats:
    states = random.choice([-1.0, 1.0], size=(min(_CHAINS, n_samples), len(h)))
    found: list[Floats] = []
    for sweep in range(_FIRST_SWEEPS + _SWEEPS * -(-n_samples // len(states))):
        for unit, draws in enumerate(random.random((len(h), len(states)))):
            up = 1 / (1 + np.exp(-2 * (h[unit] + states @ J[unit])))
            states[:, unit] = np.where(draws < up, 1.0, -1.0)
        if sweep >= _FIRST_SWEEPS and (sweep - _FIRST_SWEEPS) % _SWEEPS == _SWEEPS - 1:
            found.append(states.copy())
    return np.concatenate(found)[:n_samples]
