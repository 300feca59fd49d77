"""Mean-field theory of leaky integrate-and-fire neurons: their rate under noise, and that of networks of them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, number
from neuros_mechint.core.numbers import real_array

_MOST_ROUNDS = 20_000
_RELAXATION = 0.05
_RUNAWAY = 1e9
"""Times the external input or the threshold that the mean input reaches only where nothing holds the rates."""
_CONVERGED = 1e-9
_FAR = 26.0
"""Standard deviations to the threshold from which the rate is below 1e-290 per time constant."""
_DRIVEN = 1e6
"""Standard deviations of the mean above the threshold from which noise changes no digit of the rate."""
_POISSON = 15.0
"""Standard deviations to the threshold from which the intervals are those of a Poisson process, to rounding."""


def lif_rate(
    mean: float, sd: float, *, tau: float, threshold: float, reset: float = 0.0, refractory: float = 0.0
) -> float:
    r"""Return the rate of a leaky integrate-and-fire neuron whose input is white noise.

    The neuron is :math:`\tau \dot v = \mu - v + \sigma \sqrt{\tau} \eta(t)`, and its rate (Siegert 1951; as Brunel 2000
    writes it)

    .. math:: \nu^{-1} = t_{ref} + \tau \sqrt{\pi}
        \int_{(v_r - \mu) / \sigma}^{(\theta - \mu) / \sigma} e^{u^2} (1 + \mathrm{erf}\, u)\, du

    Parameters
    ----------
    mean, sd : float
        :math:`\mu` and :math:`\sigma`, in the unit of the potential. The potential of a neuron without a threshold
        would have the standard deviation :math:`\sigma / \sqrt 2`. Without noise (0) it is the rate of a clock.
    tau, refractory : float
        Time constant of the membrane, and how long it is held at its reset; both in the unit of time.
    threshold, reset : float
        Potentials relative to rest.

    Returns
    -------
    float
        Spikes per unit of time: per ms if ``tau`` is in ms.

    Raises
    ------
    OptionError
        A number out of range, a reset that is not below the threshold, or a neuron that fires without a pause.

    References
    ----------
    Siegert 1951, On the first passage time probability problem, doi:10.1103/PhysRev.81.617
    Brunel 2000, Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons,
    doi:10.1023/A:1008925309027

    Examples
    --------
    >>> round(1000 * lif_rate(15.0, 5.0, tau=20.0, threshold=20.0, reset=10.0, refractory=2.0), 2)  # Hz
    9.46
    >>> round(lif_rate(2.0, 0.0, tau=1.0, threshold=1.0) * math.log(2), 12)  # a clock: 1 / (tau ln 2)
    1.0
    """
    mean, sd, tau, threshold, reset, refractory = _checked(mean, sd, tau, threshold, reset, refractory)
    low, high = _bounds(mean, sd, threshold, reset)
    silent = high > _FAR if sd else high >= 0
    if silent:
        return 0.0
    if not sd or high < -_DRIVEN:
        # the logarithm of low / high, with no digit lost where both are large
        interval = refractory + tau * math.log1p((threshold - reset) / (mean - threshold))
    else:
        interval = refractory + tau * math.sqrt(math.pi) * _first_passage(low, high)
    if interval < sys.float_info.min:
        raise OptionError(
            "the neuron fires without a pause",
            expected="a mean input nearer to the threshold, or a refractory time",
            got=f"mean {mean:.4g} for a threshold of {threshold:.4g}",
        )
    return 1 / interval


def lif_interval_cv(
    mean: float, sd: float, *, tau: float, threshold: float, reset: float = 0.0, refractory: float = 0.0
) -> float:
    r"""Return the coefficient of variation of the intervals of the neuron that `lif_rate` is about.

    .. math:: CV^2 = 2 \pi (\nu \tau)^2 \int_{(v_r - \mu) / \sigma}^{(\theta - \mu) / \sigma} e^{x^2}
        \int_{-\infty}^x e^{y^2} (1 + \mathrm{erf}\, y)^2\, dy\, dx

    Parameters
    ----------
    mean, sd, tau, threshold, reset, refractory
        As for `lif_rate`.

    Returns
    -------
    float
        0 without noise, near 1 far below threshold; NaN where the rate is 0.

    Raises
    ------
    OptionError
        As for `lif_rate`.

    References
    ----------
    Brunel 2000, doi:10.1023/A:1008925309027

    Examples
    --------
    >>> round(lif_interval_cv(25.0, 5.0, tau=20.0, threshold=20.0, reset=10.0), 3)
    0.482
    """
    from scipy.integrate import quad
    from scipy.special import erfcx

    rate = lif_rate(mean, sd, tau=tau, threshold=threshold, reset=reset, refractory=refractory)
    if not rate:
        return math.nan
    mean, sd, tau, threshold, reset, _ = _checked(mean, sd, tau, threshold, reset, refractory)
    low, high = _bounds(mean, sd, threshold, reset)
    if not sd:
        return 0.0
    if high > _POISSON:
        return 1.0
    if high < -_DRIVEN:  # where erfcx(x) is 1 / (sqrt(pi) x)
        return rate * tau * math.sqrt((threshold - reset) / sd / (high * low) * -(1 / high + 1 / low) / 2)

    # with y = x - s all exponents are bounded: e^{x^2} e^{y^2} (1 + erf y)^2 = erfcx(-y)^2 e^{x^2 - y^2}
    def inner(x: float) -> float:
        unit = 1 / (1 + abs(x))  # in which the integrand falls off

        def at(s: float) -> float:
            return erfcx(s - x) ** 2 * math.exp(2 * x * s - s * s)

        return unit * quad(lambda r: at(r * unit), 0, math.inf, epsabs=0, epsrel=1e-8)[0]

    double = quad(inner, low, high, epsabs=0, epsrel=1e-7, limit=200)[0]
    return math.sqrt(2 * math.pi * double) * rate * tau


@dataclass(frozen=True)
class MeanField:
    """Rates of the populations of a network that agree with the input they give each other.

    Parameters
    ----------
    rates : numpy.ndarray of shape (n_populations,)
        Spikes per unit of time.
    mean, sd : numpy.ndarray of shape (n_populations,)
        Of the input of a neuron, as `lif_rate` takes them.
    interval_cv : numpy.ndarray of shape (n_populations,)
        Coefficient of variation of the intervals; NaN where nothing fires.
    """

    rates: Floats
    mean: Floats
    sd: Floats
    interval_cv: Floats


def mean_field_rates(
    in_degrees: Any,
    efficacies: Any,
    *,
    external_mean: Any,
    external_sd: Any,
    tau: float,
    threshold: float,
    reset: float = 0.0,
    refractory: float = 0.0,
) -> MeanField:
    r"""Return the stationary rates of a network of leaky integrate-and-fire neurons with sparse random connections.

    A spike of population :math:`b` makes the potential of a neuron in :math:`a` jump by :math:`J_{ab}`. If spikes are
    many, weak and independent, a neuron's input is white noise with

    .. math:: \mu_a = \mu_a^{ext} + \tau \sum_b C_{ab} J_{ab} \nu_b, \quad
        \sigma_a^2 = (\sigma_a^{ext})^2 + \tau \sum_b C_{ab} J_{ab}^2 \nu_b,

    and its rate is :math:`\nu_a` = `lif_rate` of both. The rates are followed from silence,
    :math:`\dot \nu_a = -\nu_a + \mathrm{rate}(\mu_a, \sigma_a)`, until they stand still.

    Parameters
    ----------
    in_degrees, efficacies : array of shape (n_populations, n_populations)
        How many connections a neuron of the row gets from the column, and how far each shifts its potential (negative
        for inhibition).
    external_mean, external_sd : array of shape (n_populations,)
        Of the input from outside: for ``C`` independent Poisson trains of ``rate`` and jumps ``J`` these are
        ``tau C J rate`` and ``J sqrt(tau C rate)``.
    tau, threshold, reset, refractory : float
        As for `lif_rate`, of all neurons.

    Returns
    -------
    MeanField

    Raises
    ------
    InputError
        Arrays that do not fit each other, or rates that grow without bounds or do not come to rest: the stationary
        state is unstable.
    OptionError
        As for `lif_rate`.

    References
    ----------
    Brunel 2000, Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons,
    doi:10.1023/A:1008925309027

    Examples
    --------
    Brunel's network with four times as much inhibition as excitation cancels out: only noise and the outside count.

    >>> found = mean_field_rates([[1000, 250]] * 2, [[0.1, -0.4]] * 2, external_mean=[30, 30], external_sd=[1.7, 1.7],
    ...                          tau=20.0, threshold=20.0, reset=10.0, refractory=2.0)
    >>> bool(np.allclose(found.mean, 30)), bool(np.allclose(*found.rates))
    (True, True)
    """
    degrees, jumps = _square("in_degrees", in_degrees), _square("efficacies", efficacies)
    outside = [real_array(external_mean, "external_mean"), real_array(external_sd, "external_sd")]
    if degrees.shape != jumps.shape or any(one.shape != degrees.shape[:1] for one in outside):
        raise InputError(
            "the populations do not fit each other",
            expected=f"efficacies {degrees.shape} and external input {degrees.shape[:1]}, as in_degrees have",
            got=f"efficacies {jumps.shape}, external input {outside[0].shape} and {outside[1].shape}",
        )
    if (outside[1] < 0).any():
        raise InputError("external_sd is a standard deviation", expected="at least 0", got=f"{outside[1].min():g}")
    _, _, tau, threshold, reset, refractory = _checked(0.0, 0.0, tau, threshold, reset, refractory)
    neuron = {"tau": tau, "threshold": threshold, "reset": reset, "refractory": refractory}

    def input_at(rates: Floats) -> tuple[Floats, Floats]:
        variance = outside[1] ** 2 + tau * (degrees * jumps**2) @ rates
        return outside[0] + tau * (degrees * jumps) @ rates, np.sqrt(variance)

    rates = wanted = np.zeros(len(degrees))
    for _ in range(_MOST_ROUNDS):
        mean, sd = input_at(rates)
        if not refractory and mean.max() > _RUNAWAY * max(np.abs(outside).max(), abs(threshold), abs(reset)):
            raise InputError(
                "the rates grow without bounds",
                expected="inhibition or a refractory time that holds them",
                got=f"a mean input of {mean.max():.3g}",
                fix="give refractory, or make the connections that excite weaker",
            )
        wanted = np.array([lif_rate(m, s, **neuron) for m, s in zip(mean.tolist(), sd.tolist(), strict=True)])
        if np.abs(wanted - rates).max() <= _CONVERGED * max(wanted.max(), 1 / tau * _CONVERGED):
            cv = [lif_interval_cv(m, s, **neuron) for m, s in zip(mean.tolist(), sd.tolist(), strict=True)]
            return MeanField(wanted, mean, sd, np.array(cv))
        rates = rates + _RELAXATION * (wanted - rates)
    raise InputError(
        "the rates do not come to rest",
        expected="a stable stationary state",
        got=f"rates that still change by {np.abs(wanted - rates).max():.3g}",
        fix="make connections weaker; with strong ones the network oscillates or has no stationary state",
    )


def _checked(
    mean: float, sd: float, tau: float, threshold: float, reset: float, refractory: float
) -> tuple[float, float, float, float, float, float]:
    """Return the numbers of a neuron; noise that cannot be told from none is none, for it would only lose digits."""
    mean = float(number("mean", mean, -math.inf, math.inf, closed="neither"))
    sd = float(number("sd", sd, 0, math.inf, closed="left"))
    tau = float(number("tau", tau, 0, math.inf, closed="neither"))
    refractory = float(number("refractory", refractory, 0, math.inf, closed="left"))
    threshold = float(number("threshold", threshold, -math.inf, math.inf, closed="neither"))
    reset = float(number("reset", reset, -math.inf, math.inf, closed="neither"))
    if reset >= threshold:
        raise OptionError("the reset is not below the threshold", expected=f"below {threshold:g}", got=f"{reset:g}")
    return mean, sd if sd >= 1e-9 * (threshold - reset) else 0.0, tau, threshold, reset, refractory


def _bounds(mean: float, sd: float, threshold: float, reset: float) -> tuple[float, float]:
    """Return reset and threshold as the integral has them; without noise, relative to the mean."""
    return (reset - mean) / (sd or 1), (threshold - mean) / (sd or 1)


def _first_passage(low: float, high: float) -> float:
    """Return the integral of ``exp(u^2) (1 + erf u)``, which is ``erfcx(-u)`` and, for u > 0, 2 exp(u^2) - erfcx(u)."""
    from scipy.integrate import quad
    from scipy.special import dawsn, erfcx

    def smooth(a: float, b: float) -> float:
        return quad(erfcx, a, b, epsabs=0, epsrel=1e-10, limit=200)[0] if b > a else 0.0

    def growing(u: float) -> float:
        return 2 * math.exp(u * u) * float(dawsn(u)) if u > 0 else 0.0

    below = smooth(max(-high, 0.0), max(-low, 0.0))
    above = smooth(max(low, 0.0), max(high, 0.0))
    return below + growing(high) - growing(low) - above


def _square(name: str, values: Any) -> Floats:
    array = real_array(values, name)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        expected = "finite numbers (n_populations, n_populations): to the row, from the column"
        raise InputError(f"{name} are no square matrix", expected=expected, got=f"shape {array.shape}")
    if name == "in_degrees" and (array < 0).any():
        raise InputError("in_degrees are numbers of connections", expected="numbers of at least 0", got=array.min())
    return array
