"""Surrogate gradients: spikes are 0 or 1, and their derivative is that of a smooth function."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.core.errors import InputError, check_option, number
from neuros_mechint.neuro.biophysics.neurons.base import hard_spike


@dataclass(frozen=True)
class Surrogate(ABC):
    """Base of the surrogates: from how far a potential is above threshold to a spike that has a derivative.

    Parameters
    ----------
    slope : float
        How sharply the derivative falls with the distance from the threshold, per unit of the potential (mV).
    graded : bool
        Spikes then take the values of the smooth function as well: no spikes any more, and gradients that are true
        derivatives, so that they can be checked against finite differences.

    Raises
    ------
    OptionError
        A slope that is not positive.
    """

    slope: float = 1.0
    graded: bool = False

    def __post_init__(self) -> None:
        number(f"slope of {type(self).__name__}", self.slope, 0, math.inf, closed="neither")

    @abstractmethod
    def derivative(self, above: torch.Tensor) -> torch.Tensor:
        """Return what stands for the derivative of a spike."""

    @abstractmethod
    def smooth(self, above: torch.Tensor) -> torch.Tensor:
        """Return the function that has this derivative, and is .5 at the threshold."""

    def value(self, above: torch.Tensor) -> torch.Tensor:
        """Return the spikes, without a gradient."""
        return self.smooth(above) if self.graded else hard_spike(above)

    def __call__(self, above: torch.Tensor) -> torch.Tensor:
        """Return the spikes, differentiable."""
        if not (torch.is_grad_enabled() and above.requires_grad):
            return self.value(above)
        spikes = _Spike.apply(above, self)
        assert isinstance(spikes, torch.Tensor)
        return spikes


class _Spike(torch.autograd.Function):
    """A step with the derivative of a surrogate."""

    @staticmethod
    def forward(ctx: Any, above: torch.Tensor, surrogate: Surrogate) -> torch.Tensor:
        ctx.save_for_backward(above)
        ctx.surrogate = surrogate
        return surrogate.value(above)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None]:
        (above,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.derivative(above), None


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    r"""Derivative of a fast sigmoid, :math:`1 / (1 + k |x|)^2` for the slope :math:`k`.

    References
    ----------
    Zenke, F., & Ganguli, S. (2018). SuperSpike: Supervised learning in multilayer spiking neural networks. Neural
    Computation, 30(6), 1514-1541. https://doi.org/10.1162/neco_a_01086

    Examples
    --------
    >>> above = torch.tensor([-0.04, 0.0, 0.12], requires_grad=True)
    >>> spikes = FastSigmoid(slope=25.0)(above)
    >>> spikes.sum().backward()
    >>> spikes.tolist(), above.grad
    ([0.0, 0.0, 1.0], tensor([0.2500, 1.0000, 0.0625]))
    """

    slope: float = 25.0

    def derivative(self, above: torch.Tensor) -> torch.Tensor:
        """Return what stands for the derivative of a spike."""
        return above.abs().mul_(self.slope).add_(1).square_().reciprocal_()

    def smooth(self, above: torch.Tensor) -> torch.Tensor:
        """Return the function that has this derivative, and is .5 at the threshold."""
        return above / (1 + self.slope * above.abs()) + 0.5


@dataclass(frozen=True)
class Arctan(Surrogate):
    r"""Derivative of an arc tangent, :math:`\frac{\alpha / 2}{1 + (\pi \alpha x / 2)^2}` for the slope :math:`\alpha`.

    References
    ----------
    Fang, W., Yu, Z., Chen, Y., Masquelier, T., Huang, T., & Tian, Y. (2021). Incorporating learnable membrane time
    constant to enhance learning of spiking neural networks. ICCV 2021, 2641-2651.
    https://doi.org/10.1109/ICCV48922.2021.00266

    Examples
    --------
    >>> Arctan(slope=2.0).derivative(torch.tensor([0.0]))
    tensor([1.])
    """

    slope: float = 2.0

    def derivative(self, above: torch.Tensor) -> torch.Tensor:
        """Return what stands for the derivative of a spike."""
        return (above * (math.pi / 2 * self.slope)).square_().add_(1).reciprocal_().mul_(self.slope / 2)

    def smooth(self, above: torch.Tensor) -> torch.Tensor:
        """Return the function that has this derivative, and is .5 at the threshold."""
        return torch.atan(math.pi / 2 * self.slope * above) / math.pi + 0.5


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    r"""Gradients go through a spike as if it were the potential, times the slope.

    References
    ----------
    Bengio, Y., Leonard, N., & Courville, A. (2013). Estimating or propagating gradients through stochastic neurons for
    conditional computation. https://doi.org/10.48550/arXiv.1308.3432

    Examples
    --------
    >>> StraightThrough().derivative(torch.tensor([-3.0, 2.0]))
    tensor([1., 1.])
    """

    def derivative(self, above: torch.Tensor) -> torch.Tensor:
        """Return what stands for the derivative of a spike."""
        return torch.full_like(above, self.slope)

    def smooth(self, above: torch.Tensor) -> torch.Tensor:
        """Return the function that has this derivative, and is .5 at the threshold."""
        return self.slope * above + 0.5


SURROGATES: dict[str, type[Surrogate]] = {
    "fast_sigmoid": FastSigmoid,
    "arctan": Arctan,
    "straight_through": StraightThrough,
}


def as_surrogate(surrogate: str | Surrogate) -> Surrogate:
    """Return a surrogate by its name, with its usual slope, or as it came.

    Raises
    ------
    InputError
        A name that does not exist, or what is no surrogate.

    Examples
    --------
    >>> as_surrogate("arctan")
    Arctan(slope=2.0, graded=False)
    """
    if isinstance(surrogate, Surrogate):
        return surrogate
    if not isinstance(surrogate, str):
        raise InputError("this is no surrogate", expected="a name or a Surrogate", got=repr(surrogate))
    check_option("surrogate", surrogate, tuple(SURROGATES))
    return SURROGATES[surrogate]()
