"""How noisy the gradient is, as the size of a batch at which noise and signal are equal."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.training.norms import squared_lengths
from neuros_mechint.training.objective import Loss, Objective, differentiable
from neuros_mechint.training.results import NoiseScale
from neuros_mechint.training.undisturbed import undisturbed

PARTS = 4
"""Parts of a probe whose gradients a tracker compares."""
_CERTAIN = 0.5


class Parts(NamedTuple):
    """Gradients of the parts of a probe, and what they make together."""

    loss: float
    """Of all samples."""
    total: list[torch.Tensor]
    """The gradient of the mean loss over all samples."""
    squares: Floats
    """Squared length of each part's gradient."""
    sizes: Floats
    """Samples of each part."""


def part_gradients(objective: Objective, n_parts: int) -> Parts:
    """Return the gradient of a loss from parts of the samples, without keeping those of the parts.

    Examples
    --------
    >>> import torch
    >>> line = torch.nn.Linear(1, 1, bias=False)
    >>> objective = Objective(line, torch.ones(4, 1), torch.zeros(4, 1), torch.nn.functional.mse_loss)
    >>> part_gradients(objective, 2).sizes.tolist()
    [2.0, 2.0]
    """
    loss, squares, sizes = 0.0, [], []
    total = [torch.zeros_like(weight) for weight in objective.weights]
    for start, stop in part_edges(objective.n_samples, n_parts):
        own, gradient = objective.gradient(start, stop)
        share = (stop - start) / objective.n_samples
        loss += share * own
        for sum_, part in zip(total, gradient, strict=True):
            sum_.add_(part, alpha=share)
        squares.append(squared_lengths(gradient).sum())
        sizes.append(float(stop - start))
    return Parts(loss, total, np.array(squares), np.array(sizes))


