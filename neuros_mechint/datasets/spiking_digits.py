"""Handwritten digits as spikes: a task that a small spiking network learns in seconds."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.core.errors import number, whole
from neuros_mechint.core.formatting import shapes_repr
from neuros_mechint.core.random import SeedLike, generator


class SpikingDigits(NamedTuple):
    """Images as spikes, and which digits they show; two sets that share no image.

    Parameters
    ----------
    inputs, test_inputs : torch.Tensor of shape (image, time, pixel)
        0 or 1.
    labels, test_labels : torch.Tensor of shape (image,)
        0 to 9.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    test_inputs: torch.Tensor
    test_labels: torch.Tensor

    def __repr__(self) -> str:
        """Return the shapes."""
        return shapes_repr(self)


def spiking_digits(
    n_times: int = 20, brightest: float = 1.0, test_share: float = 0.2, seed: SeedLike = 0
) -> SpikingDigits:
    """Return scikit-learn's 1,797 digits of 8 x 8 pixels, each pixel a train of spikes as likely as it is bright.

    Parameters
    ----------
    n_times : int
        Time steps.
    brightest : float
        Probability of a spike of the brightest pixel in a time step.
    test_share : float
        Share of the images kept for a test.
    seed : int or numpy.random.Generator
        Of the spikes and of the division.

    Returns
    -------
    SpikingDigits

    Raises
    ------
    OptionError
        Numbers out of range.

    Examples
    --------
    >>> digits = spiking_digits(n_times=5)
    >>> digits.inputs.shape, digits.test_inputs.shape
    (torch.Size([1438, 5, 64]), torch.Size([359, 5, 64]))
    """
    from sklearn.datasets import load_digits

    n_times = whole("n_times", n_times)
    likely, share = number("brightest", brightest, 0, 1), number("test_share", test_share, 0, 1, closed="neither")
    random = generator(seed)
    images, labels = load_digits(return_X_y=True)
    fired = random.random((len(images), n_times, images.shape[1])) < likely * images[:, None] / images.max()
    order = torch.from_numpy(random.permutation(len(images)))
    test, train = order[: round(share * len(order))], order[round(share * len(order)) :]
    spikes, digits = torch.from_numpy(fired).to(torch.get_default_dtype()), torch.from_numpy(labels)
    return SpikingDigits(spikes[train], digits[train], spikes[test], digits[test])
