"""Initial weights of networks that keep Dale's law: excitation and inhibition of every target in balance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.biophysics.dale.signs import checked_mask, checked_signs

# Of half a Gaussian: variance of weight * input over that of the Gaussian, for exponential weights of mean 1.
_VARIANCE_PER_INPUT = 1 - 1 / (2 * math.pi)


def connection_mask(
    n_targets: int, n_sources: int, density: float = 1.0, self_connections: bool = True, seed: SeedLike = 0
) -> torch.Tensor:
    """Draw which sources connect to which targets, each pair independently.

    Parameters
    ----------
    n_targets, n_sources : int
    density : float
        Probability of a connection, above 0 and up to 1.
    self_connections : bool
        Whether a unit may connect to itself, where sources and targets are the same units.
    seed : int or numpy.random.Generator

    Returns
    -------
    torch.Tensor of shape (n_targets, n_sources)
        Bool.

    Raises
    ------
    OptionError
        Parameters out of range.
    InputError
        No self-connections where sources and targets are not equally many.

    Examples
    --------
    >>> connection_mask(3, 3, self_connections=False).int().tolist()
    [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    """
    shape = whole("n_targets", n_targets), whole("n_sources", n_sources)
    density = number("density", density, 0, 1)
    mask = torch.from_numpy(generator(seed).random(shape) < density)
    if not self_connections:
        if n_targets != n_sources:
            raise InputError(
                "sources and targets are not the same units",
                expected="as many sources as targets, or self_connections=True",
                got=f"{n_sources} sources, {n_targets} targets",
            )
        mask.fill_diagonal_(False)
    return mask


def balanced_weights(
    signs: Any,
    n_targets: int,
    mask: Any = None,
    spectral_radius: float | None = None,
    seed: SeedLike = 0,
) -> torch.Tensor:
    r"""Draw exponential weights such that excitation and inhibition of a target cancel in expectation.

    Of a target with :math:`n_E` excitatory and :math:`n_I` inhibitory sources, weights have the means
    :math:`\sigma` and :math:`-\sigma n_E / n_I`. With rectified Gaussian inputs of variance :math:`s^2` (before they
    are rectified), :math:`\sigma^2 = [(1 - 1/2\pi)(n_E + n_E^2/n_I)]^{-1}` gives the sum of all inputs the variance
    :math:`s^2` again, over weights and inputs. A target without sources of one kind cannot be balanced; its weights
    have the scale :math:`[(1 - 1/2\pi) n]^{-1/2}`.

    Parameters
    ----------
    signs : array of shape (n_sources,)
        1 or -1.
    n_targets : int
    mask : array of shape (n_targets, n_sources), optional
        Bool: where there is a connection.
    spectral_radius : float, optional
        Largest modulus of an eigenvalue: all weights are scaled to it. Only for as many targets as sources.
    seed : int or numpy.random.Generator

    Returns
    -------
    torch.Tensor of shape (n_targets, n_sources)
        In torch's default precision.

    Raises
    ------
    InputError
        A spectral radius of a matrix that is not square or has none (no loop of connections), signs other than 1 and
        -1, or a mask that does not fit.
    OptionError
        A spectral radius that is not positive, or one whose weights torch's default precision cannot hold.

    References
    ----------
    Song, H. F., Yang, G. R., & Wang, X.-J. (2016). Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks. PLoS Computational Biology, 12(2), e1004792. https://doi.org/10.1371/journal.pcbi.1004792
    Cornford, J. et al. (2021). Learning to live with Dale's principle. ICLR.
    https://openreview.net/forum?id=eU776ZYxEpz

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.dale.signs import source_signs
    >>> weights = balanced_weights(source_signs(100), 100, spectral_radius=0.9)
    >>> round(float(torch.linalg.eigvals(weights).abs().max()), 4)
    0.9
    """
    n_targets = whole("n_targets", n_targets)
    sign = checked_signs(signs, "signs").double().cpu().numpy()
    allowed = checked_mask(mask, n_targets, len(sign))
    connected = np.ones((n_targets, len(sign)), bool) if allowed is None else allowed.cpu().numpy()
    means = _means(sign, connected)
    weights = generator(seed).exponential(size=means.shape) * means
    if spectral_radius is not None:
        weights *= number("spectral_radius", spectral_radius, 0, math.inf, closed="neither") / _radius(weights)
    drawn = torch.from_numpy(weights).to(torch.get_default_dtype())
    if not bool(torch.isfinite(drawn).all()) or not bool(drawn.any()):
        expected = f"weights that {drawn.dtype} can hold"
        raise OptionError("spectral_radius is out of range", expected=expected, got=repr(spectral_radius))
    return drawn


def _means(signs: Floats, connected: np.ndarray) -> Floats:
    """Return the mean of each weight: 0 where there is no connection."""
    excitatory = connected & (signs > 0)
    n_excitatory, n_all = excitatory.sum(1, keepdims=True), connected.sum(1, keepdims=True)
    n_inhibitory = n_all - n_excitatory
    both = (n_excitatory > 0) & (n_inhibitory > 0)
    ratio = np.where(both, n_excitatory / np.maximum(n_inhibitory, 1), 1.0)
    spread = np.where(both, n_excitatory * (1 + ratio), n_all)
    scale = 1 / np.sqrt(_VARIANCE_PER_INPUT * np.maximum(spread, 1))
    return connected * signs * np.where(signs > 0, scale, scale * ratio)


def _radius(weights: Floats) -> float:
    if weights.shape[0] != weights.shape[1]:
        raise InputError(
            "only a square matrix has a spectral radius",
            expected="as many targets as sources, or spectral_radius=None",
            got=f"{weights.shape[0]} targets, {weights.shape[1]} sources",
        )
    radius = float(np.abs(np.linalg.eigvals(weights)).max())
    if radius <= 1e-6 * np.abs(weights).max():
        raise InputError(
            "these connections have no spectral radius to set",
            expected="a mask with loops of connections",
            got=f"a radius of {radius:.2g}",
        )
    return radius
