"""Multiplicative cascades: positive signals that are multifractal by construction."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import OptionError, check_option, number, whole
from neuros_mechint.core.random import SeedLike, generator

KINDS = ("binomial", "lognormal")
_SHARE = 0.75
_SIGMA = 0.4
_MOST_LEVELS = 26
# Beyond it almost all of the measure ends up in nowhere: the limit is 0 with probability 1.
_MOST_SIGMA = sqrt(2 * log(2))


def multiplicative_cascade(
    n_levels: int,
    kind: str = "binomial",
    p: float | None = None,
    sigma: float | None = None,
    n_channels: int = 1,
    shuffle: bool = True,
    seed: SeedLike = 0,
) -> torch.Tensor:
    r"""Return positive signals of mean 1 that are multifractal by construction.

    An interval is cut into halves, again and again, and each half multiplies what it holds by a weight. Sums over
    windows of :math:`s` samples, to the power :math:`q`, are proportional to :math:`s^{1 + \tau(q)}` on average, and
    the generalised Hurst exponent is :math:`h(q) = (1 + \tau(q)) / q`:

    - ``"binomial"``: one half gets the share ``p``, the other ``1 - p``;
      :math:`h(q) = \frac1q - \frac{\log_2(p^q + (1 - p)^q)}{q}`.
    - ``"lognormal"``: all weights are independent, :math:`\ln W \sim N(-\sigma^2/2, \sigma^2)`;
      :math:`h(q) = 1 - \frac{(q - 1)\,\sigma^2}{2 \ln 2}`, as long as :math:`|q| < \sqrt{2 \ln 2} / \sigma`
      (beyond, one signal is ruled by its largest or smallest value and :math:`\tau` is a straight line).

    Parameters
    ----------
    n_levels : int
        How often to cut: the signals have ``2 ** n_levels`` samples. At most 26.
    kind : {"binomial", "lognormal"}
    p : float, optional
        Of the binomial cascade, between 0 and 1: the share of one half, 0.75 if not given. 0.5 is a constant signal.
    sigma : float, optional
        Of the log-normal cascade, above 0 and below ``sqrt(2 * ln(2))``: the standard deviation of the logarithm of
        the weights, 0.4 if not given.
    n_channels : int
        Independent signals.
    shuffle : bool
        Of the binomial cascade: draw at each cut which half gets the share ``p``. Without, it is always the first,
        and the signal, alike in all channels, is the classical one.
    seed : int or numpy.random.Generator

    Returns
    -------
    torch.Tensor of shape (n_channels, 2 ** n_levels)
        In float64, each channel with mean 1.

    Raises
    ------
    OptionError
        Unknown kind, a parameter of the other kind, or one out of range.

    References
    ----------
    Meneveau and Sreenivasan 1987, Simple multifractal cascade model for fully developed turbulence,
    doi:10.1103/PhysRevLett.59.1424; Kantelhardt et al. 2002, Multifractal detrended fluctuation analysis of
    nonstationary time series, doi:10.1016/S0378-4371(02)01383-3; Calvet and Fisher 2002, Multifractality in asset
    returns, doi:10.1162/003465302320259420

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.multiplicative_cascade(2, p=0.75, shuffle=False)[0]  # 4 * (.75 * .75, .75 * .25, .25 * .75, .25 * .25)
    tensor([2.2500, 0.7500, 0.7500, 0.2500], dtype=torch.float64)
    """
    check_option("kind", kind, KINDS)
    n_levels, n_channels = whole("n_levels", n_levels), whole("n_channels", n_channels)
    if n_levels > _MOST_LEVELS:
        raise OptionError("n_levels is too large", expected=f"at most {_MOST_LEVELS}, {2**_MOST_LEVELS} samples")
    binomial = kind == "binomial"
    if (sigma if binomial else p) is not None or not (binomial or shuffle):
        raise OptionError(
            f"this is no parameter of the {kind} cascade",
            expected="p and shuffle for 'binomial', sigma for 'lognormal'",
            got=f"p={p!r}, sigma={sigma!r}, shuffle={shuffle!r}",
        )
    random, signals = generator(seed), np.ones((n_channels, 1))
    share = number("p", _SHARE if p is None else p, 0, 1, closed="neither")
    spread = number("sigma", _SIGMA if sigma is None else sigma, 0, _MOST_SIGMA, closed="neither")
    for _ in range(n_levels):
        weights = _halves(share, signals.shape, shuffle, random) if binomial else _normal(spread, signals.shape, random)
        signals = (signals[..., None] * weights).reshape(n_channels, -1)
    return torch.from_numpy(signals / signals.mean(-1, keepdims=True))


def _halves(share: float, shape: tuple[int, ...], shuffle: bool, random: np.random.Generator) -> Floats:
    first = np.full(shape, share)
    if shuffle:
        first = np.where(random.integers(2, size=shape) == 1, share, 1 - share)
    return 2 * np.stack([first, 1 - first], axis=-1)


def _normal(spread: float, shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    return np.exp(spread * random.standard_normal((*shape, 2)) - spread**2 / 2)
