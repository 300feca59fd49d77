"""Entropies of counts: plug-in, with the correction of Panzeri and Treves, and of Nemenman, Shafee and Bialek."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.variables import Whole

_LEAST_CONCENTRATION, _MOST_CONCENTRATION = 1e-8, 1e6
_COARSE, _FINE = 2000, 1500
_NEGLIGIBLE = 45.0


class Entropy(NamedTuple):
    """An estimate.

    Parameters
    ----------
    value : float
        Nats.
    error : float
        Standard error, or the standard deviation of the posterior.
    bias : float
        What was taken off the plug-in estimate, negative where that was too low.
    """

    value: float
    error: float
    bias: float


def plug_in(counts: Whole, n_possible: float | None = None) -> Entropy:
    """Return the entropy of the shares themselves; it is too low, by about ``(n_words - 1) / 2 n_samples``.

    Parameters
    ----------
    counts : numpy.ndarray of shape (n_words,)
        How often each word occurs.
    n_possible : float, optional
        Has no meaning here.

    Examples
    --------
    >>> round(plug_in(np.array([5, 5])).value, 4)
    0.6931
    """
    counts = counts[counts > 0]
    n_samples = counts.sum()
    shares = counts / n_samples
    surprise = -np.log(shares)
    value = float((shares * surprise).sum())
    spread = float((shares * (surprise - value) ** 2).sum())
    # the second term is all there is where words are equally likely
    error = np.sqrt(spread / n_samples + (len(counts) - 1) / (2 * n_samples**2))
    return Entropy(value, float(error), 0.0)


def panzeri_treves(counts: Whole, n_possible: float | None = None) -> Entropy:
    r"""Return the entropy plus :math:`(\tilde R - 1) / 2N`, with the number of words that are likely to be in use.

    Parameters
    ----------
    counts : numpy.ndarray of shape (n_words,)
    n_possible : float, optional
        No more words than these.

    References
    ----------
    Panzeri and Treves 1996, Analytical estimates of limited sampling biases in different information measures,
    doi:10.1080/0954898X.1996.11978656

    Examples
    --------
    >>> print(round(panzeri_treves(np.array([5, 5])).value - np.log(2), 4))  # (2 - 1) / 20
    0.05
    """
    found = plug_in(counts)
    bias = -(relevant_words(counts, n_possible) - 1) / (2 * int(counts.sum()))
    return Entropy(found.value - bias, found.error, bias)


def relevant_words(counts: Whole, n_possible: float | None = None) -> int:
    """Return how many words are in use, with those that happen not to have occurred.

    So many unseen words are added that the number of words that would be seen in as many samples comes as near as it
    can to the number that were; seen ones have the probabilities of a flat prior, unseen ones what is left.

    Parameters
    ----------
    counts : numpy.ndarray of shape (n_words,)
    n_possible : float, optional
        No more words than these.

    Examples
    --------
    >>> relevant_words(np.array([9, 9])), relevant_words(np.array([2, 1, 1, 1, 1]))
    (2, 13)
    """
    sizes, often = np.unique(counts[counts > 0], return_counts=True)
    n_samples, n_seen = int((sizes * often).sum()), int(often.sum())
    most_unseen = (np.inf if n_possible is None else n_possible) - n_seen
    share_of_one = 1 - (n_samples / (n_samples + n_seen)) ** (1 / n_samples)
    distance, unseen = float((often * (1 - sizes / n_samples) ** n_samples).sum()), 0
    while unseen < most_unseen and (unseen + 1) * share_of_one < 1:
        share = (unseen + 1) * share_of_one
        known = (1 - share) * (sizes + 1) / (n_samples + n_seen)
        would_be_seen = (often * (1 - (1 - known) ** n_samples)).sum()
        would_be_seen += (unseen + 1) * (1 - (1 - share_of_one) ** n_samples)
        if abs(n_seen - would_be_seen) >= distance:
            break
        distance, unseen = float(abs(n_seen - would_be_seen)), unseen + 1
    return n_seen + unseen


def nemenman_shafee_bialek(counts: Whole, n_possible: float) -> Entropy:
    r"""Return the mean entropy of the posterior under a prior that is nearly flat in the entropy.

    A mixture of Dirichlet priors of all concentrations :math:`\beta`, weighted so that the expected entropy
    :math:`\xi(\beta) = \psi(K \beta + 1) - \psi(\beta + 1)` is uniform from 0 to :math:`\log K`.

    Parameters
    ----------
    counts : numpy.ndarray of shape (n_words,)
    n_possible : float
        Number of words that there could be, :math:`K`, at least 2.

    Returns
    -------
    Entropy
        Its ``error`` is the standard deviation of the posterior.

    References
    ----------
    Nemenman, Shafee and Bialek 2002, Entropy and inference, revisited, doi:10.48550/arXiv.physics/0108025

    Examples
    --------
    >>> counts = np.array([4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2])
    >>> found = nemenman_shafee_bialek(counts, 100)
    >>> round(found.value, 6), round(found.error, 6)
    (2.806097, 0.119477)
    """
    sizes, often = np.unique(counts[counts > 0], return_counts=True)
    coarse = np.linspace(np.log(_LEAST_CONCENTRATION / n_possible), np.log(_MOST_CONCENTRATION), _COARSE)
    weights = _log_weights(coarse, sizes, often, n_possible)
    likely = np.flatnonzero(weights > weights.max() - _NEGLIGIBLE)
    low, high = coarse[max(likely[0] - 1, 0)], coarse[min(likely[-1] + 1, _COARSE - 1)]
    fine = np.linspace(low, high, _FINE)
    weights = _log_weights(fine, sizes, often, n_possible)
    weights = np.exp(weights - weights.max())
    weights[[0, -1]] /= 2  # trapezoids
    mean, square = _dirichlet_moments(np.exp(fine), sizes, often, n_possible)
    value = float(weights @ mean / weights.sum())
    variance = float(weights @ square / weights.sum()) - value**2
    return Entropy(value, float(np.sqrt(max(variance, 0.0))), plug_in(counts).value - value)


def _log_weights(log_concentration: Floats, sizes: Whole, often: Whole, n_possible: float) -> Floats:
    """Return the logarithm of evidence times prior, per unit of the logarithm of the concentration."""
    from scipy.special import betaln, gammaln, polygamma

    concentration = np.exp(log_concentration)
    whole, n_samples = n_possible * concentration, (sizes * often).sum()
    slope = n_possible * polygamma(1, whole + 1) - polygamma(1, concentration + 1)
    # ratios of gamma functions by the beta function, which stays exact where the logarithms are huge
    evidence = betaln(whole, n_samples) - gammaln(n_samples)
    words = gammaln(sizes) - betaln(concentration[:, None], sizes)
    with np.errstate(divide="ignore"):
        return evidence + words @ often + np.log(np.maximum(slope, 0)) + log_concentration


def _dirichlet_moments(concentration: Floats, sizes: Whole, often: Whole, n_possible: float) -> tuple[Floats, Floats]:
    """Return the posterior means of the entropy and of its square, for each concentration."""
    from scipy.special import digamma, polygamma

    # one row per concentration, one column per count that occurs, and one for the words that were never seen
    each = concentration[:, None] + np.append(sizes, 0)
    number = np.append(often, n_possible - often.sum())
    total = n_possible * concentration + (sizes * often).sum()
    mean = digamma(total + 1) - (each * digamma(each + 1)) @ number / total
    after, curvature = digamma(total + 2), polygamma(1, total + 2)
    single = digamma(each + 1) - after[:, None]
    pairs = ((each * single) @ number) ** 2 - (each * single) ** 2 @ number
    pairs -= curvature * (total**2 - each**2 @ number)
    double = (digamma(each + 2) - after[:, None]) ** 2 + polygamma(1, each + 2) - curvature[:, None]
    square = (pairs + (each * (each + 1) * double) @ number) / (total * (total + 1))
    return mean, square
