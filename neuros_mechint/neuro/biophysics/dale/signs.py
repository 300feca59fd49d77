"""Which units excite and which inhibit, and what a layer that keeps Dale's law says about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.numbers import real_tensor


class SignedWeights(NamedTuple):
    """Weights, and the sign that each of their sources has to keep.

    Parameters
    ----------
    weights : torch.Tensor of shape (n_targets, n_sources)
    signs : torch.Tensor of shape (n_sources,)
        1 for a source that excites, -1 for one that inhibits.
    mask : torch.Tensor of shape (n_targets, n_sources), optional
        Bool: where there is a connection. Everywhere, if None.
    """

    weights: torch.Tensor
    signs: torch.Tensor
    mask: torch.Tensor | None = None


class DaleModule(nn.Module, ABC):
    """Base of the modules whose weights keep the signs of their sources."""

    @abstractmethod
    def project_(self) -> None:
        """Put weights that an optimiser has pushed over zero back to zero, in place."""

    @abstractmethod
    def signed_weights(self) -> Mapping[str, SignedWeights]:
        """Return the weights as they act, by name, with the signs they have to keep."""

    def update_factors(self) -> Mapping[str, float]:
        """Return by which factor updates of parameters are to be scaled, by name; 1 for those not named."""
        return {}


def dale_modules(model: nn.Module) -> dict[str, DaleModule]:
    """Return the modules of a model that keep Dale's law, by path.

    Raises
    ------
    InputError
        What is no torch module.

    Examples
    --------
    >>> dale_modules(nn.Linear(2, 2))
    {}
    """
    if not isinstance(model, nn.Module):
        raise InputError("this is no model of torch", expected="a torch.nn.Module", got=type(model).__name__)
    return {path: module for path, module in model.named_modules() if isinstance(module, DaleModule)}


def source_signs(n_sources: int, excitatory_fraction: float = 0.8) -> torch.Tensor:
    """Return 1 for each source that excites, then -1 for each that inhibits.

    Parameters
    ----------
    n_sources : int
    excitatory_fraction : float
        Share of the sources that excite, between 0 and 1; rounded to whole units.

    Returns
    -------
    torch.Tensor of shape (n_sources,)

    Raises
    ------
    OptionError
        A fraction outside 0 to 1, or one that leaves no unit to excite or none to inhibit.

    Examples
    --------
    >>> source_signs(5, 0.8).tolist()
    [1.0, 1.0, 1.0, 1.0, -1.0]
    """
    n_sources = whole("the number of sources", n_sources)
    fraction = number("excitatory_fraction", excitatory_fraction, 0, 1, closed="neither")
    n_excitatory = round(fraction * n_sources)
    if not 0 < n_excitatory < n_sources:
        lacking = "inhibits" if n_excitatory else "excites"
        raise OptionError(
            f"of {n_sources} sources none {lacking}",
            expected="at least one unit of each kind",
            got=f"excitatory_fraction={fraction:g} of {n_sources}: {n_excitatory} excitatory units",
            fix="take more units, or a fraction nearer to a half",
        )
    return torch.where(torch.arange(n_sources) < n_excitatory, 1.0, -1.0)


@torch.no_grad()
def put_back(weights: torch.Tensor, signs: torch.Tensor) -> None:
    """Put weights ``(n_targets, n_sources)`` that are not of their source's sign back to zero, in place.

    This trains better than a rectifier of free weights: a weight that was stopped at zero can still grow again.

    Examples
    --------
    >>> weights = torch.tensor([[1.0, 2.0], [-3.0, -4.0]])
    >>> put_back(weights, torch.tensor([1.0, -1.0]))
    >>> weights
    tensor([[ 1., -0.],
            [ 0., -4.]])
    """
    weights.copy_((weights * signs).clamp(min=0) * signs)


def checked_mask(mask: Any, n_targets: int, n_sources: int) -> torch.Tensor | None:
    """Return where there are connections as a bool tensor, or None for everywhere.

    Raises
    ------
    InputError
        Another shape, values other than 0 and 1, or no connection at all.

    Examples
    --------
    >>> checked_mask([[1, 0]], 1, 2)
    tensor([[ True, False]])
    """
    if mask is None:
        return None
    found = real_tensor(mask, "the mask")
    if found.shape != (n_targets, n_sources):
        raise InputError(
            "the mask does not fit the weights",
            expected=f"shape ({n_targets}, {n_sources}): targets, sources",
            got=f"shape {tuple(found.shape)}",
        )
    if not bool(((found == 0) | (found == 1)).all()):
        raise InputError("the mask holds something else than 0 and 1", expected="bool, or 0 and 1")
    if not bool(found.any()):
        raise InputError("the mask leaves no connection", expected="at least one")
    return found.bool()


def checked_signs(signs: Any, name: str) -> torch.Tensor:
    """Return the signs of sources as numbers, detached.

    Raises
    ------
    InputError
        Other numbers than 1 and -1, or other axes than one.

    Examples
    --------
    >>> checked_signs([1, -1], "signs").tolist()
    [1.0, -1.0]
    """
    found = real_tensor(signs, name)
    if found.ndim != 1 or not found.numel() or not bool((found.abs() == 1).all()):
        raise InputError(
            f"{name} do not fit",
            expected="1 for each source that excites, -1 for one that inhibits",
            got=f"shape {tuple(found.shape)}, values {sorted(set(found.flatten().tolist()))[:6]}",
        )
    return found


def check_inputs(inputs: torch.Tensor, n_sources: int, weights: torch.Tensor) -> None:
    """Raise `InputError` unless inputs are ``(..., n_sources)`` in the precision of the weights.

    Examples
    --------
    >>> check_inputs(torch.ones(3, 2), 2, torch.ones(5, 2))
    """
    if not isinstance(inputs, torch.Tensor) or not inputs.ndim or inputs.shape[-1] != n_sources:
        got = f"shape {tuple(inputs.shape)}" if isinstance(inputs, torch.Tensor) else type(inputs).__name__
        raise InputError("inputs do not fit the layer", expected=f"a tensor (..., {n_sources})", got=got)
    if inputs.dtype != weights.dtype and not torch.is_autocast_enabled(inputs.device.type):
        raise InputError(
            "inputs have another precision than the weights",
            expected=weights.dtype,
            got=inputs.dtype,
            fix=f"inputs.to({weights.dtype}), or the model in that precision",
        )


def refuse_wrong_signs(name: str, weights: torch.Tensor, signs: torch.Tensor) -> None:
    """Raise `InputError` where weights are not finite, or have another sign than their source.

    Examples
    --------
    >>> refuse_wrong_signs("weight", torch.tensor([[0.1, 0.2]]), torch.tensor([1.0, -1.0]))
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: weight breaks Dale's law
      expected: columns of one sign: the first 1 of 2 not negative, the others not positive
      got:      1 of 2 weights of the wrong sign, in column 1
      to fix:   order the sources, excitatory ones first, or set the weights in question to zero
    """
    if not bool(torch.isfinite(weights).all()):
        raise InputError(f"{name} is not finite", expected="finite weights", fix="remove NaN and infinity")
    wrong = weights.detach() * signs < 0
    if bool(wrong.any()):
        columns = wrong.any(0).nonzero()[:, 0].tolist()
        shown = ", ".join(map(str, columns[:6])) + (" ..." if len(columns) > 6 else "")
        raise InputError(
            f"{name} breaks Dale's law",
            expected=f"columns of one sign: the first {int((signs > 0).sum())} of {len(signs)} not negative, "
            "the others not positive",
            got=f"{int(wrong.sum())} of {wrong.numel()} weights of the wrong sign, in column"
            f"{'s' if len(columns) > 1 else ''} {shown}",
            fix="order the sources, excitatory ones first, or set the weights in question to zero",
        )
