"""Several priors as one loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.neuro.fractals.priors.annealing import AnnealedWeight, checked_weight

Weight = float | AnnealedWeight


class FractalRegularizationLoss(nn.Module):
    """The weighted sum of priors, whose weights may change over training.

    Parameters
    ----------
    priors : mapping of str to (torch.nn.Module, float or AnnealedWeight)
        Each prior with its weight, under a name. A prior takes a tensor and returns a scalar.

    Attributes
    ----------
    step : torch.Tensor of int64, shape ()
        Where annealed weights stand; `advance` moves it, and it is part of ``state_dict``.

    Raises
    ------
    OptionError
        No priors, or something that is no pair of a module and a weight.

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> weight = nm.AnnealedWeight(0.0, 0.1, n_steps=100)
    >>> loss = nm.FractalRegularizationLoss({"spectral": (nm.SpectralPrior(-1.0, axis=1), weight)})
    >>> activations = torch.randn(4, 128, 8, generator=torch.Generator().manual_seed(0))
    >>> loss(activations).item(), loss.weights
    (0.0, {'spectral': 0.0})
    >>> loss.advance(50)
    >>> loss.weights, loss(activations).item() > 0
    ({'spectral': 0.05}, True)
    """

    step: torch.Tensor

    def __init__(self, priors: Mapping[str, tuple[nn.Module, Weight]]) -> None:
        super().__init__()
        pairs = _checked(priors)
        self.priors = nn.ModuleDict({name: prior for name, (prior, _) in pairs.items()})
        self._weights = {name: weight for name, (_, weight) in pairs.items()}
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each prior at the present step."""
        now = int(self.step)
        return {name: weight(now) if callable(weight) else weight for name, weight in self._weights.items()}

    def advance(self, n_steps: int = 1) -> None:
        """Go on by steps of training: call it after each step of the optimiser.

        Parameters
        ----------
        n_steps : int

        Raises
        ------
        OptionError
            Fewer than one.

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> loss = nm.FractalRegularizationLoss({"spectral": (nm.SpectralPrior(), 0.1)})
        >>> loss.advance()
        >>> loss.state_dict()["step"].item()
        1
        """
        self.step += whole("n_steps", n_steps)

    def forward(self, x: torch.Tensor | Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum of all terms, a scalar.

        Parameters
        ----------
        x : torch.Tensor or mapping of str to torch.Tensor
            What all priors look at, or a tensor for each by name (activations for one, attention for another).

        Returns
        -------
        torch.Tensor of shape ()

        Raises
        ------
        InputError
            Names that are not those of the priors, and what the priors raise.
        """
        return torch.stack(list(self.terms(x).values())).sum()

    def terms(self, x: torch.Tensor | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return each prior times its weight; a prior whose weight is 0 is not computed.

        Parameters
        ----------
        x : torch.Tensor or mapping of str to torch.Tensor
            As for a call.

        Returns
        -------
        dict of str to torch.Tensor of shape ()

        Raises
        ------
        InputError
            As for a call.

        Examples
        --------
        >>> import torch
        >>> import neuros_mechint as nm
        >>> loss = nm.FractalRegularizationLoss({"spectral": (nm.SpectralPrior(-1.0), 0.1)})
        >>> list(loss.terms(torch.randn(3, 128, generator=torch.Generator().manual_seed(0))))
        ['spectral']
        """
        inputs = x if isinstance(x, Mapping) else dict.fromkeys(self.priors, x)
        if set(inputs) != set(self.priors):
            raise InputError(
                "the inputs do not fit the priors",
                expected=f"one tensor, or one for each of {', '.join(self.priors)}",
                got=", ".join(map(str, inputs)) or "none",
            )
        weights = self.weights
        found = {}
        for name, prior in self.priors.items():
            if not isinstance(inputs[name], torch.Tensor):
                raise InputError(f"{name}: a loss needs a tensor", got=type(inputs[name]).__name__)
            # zero, and yet a part of the graph: backward works where it is the only term
            no_loss = inputs[name].flatten()[:0].sum()
            found[name] = weights[name] * _scalar(name, prior(inputs[name])) if weights[name] else no_loss
        return found

    def extra_repr(self) -> str:
        """Return the weights as they were given."""
        return f"weights={self._weights}"


def _scalar(name: str, loss: Any) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.shape != ():
        got = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise InputError(f"{name} gave no loss", expected="a tensor of shape ()", got=got)
    return loss


def _is_name(name: str) -> bool:
    """Return whether modules can be kept under this name."""
    return bool(name) and "." not in name and not hasattr(nn.ModuleDict, name)


def _checked(priors: object) -> dict[str, tuple[nn.Module, Weight]]:
    """Return the pairs, or say what is wrong with them."""
    expected = 'for example {"spectral": (SpectralPrior(-1.0), 0.1)}'
    if not isinstance(priors, Mapping) or not priors:
        raise OptionError("there are no priors", expected=expected, got=repr(priors))
    found: dict[str, tuple[nn.Module, Weight]] = {}
    for name, pair in priors.items():
        if not isinstance(name, str) or not isinstance(pair, tuple | list) or len(pair) != 2 or not _is_name(name):
            raise OptionError("a prior needs a name and a weight", expected=expected, got=f"{name!r}: {pair!r}")
        prior, weight = pair
        if not isinstance(prior, nn.Module):
            raise OptionError(f"{name} is no prior", expected="a torch.nn.Module", got=type(prior).__name__)
        weight = weight if isinstance(weight, AnnealedWeight) else checked_weight(f"the weight of {name}", weight)
        found[name] = cast("nn.Module", prior), weight
    return found
