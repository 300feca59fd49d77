"""Kernels and amplitudes where it is known when events begin: two convex problems, in turn until they agree."""

from __future__ import annotations

import torch

from neuros_mechint.neuro.circuits.dunl.amplitudes import Amplitudes, fit_amplitudes
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels, fit_kernels
from neuros_mechint.neuro.circuits.dunl.links import Link

_FIRST_STEPS = 25
_MOST_ROUNDS = 60
_LEAST_VARIANCE = 1e-4
_SETTLED = 1e-4  # of a kernel whose peak is 1


def codes_at_events(
    values: torch.Tensor,
    support: torch.Tensor,
    kernels: Kernels,
    link: Link,
    nonnegative: bool = True,
    weights: torch.Tensor | None = None,
    prior: Amplitudes | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most probable codes of every neuron among those that are zero outside of a mask.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    support : torch.Tensor of bool, of shape (n_trials, n_kernels, n_times) or (n_neurons, ...)
    kernels : Kernels
    link : Link
    nonnegative : bool
    weights : torch.Tensor of shape (n_neurons, n_trials, n_times), optional
    prior : Amplitudes, optional
        Of each neuron: ``(n_neurons, n_kernels)``.

    Returns
    -------
    codes, variance : torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> kernels = Kernels(torch.ones(1, 1).double(), torch.zeros(2).double())
    >>> values = torch.tensor([[[1.01, 0.0]], [[2.02, 0.0]]]).double()
    >>> support = torch.tensor([[[True, False]]])
    >>> codes_at_events(values, support, kernels, link_of("gaussian"))[0][:, 0, 0, 0].tolist()
    [1.0, 2.0]
    """
    found = []
    for neuron in range(len(values)):
        shapes = kernels.shapes if kernels.shapes.ndim == 2 else kernels.shapes[neuron]
        mask = support if support.ndim == 3 else support[neuron]
        own = None if weights is None else weights[neuron]
        baseline = kernels.baseline[neuron]
        its_prior = None if prior is None else Amplitudes(prior.mean[neuron], prior.variance[neuron])
        found.append(fit_amplitudes(values[neuron], mask, shapes, baseline, link, nonnegative, own, its_prior))
    codes, variance = zip(*found, strict=True)
    return torch.stack(codes), torch.stack(variance)


def spread_of(codes: torch.Tensor, variance: torch.Tensor, support: torch.Tensor) -> Amplitudes:
    """Return how amplitudes of each neuron and kernel are distributed, from estimates and variances: one step of EM.

    Examples
    --------
    >>> import torch
    >>> support = torch.tensor([[[True, True]]])
    >>> found = spread_of(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.5, 0.5]]]]), support)
    >>> found.mean.tolist(), found.variance.tolist()
    ([[2.0]], [[1.5]])
    """
    n_events = support.expand(codes.shape).sum((1, 3))
    mean = codes.sum((1, 3)) / n_events
    squares = ((codes - mean[:, None, :, None]).square() + variance) * support
    return Amplitudes(mean, (squares.sum((1, 3)) / n_events).clamp_min(_LEAST_VARIANCE))


def with_peak_one(kernels: Kernels, codes: torch.Tensor) -> tuple[Kernels, torch.Tensor]:
    """Return kernels whose largest absolute value is 1, and codes that make the same drive; flat kernels stay.

    Examples
    --------
    >>> import torch
    >>> kernels, codes = with_peak_one(Kernels(torch.tensor([[2.0, -4.0]]), torch.zeros(1)), torch.ones(1, 1, 1, 1))
    >>> kernels.shapes.tolist(), codes.item()
    ([[0.5, -1.0]], 4.0)
    """
    peak = kernels.shapes.abs().amax(-1)
    peak = torch.where(peak > 0, peak, 1.0)
    by_neuron = peak.expand(len(codes), -1) if peak.ndim == 1 else peak
    return kernels._replace(shapes=kernels.shapes / peak[..., None]), codes * by_neuron[:, None, :, None]


def fit_known_events(
    values: torch.Tensor,
    support: torch.Tensor,
    kernel_length: int,
    link: Link,
    per_neuron: bool = False,
    smoothness: float = 3.0,
    nonnegative: bool = True,
    weights: torch.Tensor | None = None,
) -> tuple[Kernels, torch.Tensor, Amplitudes]:
    """Return kernels and codes fitted to data, given where events may be.

    All events of a kernel are equally large at first, which makes the first kernels the solution of a generalised
    linear model. Amplitudes of a kernel are normal, of a mean and variance that are estimated with them: where a trial
    says little, an event is as large as others, and its noise does not get into the kernel.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    support : torch.Tensor of bool, of shape (n_trials, n_kernels, n_times)
    kernel_length : int
    link : Link
    per_neuron : bool
        Whether each neuron has kernels of its own.
    smoothness : float
        See `fit_kernels`.
    nonnegative : bool
        Whether no code may be negative.
    weights : torch.Tensor of shape (n_neurons, n_trials, n_times), optional

    Returns
    -------
    kernels : Kernels
        Their peaks are 1.
    codes : torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)
    prior : Amplitudes

    References
    ----------
    Neyman and Scott 1948, Consistent estimates based on partially consistent observations, doi:10.2307/1914288

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> support = torch.zeros(2, 1, 60, dtype=torch.bool)
    >>> support[:, 0, ::15] = True
    >>> truth = Kernels(torch.tensor([[1.0, 0.5]]).double(), torch.ones(1).double())
    >>> values = truth.drive(3 * support[None].double())
    >>> kernels, codes, _ = fit_known_events(values, support, 2, link_of("gaussian"), smoothness=0.0)
    >>> kernels.shapes.round(decimals=2).tolist(), round(codes.max().item(), 1)
    ([[1.0, 0.5]], 3.0)
    """
    n_neurons, (_, n_kernels, _) = len(values), support.shape
    codes = support.to(values.dtype).expand(n_neurons, -1, -1, -1)
    shape = (n_neurons, n_kernels, kernel_length) if per_neuron else (n_kernels, kernel_length)
    kernels = Kernels(values.new_zeros(shape), link.drive(values.mean((1, 2))))
    kernels = fit_kernels(values, codes, kernels, link, smoothness, _FIRST_STEPS, weights)
    kernels, codes = with_peak_one(kernels, codes)
    prior = Amplitudes(codes.amax((1, 3)), values.new_ones(n_neurons, n_kernels))
    for _ in range(_MOST_ROUNDS):
        before = kernels.shapes
        codes, variance = codes_at_events(values, support, kernels, link, nonnegative, weights, prior)
        unscaled = fit_kernels(values, codes, kernels, link, smoothness, weights=weights)
        kernels, codes = with_peak_one(unscaled, codes)
        deviation = with_peak_one(unscaled, variance.sqrt())[1]
        prior = spread_of(codes, deviation.square(), support)
        if (kernels.shapes - before).abs().max() < _SETTLED:
            break
    return kernels, codes_at_events(values, support, kernels, link, nonnegative, weights, prior)[0], prior
