"""What activity costs: firing rates, synaptic activity, and the ATP that a brain would spend on it."""

from __future__ import annotations

import torch

from neuros_mechint.core.errors import InputError

# Attwell and Laughlin 2001, rodent neocortex; all in molecules of ATP.
ATP_AT_REST = 3.42e8 + 1.02e8
"""Per neuron and second: resting potentials of the neuron and of its share of glia."""
ATP_PER_ACTION_POTENTIAL = 3.84e8
"""Sodium that enters with one action potential, in axon, dendrites and soma."""
VESICLES_PER_ACTION_POTENTIAL = 8000 * 0.25
"""Synapses of a neuron, times the probability that one releases."""
ATP_PER_VESICLE = 1.4e5 + 1.1e4 + 1.2e4
"""Postsynaptic currents, recycling of glutamate, presynaptic calcium."""


def rate_cost(rates: torch.Tensor) -> torch.Tensor:
    r"""Return the mean square of firing rates, :math:`\langle r^2 \rangle` over trials, time and units.

    Parameters
    ----------
    rates : torch.Tensor of shape (..., n_units)
        In any unit; the cost has its square.

    Returns
    -------
    torch.Tensor of shape ()
        Differentiable.

    Raises
    ------
    InputError
        No tensor, no or negative rates, or rates that are not finite.

    References
    ----------
    Song, H. F., Yang, G. R., & Wang, X.-J. (2016). Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks. PLoS Computational Biology, 12(2), e1004792. https://doi.org/10.1371/journal.pcbi.1004792

    Examples
    --------
    >>> rate_cost(torch.tensor([[1.0, 3.0]])).item()
    5.0
    """
    return _checked(rates).square().mean()


def synaptic_cost(rates: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    r"""Return the synaptic activity per target, :math:`\frac1n \sum_{ij} |w_{ij}| \langle r_j \rangle`.

    Every spike of a source is paid for at each of its synapses, in proportion to the current that it causes there.

    Parameters
    ----------
    rates : torch.Tensor of shape (..., n_sources)
    weights : torch.Tensor of shape (n_targets, n_sources)

    Returns
    -------
    torch.Tensor of shape ()
        In units of a weight times those of a rate; differentiable in both.

    Raises
    ------
    InputError
        Rates as for `rate_cost`, weights that do not fit them or are not finite.

    References
    ----------
    Attwell, D., & Laughlin, S. B. (2001). An energy budget for signaling in the grey matter of the brain. Journal of
    Cerebral Blood Flow and Metabolism, 21(10), 1133-1145. https://doi.org/10.1097/00004647-200110000-00001

    Examples
    --------
    >>> synaptic_cost(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0], [0.0, -4.0]])).item()
    6.5
    """
    given = _checked(rates)
    if not isinstance(weights, torch.Tensor):
        raise InputError("weights are no tensor", expected="torch.Tensor", got=type(weights).__name__)
    mean_rates = given.flatten(end_dim=-2).mean(0) if given.ndim > 1 else given
    if weights.ndim != 2 or weights.shape[1] != mean_rates.shape[0]:
        raise InputError(
            "weights and rates do not belong together",
            expected=f"weights (n_targets, {mean_rates.shape[0]})",
            got=f"shape {tuple(weights.shape)}",
        )
    if not bool(torch.isfinite(weights).all()):
        raise InputError("weights are not finite", expected="finite numbers")
    return (weights.abs() @ mean_rates).mean()


def metabolic_cost(rates: torch.Tensor) -> torch.Tensor:
    r"""Return the energy that signalling at these rates takes in rodent cortex, in ATP per neuron and second.

    With the budget of Attwell and Laughlin, :math:`4.44 \cdot 10^8 + 7.1 \cdot 10^8\, \langle r \rangle`: resting
    potentials of neurons and glia, and for each spike :math:`3.84 \cdot 10^8` for the action potential and
    :math:`1.63 \cdot 10^5` for each of 2,000 vesicles. The rates have to be in spikes per second: rates of an
    artificial network have no unit, and have to be given one first.

    Parameters
    ----------
    rates : torch.Tensor of shape (..., n_units)
        Spikes per second.

    Returns
    -------
    torch.Tensor of shape ()
        Molecules of ATP per neuron and second; differentiable.

    Raises
    ------
    InputError
        As for `rate_cost`.

    References
    ----------
    Attwell, D., & Laughlin, S. B. (2001). An energy budget for signaling in the grey matter of the brain. Journal of
    Cerebral Blood Flow and Metabolism, 21(10), 1133-1145. https://doi.org/10.1097/00004647-200110000-00001

    Examples
    --------
    >>> f"{metabolic_cost(torch.full((10,), 4.0)).item():.2e}"  # at the mean rate of the paper
    '3.28e+09'
    """
    per_spike = ATP_PER_ACTION_POTENTIAL + VESICLES_PER_ACTION_POTENTIAL * ATP_PER_VESICLE
    return ATP_AT_REST + per_spike * _checked(rates).mean()


def _checked(rates: torch.Tensor) -> torch.Tensor:
    if not isinstance(rates, torch.Tensor):
        raise InputError("rates are no tensor", expected="torch.Tensor", got=type(rates).__name__)
    if not rates.numel() or not rates.ndim:
        raise InputError("there are no rates", expected="shape (..., n_units)", got=f"shape {tuple(rates.shape)}")
    if not rates.is_floating_point() or rates.layout is not torch.strided:
        expected = "a dense tensor of floating-point numbers"
        raise InputError("rates are no real numbers", expected=expected, got=f"{rates.dtype}, {rates.layout}")
    if not bool(torch.isfinite(rates).all()):
        raise InputError("rates are not finite", expected="finite numbers", fix="remove NaN and infinity")
    if bool((rates < 0).any()):
        raise InputError(
            "rates are negative",
            expected="at least 0",
            got=f"{float(rates.min()):.4g}",
            fix="pass rates, such as relu(x), and not currents or potentials",
        )
    return rates
