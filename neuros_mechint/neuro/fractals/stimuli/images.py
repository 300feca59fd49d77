"""Images whose power is a power of the spatial frequency."""

from __future__ import annotations

import numpy as np
import torch

from neuros_mechint.core.errors import number, whole
from neuros_mechint.core.random import SeedLike, generator

_LEAST_SIZE = 4


def fractal_image(slope: float = -2.0, size: int = 128, n_images: int = 1, seed: SeedLike = 0) -> torch.Tensor:
    r"""Return Gaussian images whose **power** is proportional to ``frequency ** slope``.

    The slope is that of the power, :math:`|F|^2 \propto f^\beta`; the amplitude :math:`|F|` falls half as steeply.
    Natural images have about -2, white noise has 0. For slopes from -4 to -2 the image is, as a landscape, a surface
    of dimension :math:`4 + \beta / 2`. The images wrap around: left meets right, top meets bottom.

    Parameters
    ----------
    slope : float
        Of the power over the spatial frequency, both logarithmic.
    size : int
        Height and width in pixels, at least 4.
    n_images : int
    seed : int or numpy.random.Generator
        An image does not depend on how many come after it.

    Returns
    -------
    torch.Tensor of shape (n_images, size, size)
        In float64; each image has mean 0 and variance 1.

    Raises
    ------
    OptionError
        A slope that is not finite, or a size that is too small.

    References
    ----------
    Field 1987, Relations between the statistics of natural images and the response properties of cortical cells,
    doi:10.1364/JOSAA.4.002379; Peitgen and Saupe 1988, The Science of Fractal Images, doi:10.1007/978-1-4612-3784-6

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> image = nm.fractal_image(slope=-2, size=64)
    >>> image.shape, round(float(image.var(correction=0)), 6)
    (torch.Size([1, 64, 64]), 1.0)
    """
    size, n_images = whole("size", size, _LEAST_SIZE), whole("n_images", n_images)
    slope = number("slope", slope, -np.inf, np.inf)
    distance = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    distance[0, 0] = 1
    # relative to the slowest wave, so that steep slopes stay within what a float holds
    gain = np.exp(slope / 2 * np.log(distance * size))
    gain[0, 0] = 0
    gain /= gain.max()
    random = generator(seed)
    images = np.empty((n_images, size, size))
    for image in images:
        image[:] = np.fft.irfft2(np.fft.rfft2(random.standard_normal((size, size))) * gain, (size, size))
        image -= image.mean()
        image /= image.std()
    return torch.from_numpy(images)
