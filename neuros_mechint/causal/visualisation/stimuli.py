"""Stimuli as a differentiable function of free numbers, so that they keep a norm or a range whatever these are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

IMAGE = ("channel", "height", "width")
_MOST_LOG_GAIN = 20.0
_HALVINGS = 60
# Square root of the covariance of red, green and blue in ImageNet's photographs, as lucid has it: columns are
# brightness, blue to yellow, and green to magenta.
_COLOUR_COVARIANCE_ROOT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


@dataclass(frozen=True)
class Stimuli:
    """All stimuli of one shape that have a norm, or that stay between bounds.

    Parameters
    ----------
    shape : tuple of int
        Of one stimulus.
    norm : float, optional
        Euclidean norm that every stimulus has, as a whole or, with ``by_row``, along its last axis.
    bounds : tuple of float
        Least and greatest value, where there is no norm.
    fourier : bool
        The free numbers are coefficients of a Fourier series over the last two axes, weighted as the amplitudes of
        natural images are, one over frequency; of three channels in axes in which the colours of photographs are
        uncorrelated. Else there is one for each entry.
    by_row : bool

    Examples
    --------
    >>> Stimuli((2,), norm=5.0)(torch.tensor([[0.3, 0.4]]))
    tensor([[3., 4.]])
    """

    shape: tuple[int, ...]
    norm: float | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    fourier: bool = False
    by_row: bool = False

    def draw(self, n_stimuli: int, source: torch.Generator, like: torch.Tensor) -> torch.Tensor:
        """Return free numbers, ``(n_stimuli, ...)``, standard normal, on the device of a tensor.

        They have its precision too, or single where that is less.
        """
        shape = (*self.shape[:-1], self.shape[-1] // 2 + 1, 2) if self.fourier else self.shape
        dtype = torch.promote_types(like.dtype, torch.float32)
        return torch.randn((n_stimuli, *shape), generator=source, dtype=dtype).to(like.device)

    def __call__(self, free: torch.Tensor) -> torch.Tensor:
        """Return the stimuli, ``(n_stimuli, *shape)``."""
        raw = self._images(free) if self.fourier else free
        if self.norm is not None:
            return self.norm * raw / self._lengths(raw)
        # a sine reaches the bounds, which a sigmoid only approaches
        return self.center + self._reach * torch.sin(raw)

    @property
    def center(self) -> float:
        """The value from which energy and similarity are counted: none at all, or the middle of the range."""
        return 0.0 if self.norm is not None else sum(self.bounds) / 2

    @property
    def _reach(self) -> float:
        return (self.bounds[1] - self.bounds[0]) / 2

    def energy(self, stimuli: torch.Tensor) -> torch.Tensor:
        """Return the sum of squares about `center`, ``(n_stimuli,)``."""
        return (stimuli - self.center).flatten(1).square().sum(1)

    def of_energy(self, free: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
        """Return the stimuli of which ``free`` are the directions, at the given energy.

        Under a norm all stimuli have the same. Between bounds energy grows with the gain of what is clipped to them, on
        whose logarithm this bisects.
        """
        if self.norm is not None:
            return self(free)
        raw = self._images(free) if self.fourier else free
        ones = (len(raw),) + (1,) * (raw.ndim - 1)

        def at_gain(logarithm: torch.Tensor) -> torch.Tensor:
            return self.center + self._reach * (raw * logarithm.exp()).clamp(-1, 1)

        low, high = raw.new_full(ones, -_MOST_LOG_GAIN), raw.new_full(ones, _MOST_LOG_GAIN)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            more = (self.energy(at_gain(middle)) < energy).reshape(ones)
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        return at_gain(low)

    def rescaled(self, stimuli: torch.Tensor) -> torch.Tensor:
        """Return any stimuli at this norm; where they have none, as they are."""
        if self.norm is None:
            return stimuli
        lengths = self._lengths(stimuli)
        return torch.where(lengths > 0, self.norm * stimuli / lengths, stimuli)

    def slack(self, stimuli: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return how much more a linear function of this gradient would reach at the best stimulus, ``(n_stimuli,)``.

        Zero where no small change that keeps the norm, or the range, helps.
        """
        if self.norm is None:
            low, high = self.bounds
            return (gradient * (torch.where(gradient > 0, high, low) - stimuli)).flatten(1).sum(1)
        along = self.radial(stimuli, gradient)
        lengths = self._lengths(gradient).flatten(1)
        return (self.norm * lengths - along.abs()).clamp_min(0).sum(1)

    def radial(self, stimuli: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the derivative with respect to the logarithm of each norm, ``(n_stimuli, n_norms)``."""
        products = gradient * stimuli
        return (products if self.by_row else products.flatten(1)).sum(-1).reshape(len(stimuli), -1)

    def _lengths(self, values: torch.Tensor) -> torch.Tensor:
        """Return the norms, in a shape that broadcasts to the values."""
        if self.by_row:
            return values.norm(dim=-1, keepdim=True)
        return values.flatten(1).norm(dim=1).reshape(-1, *[1] * (values.ndim - 1))

    def _images(self, free: torch.Tensor) -> torch.Tensor:
        height, width = self.shape[-2:]
        weights = self._weights.to(free)
        images = torch.fft.irfft2(torch.view_as_complex(free) * weights, s=(height, width), norm="ortho")
        if self.shape[-3] == len(_COLOUR_COVARIANCE_ROOT):
            root = torch.tensor(_COLOUR_COVARIANCE_ROOT).to(free)
            images = torch.einsum("rc,nchw->nrhw", root / root.norm(dim=0).max(), images)
        return images

    @cached_property
    def _weights(self) -> torch.Tensor:
        """One over frequency, so that standard normal coefficients give pixels of unit variance."""
        height, width = self.shape[-2:]
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
        # the mean of an image is no wave; it counts as the slowest one
        weights = 1 / torch.hypot(rows, columns).clamp_min(1 / max(height, width))
        return weights[:, : width // 2 + 1] / (2 * weights.square().mean()).sqrt()


def transformed(
    images: torch.Tensor, source: torch.Generator, jitter: int, rotate: float, rescale: float
) -> torch.Tensor:
    """Return each image shifted, turned and resized at random; what comes in from outside is the mirror image.

    Parameters
    ----------
    images : torch.Tensor of shape (n_images, n_channels, height, width)
    source : torch.Generator
    jitter : int
        Largest shift along each axis, in pixels.
    rotate : float
        Largest turn, in degrees.
    rescale : float
        Largest change of size, as a fraction.

    Examples
    --------
    >>> still = transformed(torch.eye(4)[None, None], torch.Generator(), jitter=0, rotate=0.0, rescale=0.0)
    >>> torch.allclose(still, torch.eye(4), atol=1e-6)
    True
    """
    height, width = images.shape[-2:]
    shifts = torch.randint(-jitter, jitter + 1, (len(images), 2), generator=source)
    turns, sizes = (2 * torch.rand((2, len(images)), generator=source, dtype=torch.float64) - 1).unbind()
    angles, scales = turns * math.radians(rotate), 1 + sizes * rescale
    cosines, sines = scales * angles.cos(), scales * angles.sin()
    # in coordinates from -1 to 1 along each side; a turn keeps pixels square
    maps = torch.stack(
        [
            torch.stack([cosines, -sines * height / width, 2 * shifts[:, 1] / width], 1),
            torch.stack([sines * width / height, cosines, 2 * shifts[:, 0] / height], 1),
        ],
        1,
    )
    grid = torch.nn.functional.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def is_image(dims: Sequence[str]) -> bool:
    """Return whether the axes of a stimulus, samples first, are those of an image.

    Examples
    --------
    >>> is_image(("sample", "channel", "height", "width")), is_image(("sample", "time", "unit"))
    (True, False)
    """
    return tuple(dims[1:]) == IMAGE
