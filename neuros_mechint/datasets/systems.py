"""Dynamical systems from textbooks, as derivatives and maps of states ``(..., n_states)`` in torch."""

from __future__ import annotations

import torch


def lorenz(state: torch.Tensor, sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> torch.Tensor:
    """Return the derivative of the Lorenz system, chaotic by default: exponents 0.906, 0 and -14.572.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 3)
    sigma, rho, beta : float

    Returns
    -------
    torch.Tensor of shape (..., 3)

    References
    ----------
    Lorenz 1963, Deterministic nonperiodic flow, doi:10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2

    Examples
    --------
    >>> lorenz(torch.ones(1, 3)).tolist()
    [[0.0, 26.0, -1.667]]
    """
    x, y, z = state.unbind(-1)
    return torch.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z], dim=-1)


def rossler(state: torch.Tensor, a: float = 0.2, b: float = 0.2, c: float = 5.7) -> torch.Tensor:
    """Return the derivative of the Rössler system, chaotic by default: exponents 0.0714, 0 and -5.394.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 3)
    a, b, c : float

    Returns
    -------
    torch.Tensor of shape (..., 3)

    References
    ----------
    Rössler 1976, An equation for continuous chaos, doi:10.1016/0375-9601(76)90101-8

    Examples
    --------
    >>> rossler(torch.ones(1, 3)).tolist()
    [[-2.0, 1.2, -4.5]]
    """
    x, y, z = state.unbind(-1)
    return torch.stack([-y - z, x + a * y, b + z * (x - c)], dim=-1)


def van_der_pol(state: torch.Tensor, mu: float = 1.0) -> torch.Tensor:
    """Return the derivative of the Van der Pol oscillator: one stable limit cycle, of 0.94296 rad/s for ``mu`` = 1.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 2)
        Position and velocity.
    mu : float
        Strength of the nonlinear damping.

    Returns
    -------
    torch.Tensor of shape (..., 2)

    References
    ----------
    van der Pol 1926, On relaxation-oscillations, doi:10.1080/14786442608564127

    Examples
    --------
    >>> van_der_pol(torch.tensor([[2.0, 1.0]])).tolist()
    [[1.0, -5.0]]
    """
    x, v = state.unbind(-1)
    return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)


def duffing(state: torch.Tensor, damping: float = 0.5) -> torch.Tensor:
    """Return the derivative of the Duffing oscillator without drive: two wells at -1 and 1, a saddle at 0.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 2)
        Position and velocity.
    damping : float

    Returns
    -------
    torch.Tensor of shape (..., 2)

    References
    ----------
    Guckenheimer & Holmes 1983, Nonlinear oscillations, dynamical systems, and bifurcations of vector fields,
    doi:10.1007/978-1-4612-1140-2

    Examples
    --------
    >>> duffing(torch.tensor([[1.0, 0.0]])).abs().max().item()
    0.0
    """
    x, v = state.unbind(-1)
    return torch.stack([v, x - x**3 - damping * v], dim=-1)


def double_well(state: torch.Tensor) -> torch.Tensor:
    """Return the force of the double well (x^2 - 1)^2: minima at -1 and 1, a barrier of 1 between them at 0.

    Parameters
    ----------
    state : torch.Tensor of shape (..., n_states)
        The first coordinate moves in the double well, each other one in a parabola y^2 / 2.

    Returns
    -------
    torch.Tensor of shape (..., n_states)

    References
    ----------
    Kramers 1940, Brownian motion in a field of force and the diffusion model of chemical reactions,
    doi:10.1016/S0031-8914(40)90098-2

    Examples
    --------
    >>> double_well(torch.tensor([[-1.0], [0.0], [2.0]])).flatten().tolist()
    [0.0, 0.0, -24.0]
    """
    first = state[..., :1]
    return torch.cat([-4 * first * (first**2 - 1), -state[..., 1:]], dim=-1)


def rotating_decay(state: torch.Tensor, decay: float = 1.0, rotation: float = 1.5) -> torch.Tensor:
    """Return the derivative of a plane that decays to its centre while it turns.

    With noise of variance 2 D per unit of time in each coordinate the stationary density is normal, of variance
    D / ``decay``, and turns for ever: entropy is produced at the rate 2 ``rotation``^2 / ``decay``.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 2)
    decay, rotation : float
        Per unit of time, and in radians per unit of time.

    Returns
    -------
    torch.Tensor of shape (..., 2)

    References
    ----------
    Seifert 2012, Stochastic thermodynamics, fluctuation theorems and molecular machines,
    doi:10.1088/0034-4885/75/12/126001

    Examples
    --------
    >>> rotating_decay(torch.tensor([[1.0, 0.0]])).tolist()
    [[-1.0, 1.5]]
    """
    x, y = state.unbind(-1)
    return torch.stack([-decay * x - rotation * y, rotation * x - decay * y], dim=-1)


def henon_map(state: torch.Tensor, a: float = 1.4, b: float = 0.3) -> torch.Tensor:
    """Return the next state of the Hénon map, chaotic by default: exponents 0.419 and -1.623, whose sum is ln ``b``.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 2)
    a, b : float

    Returns
    -------
    torch.Tensor of shape (..., 2)

    References
    ----------
    Hénon 1976, A two-dimensional mapping with a strange attractor, doi:10.1007/BF01608556

    Examples
    --------
    >>> henon_map(torch.tensor([[1.0, 0.0]])).tolist()
    [[-0.4, 0.3]]
    """
    x, y = state.unbind(-1)
    return torch.stack([1 - a * x**2 + y, b * x], dim=-1)


def logistic_map(state: torch.Tensor, r: float = 4.0) -> torch.Tensor:
    """Return the next state of the logistic map, chaotic by default: its exponent is ln 2.

    Parameters
    ----------
    state : torch.Tensor of shape (..., 1)
        Between 0 and 1.
    r : float
        Growth rate, up to 4.

    Returns
    -------
    torch.Tensor of shape (..., 1)

    References
    ----------
    May 1976, Simple mathematical models with very complicated dynamics, doi:10.1038/261459a0

    Examples
    --------
    >>> logistic_map(torch.tensor([[0.25]])).item()
    0.75
    """
    return r * state * (1 - state)
