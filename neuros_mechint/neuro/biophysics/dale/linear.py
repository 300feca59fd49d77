"""A linear layer whose sources either excite or inhibit."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.biophysics.dale.balance import balanced_weights
from neuros_mechint.neuro.biophysics.dale.signs import (
    DaleModule,
    SignedWeights,
    check_inputs,
    checked_mask,
    put_back,
    refuse_wrong_signs,
    source_signs,
)


class SignedMagnitude(nn.Module):
    """Parametrisation of weights as the magnitudes of free numbers with the signs of their sources."""

    signs: torch.Tensor

    def __init__(self, signs: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("signs", signs.clone(), persistent=False)

    def forward(self, free: torch.Tensor) -> torch.Tensor:
        """Return the weights of free numbers."""
        return free.abs() * self.signs

    def right_inverse(self, weights: torch.Tensor) -> torch.Tensor:
        """Return free numbers of these weights; raise `InputError` if the weights do not fit, or break Dale's law."""
        if weights.ndim != 2 or weights.shape[1] != len(self.signs):
            expected = f"(out_features, {len(self.signs)})"
            raise InputError("weight does not fit the layer", expected=expected, got=f"shape {tuple(weights.shape)}")
        refuse_wrong_signs("weight", weights, self.signs)
        return weights * self.signs


class DalesLinear(DaleModule):
    r"""A linear layer :math:`W x + b` in which every column of :math:`W`, one source, keeps one sign.

    The first sources excite, the others inhibit. Inputs are meant to be rates, which are not negative: a unit of
    negative activity would turn excitation into inhibition.

    With ``"projected"``, `weight` is a plain parameter, and weights that a training step has pushed over zero have to
    be put back by `project_`; `enforce_dales_law` calls it after each step of an optimiser. With ``"absolute"``,
    `weight` is computed from free parameters and keeps its signs whatever happens to them. A rectified parameter is
    not offered: a weight at zero gets no gradient any more, and most weights die.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of sources and targets.
    excitatory_fraction : float
        Share of the sources that excite, between 0 and 1.
    parametrisation : {"projected", "absolute"}
    mask : array of shape (out_features, in_features), optional
        Bool, or 0 and 1: where there is a connection. Others are zero and stay so.
    spectral_radius : float, optional
        Of the initial weights, for as many sources as targets; see `balanced_weights`.
    bias : bool
    seed : int or numpy.random.Generator
        Of the initial weights; torch's global generator is not used.

    Attributes
    ----------
    weight : torch.Tensor of shape (out_features, in_features)
    bias : torch.Tensor of shape (out_features,), or None
        0 at first.
    signs : torch.Tensor of shape (in_features,)
        1 and -1.
    mask : torch.Tensor of shape (out_features, in_features), or None

    Raises
    ------
    OptionError
        A fraction that leaves no unit of one kind, an unknown parametrisation, sizes below 1.
    InputError
        A mask of another shape. `load_state_dict` refuses weights that are not finite or, with ``"projected"``, have
        not the sign of their source, and those of a layer with other signs; nothing of this layer is loaded then.

    References
    ----------
    Song, H. F., Yang, G. R., & Wang, X.-J. (2016). Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks. PLoS Computational Biology, 12(2), e1004792. https://doi.org/10.1371/journal.pcbi.1004792

    Examples
    --------
    >>> layer = DalesLinear(10, 4)
    >>> bool((layer.weight[:, :8] >= 0).all() and (layer.weight[:, 8:] <= 0).all())
    True
    >>> layer(torch.ones(3, 10)).shape
    torch.Size([3, 4])
    """

    weight: torch.Tensor
    bias: nn.Parameter | None
    signs: torch.Tensor
    mask: torch.Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        excitatory_fraction: float = 0.8,
        parametrisation: Literal["projected", "absolute"] = "projected",
        mask: Any = None,
        spectral_radius: float | None = None,
        bias: bool = True,
        seed: SeedLike = 0,
    ) -> None:
        super().__init__()
        check_option("parametrisation", parametrisation, ("projected", "absolute"))
        self.in_features = whole("in_features", in_features)
        self.out_features = whole("out_features", out_features)
        self.parametrisation = parametrisation
        signs = source_signs(in_features, excitatory_fraction)
        allowed = checked_mask(mask, out_features, in_features)
        self.register_buffer("signs", signs)
        self.register_buffer("mask", allowed)
        self.weight = nn.Parameter(balanced_weights(signs, out_features, allowed, spectral_radius, seed))
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features))
        else:
            self.register_parameter("bias", None)
        if parametrisation == "absolute":
            parametrize.register_parametrization(self, "weight", SignedMagnitude(signs))
        self.register_load_state_dict_pre_hook(_check_loaded)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what targets receive, ``(..., out_features)``, for rates of sources ``(..., in_features)``."""
        weight = self.acting_weight()
        check_inputs(inputs, self.in_features, weight)
        return functional.linear(inputs, weight, self.bias)

    def acting_weight(self) -> torch.Tensor:
        """Return the weights, zero where there is no connection, ``(out_features, in_features)``."""
        return self.weight if self.mask is None else self.weight * self.mask

    @torch.no_grad()
    def project_(self) -> None:
        """Put weights of the wrong sign, and those without a connection, back to zero, in place."""
        if self.parametrisation == "projected":
            weight = self.weight
            put_back(weight, self.signs)
            if self.mask is not None:
                weight.mul_(self.mask)

    def signed_weights(self) -> dict[str, SignedWeights]:
        """Return the weights as they act, with the signs of their sources."""
        return {"weight": SignedWeights(self.acting_weight().detach(), self.signs, self.mask)}

    def extra_repr(self) -> str:
        """Return what the layer was made of."""
        n_excitatory = int((self.signs > 0).sum())
        return (
            f"in_features={self.in_features} ({n_excitatory} excitatory), out_features={self.out_features}, "
            f"bias={self.bias is not None}, parametrisation={self.parametrisation!r}"
        )


def _check_loaded(module: DalesLinear, state: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    """Refuse weights that would break Dale's law, before any of them is loaded; weights of a plain layer may come."""
    weight, free, signs = (f"{prefix}{name}" for name in ("weight", "parametrizations.weight.original", "signs"))
    if not torch.equal(state.setdefault(signs, module.signs).to(module.signs), module.signs):
        raise InputError(
            f"{signs}: these are weights of a layer with other signs",
            expected=f"{int((module.signs > 0).sum())} excitatory of {module.in_features} sources",
            got=f"{int((state[signs] > 0).sum())} of {state[signs].numel()}",
            fix="make the layer with the excitatory_fraction of the one that was saved",
        )
    if module.mask is not None:
        state.setdefault(f"{prefix}mask", module.mask)
    if weight in state and state[weight].shape == (module.out_features, module.in_features):
        refuse_wrong_signs(weight, state[weight], module.signs.to(state[weight].device))
    for name in (free, f"{prefix}bias"):
        if name in state and not bool(torch.isfinite(state[name]).all()):
            raise InputError(f"{name} is not finite", expected="finite numbers", fix="remove NaN and infinity")
