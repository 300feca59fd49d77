"""Dale's ANNs: layers of excitatory units that inhibitory interneurons centre and scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.biophysics.dale.signs import DaleModule, SignedWeights, check_inputs

_SMALLEST_DIVISOR = 1e-8
_MAGNITUDES = ("excitatory", "to_inhibitory", "from_inhibitory", "gain")


class DANNLayer(DaleModule):
    r"""A layer with feed-forward inhibition that subtracts and divides, so that all weights keep their sources' signs.

    With rates :math:`x` of the layer before, interneurons have the activity :math:`h = W^{IX} x`, and

    .. math:: z = \frac{g}{\gamma} \left(W^{EX} x - W^{EI} h\right) + b, \qquad \gamma = W^{EI} (e^{\alpha} h),

    where all weights and gains :math:`g` are at least 0. Initial weights are exponential; :math:`W^{EI} = 1 / n_I`, and
    :math:`e^{\alpha} = \sqrt{(2\pi - 1) / d}` for :math:`d` inputs. With one interneuron, :math:`W^{IX}` is the mean of
    the rows of :math:`W^{EX}`: then the layer subtracts the mean over its units, exactly as a layer norm does, and for
    rectified Gaussian inputs divides by the standard deviation over inputs and weights.

    A step of one size in parameters of the interneurons changes what the layer does more than one in
    :math:`W^{EX}`. `update_factors` holds the corrections: updates of :math:`W^{IX}` are scaled by
    :math:`1 / \sqrt{n_E}`, of :math:`W^{EI}` by :math:`1 / d` and of :math:`\alpha` by :math:`1 / (d \sqrt{n_E})`;
    `parameter_groups` hands them to an optimiser.

    Parameters
    ----------
    in_features, out_features : int
        Numbers :math:`d` of inputs and :math:`n_E` of excitatory units.
    n_inhibitory : int, optional
        Number :math:`n_I` of interneurons; by default a tenth of the excitatory units, at least one.
    seed : int or numpy.random.Generator
        Of the initial weights; torch's global generator is not used.

    Attributes
    ----------
    excitatory : torch.nn.Parameter of shape (out_features, in_features)
        :math:`W^{EX}`.
    to_inhibitory : torch.nn.Parameter of shape (n_inhibitory, in_features)
        :math:`W^{IX}`.
    from_inhibitory : torch.nn.Parameter of shape (out_features, n_inhibitory)
        :math:`W^{EI}`, a magnitude like the others: these are the weights that inhibit.
    log_divisor : torch.nn.Parameter of shape (n_inhibitory,)
        :math:`\alpha`.
    gain, bias : torch.nn.Parameter of shape (out_features,)

    Raises
    ------
    OptionError
        Sizes below 1.
    InputError
        From `load_state_dict`: magnitudes that are negative or not finite; nothing of this layer is loaded then.

    References
    ----------
    Cornford, J., Kalajdzievski, D., Leite, M., Lamarquette, A., Kullmann, D. M., & Richards, B. A. (2021). Learning to
    live with Dale's principle: ANNs with separate excitatory and inhibitory units. ICLR.
    https://openreview.net/forum?id=eU776ZYxEpz

    Examples
    --------
    >>> layer = DANNLayer(100, 50)
    >>> rates = torch.rand(4, 100, generator=torch.Generator().manual_seed(0))
    >>> layer(rates).shape, layer.n_inhibitory
    (torch.Size([4, 50]), 5)
    """

    def __init__(
        self, in_features: int, out_features: int, n_inhibitory: int | None = None, seed: SeedLike = 0
    ) -> None:
        super().__init__()
        d, n_units = whole("in_features", in_features), whole("out_features", out_features)
        n_inhibitory = max(1, round(0.1 * n_units)) if n_inhibitory is None else whole("n_inhibitory", n_inhibitory)
        self.in_features, self.out_features, self.n_inhibitory = d, n_units, n_inhibitory
        random = generator(seed)
        # outputs have the variance of the Gaussians whose rectified values are the inputs
        scale = math.sqrt(2 * math.pi / (d * (2 * math.pi - 1)))
        excitatory = random.exponential(scale, (n_units, d))
        mean = excitatory.mean(0, keepdims=True)
        self.excitatory = _parameter(excitatory)
        self.to_inhibitory = _parameter(mean if n_inhibitory == 1 else random.exponential(scale, (n_inhibitory, d)))
        self.from_inhibitory = _parameter(np.full((n_units, n_inhibitory), 1 / n_inhibitory))
        self.log_divisor = _parameter(np.full(n_inhibitory, 0.5 * math.log((2 * math.pi - 1) / d)))
        self.gain, self.bias = _parameter(np.ones(n_units)), _parameter(np.zeros(n_units))
        self.register_load_state_dict_pre_hook(_check_loaded)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the excitatory units receive, ``(..., out_features)``, for rates ``(..., in_features)``."""
        check_inputs(inputs, self.in_features, self.to_inhibitory)
        interneurons = functional.linear(inputs, self.to_inhibitory)
        centred = functional.linear(inputs, self.excitatory) - functional.linear(interneurons, self.from_inhibitory)
        return self.gain * centred / self.divisor(interneurons) + self.bias

    def divisor(self, interneurons: torch.Tensor) -> torch.Tensor:
        """Return by what the units are divided, ``(..., out_features)``, at activity ``(..., n_inhibitory)``."""
        return functional.linear(interneurons * self.log_divisor.exp(), self.from_inhibitory) + _SMALLEST_DIVISOR

    @torch.no_grad()
    def project_(self) -> None:
        """Put weights and gains that have become negative back to zero, in place."""
        for name in _MAGNITUDES:
            getattr(self, name).clamp_(min=0)

    def signed_weights(self) -> dict[str, SignedWeights]:
        """Return the weights with the signs of their sources: only interneurons inhibit."""
        weights = {name: getattr(self, name).detach() for name in _MAGNITUDES[:-1]}
        ones = {name: one.new_ones(one.shape[1]) for name, one in weights.items()}
        inhibits = "from_inhibitory"
        return {
            name: SignedWeights(-one, -ones[name]) if name == inhibits else SignedWeights(one, ones[name])
            for name, one in weights.items()
        }

    def update_factors(self) -> dict[str, float]:
        """Return by which factor updates are scaled, by parameter.

        Examples
        --------
        >>> DANNLayer(100, 25).update_factors()
        {'to_inhibitory': 0.2, 'from_inhibitory': 0.01, 'log_divisor': 0.002}
        """
        root = math.sqrt(self.out_features)
        return {
            "to_inhibitory": 1 / root,
            "from_inhibitory": 1 / self.in_features,
            "log_divisor": 1 / (root * self.in_features),
        }

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, n_inhibitory={self.n_inhibitory}"


def _parameter(values: Any) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(values).to(torch.get_default_dtype()))


def _check_loaded(_module: nn.Module, state: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    for name in (*_MAGNITUDES, "log_divisor", "bias"):
        values = state.get(prefix + name)
        if values is None:
            continue
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"{prefix}{name} is not finite", expected="finite numbers", fix="remove NaN and infinity")
        if name in _MAGNITUDES and bool((values < 0).any()):
            raise InputError(
                f"{prefix}{name} is negative",
                expected="magnitudes of at least 0: signs are those of the sources",
                got=f"{int((values < 0).sum())} of {values.numel()} below 0",
            )
