"""How a drive becomes what is observed: Gaussian signals, Poisson counts, Bernoulli spikes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.core.errors import check_option

MOST_LOG_RATE = 20.0
"""Beyond it Newton's trial steps would overflow; no bin holds that many spikes."""


class Link(NamedTuple):
    r"""The distribution of an observation :math:`y` given its drive :math:`\eta`, canonical in all three cases.

    Examples
    --------
    >>> import torch
    >>> link_of("poisson").mean(torch.zeros(2)).tolist()
    [1.0, 1.0]
    """

    name: str

    def mean(self, drive: torch.Tensor) -> torch.Tensor:
        """Return what is expected: the drive itself, its exponential or its sigmoid."""
        if self.name == "gaussian":
            return drive
        return drive.clamp(max=MOST_LOG_RATE).exp() if self.name == "poisson" else drive.sigmoid()

    def loss(self, observed: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
        """Return minus the log likelihood of each value, without what the drive does not change, in nats.

        Gaussian: of noise with standard deviation 1.
        """
        if self.name == "gaussian":
            return 0.5 * (observed - drive).square()
        if self.name == "poisson":
            return self.mean(drive) - observed * drive
        return torch.nn.functional.softplus(drive) - observed * drive

    def curvature(self, mean: torch.Tensor) -> torch.Tensor:
        """Return the second derivative of the loss, from the mean: the variance of the observation."""
        if self.name == "gaussian":
            return torch.ones_like(mean)
        return mean if self.name == "poisson" else mean * (1 - mean)

    def drive(self, mean: torch.Tensor) -> torch.Tensor:
        """Return the drive that gives a mean, which must lie inside the range of means."""
        if self.name == "gaussian":
            return mean
        return mean.log() if self.name == "poisson" else mean.logit()


LINKS = {name: Link(name) for name in ("poisson", "gaussian", "bernoulli")}
"""The links there are, by name."""


def link_of(name: str) -> Link:
    """Return a link by its name.

    Raises
    ------
    OptionError
        There is none.

    Examples
    --------
    >>> link_of("bernoulli").name
    'bernoulli'
    """
    check_option("link", name, tuple(LINKS))
    return LINKS[name]