def part_edges(n_samples: int, n_parts: int) -> list[tuple[int, int]]:
    """Return where parts of nearly equal size begin and end.

    Examples
    --------
    >>> part_edges(5, 2)
    [(0, 2), (2, 5)]
    """
    edges = [part * n_samples // n_parts for part in range(n_parts + 1)]
    return list(pairwise(edges))


def signal_and_noise(total: Any, squares: Floats, sizes: Floats) -> tuple[Any, Any]:
    r"""Return unbiased estimates of :math:`|G|^2` and of the trace of the covariance of one sample's gradient.

    Parameters
    ----------
    total : float or numpy.ndarray
        Squared length of the mean gradient of all samples.
    squares : numpy.ndarray of shape (..., n_parts)
        Squared length of the gradient of each part.
    sizes : numpy.ndarray of shape (..., n_parts)
        Samples of each part.

    Examples
    --------
    >>> signal, noise = signal_and_noise(1.0, np.array([2.0, 2.0]), np.array([10.0, 10.0]))
    >>> float(signal), float(noise)  # parts of 10 samples differ as much as noise of 20 makes them
    (0.0, 20.0)
    """
    n_samples = sizes.sum(-1)
    noise = (squares.mean(-1) - total) / ((1 / sizes).mean(-1) - 1 / n_samples)
    signal = total - noise / n_samples
    return signal, noise


def scale_of(signal: Any, noise: Any) -> Any:
    """Return noise over signal: infinite where no signal is left, zero where there is no noise, NaN without both.

    Examples
    --------
    >>> float(scale_of(2.0, 10.0)), float(scale_of(-1.0, 10.0)), float(scale_of(0.0, 0.0))
    (5.0, inf, nan)
    """
    signal, noise = np.maximum(signal, 0), np.maximum(noise, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(noise, signal)


def gradient_noise_scale(
    model: Any,
    inputs: Any,
    targets: Any = None,
    loss: Loss | None = None,
    n_parts: int = 16,
    level: float = 0.95,
) -> NoiseScale:
    r"""Return the simple noise scale: the trace of the gradient's covariance over its squared length.

    Parameters
    ----------
    model : Adapter or torch.nn.Module
        Looked at in eval mode, and left as it was.
    inputs : tensor, tuple or dict
        Independent samples that the model takes.
    targets : tensor, tuple or dict, optional
        One row per sample.
    loss : callable, optional
        ``loss(output, targets)`` or, without targets, ``loss(output)``: the mean over samples. By default the output's
        own field ``loss``.
    n_parts : int
        Parts of the samples whose gradients are compared, at least 4. More give a surer answer and take longer.
    level : float
        Coverage of the interval.

    Returns
    -------
    NoiseScale
        With ``.value`` in samples, ``.error`` and ``.interval``. Infinite where the mean gradient is lost in the noise,
        NaN where there is no gradient at all.

    Raises
    ------
    InputError
        Fewer samples than parts, a loss that is no mean over samples, or a gradient that is not finite.
    OptionError, CapabilityError

    References
    ----------
    McCandlish et al. 2018, An empirical model of large-batch training, doi:10.48550/arXiv.1812.06162

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> random = torch.Generator().manual_seed(0)
    >>> x = torch.randn(4000, 10, generator=random)
    >>> line = torch.nn.Linear(10, 1, bias=False)
    >>> _ = torch.nn.init.ones_(line.weight)  # the truth is 0: signal 10, noise 11 * 10
    >>> found = gradient_noise_scale(line, x, torch.zeros(4000, 1), lambda y, t: (y - t).square().mean() / 2)
    >>> abs(found.value - 11) < 2 * found.error + 0.5
    True
    """
    n_parts, level = whole("n_parts", n_parts, 4), coverage(level)
    objective = Objective(model, inputs, targets, loss)
    if objective.n_samples < n_parts:
        raise InputError(
            "there are fewer samples than parts", expected=f"at least {n_parts}", got=f"{objective.n_samples} samples"
        )
    with undisturbed(objective.module), differentiable(objective.module):
        parts = part_gradients(objective, n_parts)
        if not (np.isfinite(parts.loss) and np.isfinite(parts.squares).all()):
            raise InputError("the gradient of the loss is not finite here", got=f"a loss of {parts.loss:.4g}")
        along = _products(objective, parts, n_parts)
    square = float(squared_lengths(parts.total).sum())
    signal, noise = signal_and_noise(square, parts.squares, parts.sizes)
    without = _without_each(square, along, parts)
    value = float(scale_of(signal, noise))
    error = float(jackknife_error(scale_of(*without)))
    reach = t_reach(error, n_parts - 1, level)
    scalars = {
        "noise_scale": (value, "noise scale"),
        "error": (error, "standard error"),
        "low": (max(value - reach, 0.0), "lower end"),
        "high": (value + reach, "upper end"),
    }
    data = xr.Dataset(
        {name: ((), one, {"long_name": text, "units": "samples"}) for name, (one, text) in scalars.items()}
    )
    return NoiseScale(
        data.assign(signal=((), float(signal), {"long_name": "squared gradient"})).assign(
            noise=((), float(noise), {"long_name": "trace of the covariance of one sample's gradient"})
        ),
        "Gradient noise scale",
        attributes={"n_samples": objective.n_samples, "n_parts": n_parts, "level": level, "loss": parts.loss},
        provenance=Provenance.record(
            model=objective.adapter.fingerprint(), arguments={"inputs": inputs, "targets": targets, "n_parts": n_parts}
        ),
        citations=("mccandlish2018",),
        warnings=tuple(_cautions(value, error, objective.n_samples)),
    )


def _products(objective: Objective, parts: Parts, n_parts: int) -> Floats:
    """Return the product of each part's gradient with that of all: a second pass, so that none need be kept."""
    found = []
    for start, stop in part_edges(objective.n_samples, n_parts):
        _, gradient = objective.gradient(start, stop)
        found.append(sum(float((a.double() * b.double()).sum()) for a, b in zip(gradient, parts.total, strict=True)))
    return np.array(found)


def _without_each(square: float, along: Floats, parts: Parts) -> tuple[Floats, Floats]:
    """Return signal and noise without each part in turn."""
    share = parts.sizes / parts.sizes.sum()
    totals = (square - 2 * share * along + share**2 * parts.squares) / (1 - share) ** 2
    others = ~np.eye(len(share), dtype=bool)
    squares, sizes = (np.stack([values[row] for row in others]) for values in (parts.squares, parts.sizes))
    return signal_and_noise(totals, squares, sizes)


def _cautions(value: float, error: float, n_samples: int) -> list[str]:
    if np.isnan(value):
        return [
            "no sample has any gradient here: every one is at its own minimum, or units are dead; there is neither "
            "signal nor noise"
        ]
    if not np.isfinite(value):
        return [
            f"the gradient of {n_samples} samples is lost in their noise: the noise scale is much larger than "
            f"{n_samples} samples; take more"
        ]
    if not error < _CERTAIN * value:
        return [f"{n_samples} samples leave the noise scale uncertain: its error is {error:.2g}; take more samples"]
    return []
