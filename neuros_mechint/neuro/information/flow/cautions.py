"""What a reader of information flow must be told about the estimates."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.flow.estimates import ESTIMATORS, Side

_LEAST_SHARE = 0.8


def of_constants(constant: dict[str, int], n_times: dict[str, int]) -> list[str]:
    """Return which sites tell nothing, all the time or at some of their times.

    Examples
    --------
    >>> of_constants({"first": 1, "second": 2}, {"first": 1, "second": 5})
    ['first is constant, and tells nothing', 'second is constant at 2 of 5 times, and tells nothing then']
    """
    return [
        f"{site} is constant, and tells nothing"
        if times == n_times[site]
        else f"{site} is constant at {times} of {n_times[site]} times, and tells nothing then"
        for site, times in constant.items()
    ]


def of_inputs(found: Floats, sites: list[str], about: dict[str, Side], n_samples: int) -> list[str]:
    """Return what to warn of estimates ``(about, estimator, site, time)`` about inputs."""
    texts = []
    if "input" in about:
        values = found[list(about).index("input")]
        noisy = values[ESTIMATORS.index("noise")]
        if np.nanmax(noisy, initial=0.0) > 0.8 * np.log(n_samples):
            texts.append(
                f"{n_samples} inputs cannot show more than {np.log(n_samples):.3g} nats: with more noise they are told "
                "apart less well"
            )
        linear = [site for site, rows in zip(sites, np.isinf(values).any((0, 2)), strict=True) if rows]
        if linear:
            are = "are linear functions" if len(linear) > 1 else "is a linear function"
            when = ", at some time at least" if values.shape[-1] > 1 else ""
            texts.append(f"{', '.join(linear)} {are} of the inputs{when}: what that tells of them is infinite")
    return texts


def of_sites(
    sites: list[str], shares: Floats, apart: np.ndarray, about: dict[str, Side], n_components: int
) -> list[str]:
    """Return what components and noise cannot tell of some sites.

    Parameters
    ----------
    sites : list of str
    shares : numpy.ndarray of shape (n_sites, n_times)
        Of the variance, that the components hold.
    apart : numpy.ndarray of shape (n_sites, n_times)
        Whether noise leaves all samples apart, and so tells labels, whatever they are.
    about : dict of str to Side
    n_components : int
    """
    texts = []
    small = [site for site, row in zip(sites, shares, strict=True) if (row < _LEAST_SHARE).any()]
    small += ["the input"] if "input" in about and about["input"].share < _LEAST_SHARE else []
    if small:
        texts.append(
            f"{n_components} principal components hold less than {_LEAST_SHARE:.0%} of the variance of "
            f"{', '.join(small)}: neighbours and bins do not see the rest, and what they see may turn with training"
        )
    trivial = [site for site, row in zip(sites, apart, strict=True) if row.any()]
    if trivial:
        texts.append(
            f"with this noise all samples of {', '.join(trivial)} are told apart, so that noise says the whole label, "
            "of random states as well: choose more noise"
        )
    return texts
