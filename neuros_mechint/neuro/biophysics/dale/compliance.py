"""How far the weights of a model keep the signs of their sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from torch import nn

from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.biophysics.dale.signs import SignedWeights, checked_signs, dale_modules

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SignCompliance(Result):
    """Which weights keep the signs of their sources, and how excitation and inhibition balance.

    ``data`` holds, over ``layer``: ``compliance``, ``dead``, ``n_weights`` and ``n_wrong``; and over ``target``, the
    targets of all layers one after another: ``balance``, with the ``layer_of_target``.
    """

    @property
    def compliance(self) -> float:
        """Share of all weights whose sign is that of their source, or which are zero."""
        return 1 - int(self.data["n_wrong"].sum()) / int(self.data["n_weights"].sum())

    def balance(self, layer: str) -> xr.DataArray:
        """Return (E - I) / (E + I) of each target of a layer; NaN for a target without input.

        Raises
        ------
        OptionError
            A layer that is not in the report.
        """
        check_option("layer", layer, [str(name) for name in self.data["layer"].values])
        return self.data["balance"][self.data["layer_of_target"].values == layer]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        longest = max(len(str(name)) for name in self.data["layer"].values)
        return 6.6 + 0.08 * max(0, longest - 22), 1.6 + 0.55 * self.data.sizes["layer"]

    def _summary_lines(self) -> Iterator[str]:
        for layer in self.data["layer"].values:
            one = self.data.sel(layer=layer)
            balance = self.balance(str(layer)).values
            balance = balance[np.isfinite(balance)]
            wrong, total = int(one["n_wrong"]), int(one["n_weights"])
            spread = f"; balance {balance.mean():+.2f} (sd {balance.std():.2f})" if balance.size else ""
            yield (
                f"{layer}: {total - wrong:,} of {total:,} weights ({100 * float(one['compliance']):.4g}%) keep their "
                f"source's sign, {100 * float(one['dead']):.3g}% are zero{spread}"
            )

    def _draw(self, ax: Axes) -> None:
        data, layers = self.data, [str(name) for name in self.data["layer"].values]
        for row, layer in enumerate(layers):
            values = self.balance(layer).values
            values = values[np.isfinite(values)]
            heights = row + 0.5 * ((np.arange(len(values)) + 0.5) / max(len(values), 1) - 0.5)
            ax.plot(values, heights, ".", color=PALETTE[0], alpha=0.6)
            if values.size:
                ax.plot(values.mean(), row, "|", color=PALETTE[1], markersize=18, mew=2.5)
            else:
                ax.text(0.03, row, "no target has any input", va="center", color=MUTED_INK)
        ax.axvline(0, color=MUTED_INK, linewidth=0.8)
        told = [
            f"{name}\n{100 * float(share):.4g}% keep signs"
            for name, share in zip(layers, data["compliance"], strict=True)
        ]
        ax.set_yticks(range(len(layers)), told)
        ax.set(xlim=(-1.05, 1.05), ylim=(len(layers) - 0.5, -0.5))
        ax.set_xlabel("balance of each target: (E − I) / (E + I); bar: mean")


def sign_compliance(model: nn.Module, signs: Mapping[str, Any] | None = None) -> SignCompliance:
    """Report which weights keep the signs of their sources, layer by layer.

    Parameters
    ----------
    model : torch.nn.Module
        Layers that keep Dale's law, such as `DalesLinear`, say themselves which signs their sources have.
    signs : mapping of str to array, optional
        Of other layers: the name of their weights ``(n_targets, n_sources)``, such as ``"rnn.weight_hh_l0"``, and for
        each source 1 (excites) or -1.

    Returns
    -------
    SignCompliance

    Raises
    ------
    InputError
        A model without a layer of known signs, names that the model lacks, signs that do not fit, or weights that are
        not finite.

    Examples
    --------
    >>> print(sign_compliance(nn.Linear(2, 1), {"weight": [1, -1]}).data["n_weights"].values)
    [2]
    """
    layers = _layers(model) | _stated(model, {} if signs is None else signs)
    if not layers:
        raise InputError(
            "it is not known which units of this model excite",
            expected="layers that keep Dale's law, or signs of the sources",
            got=type(model).__name__,
            fix='pass signs={"rnn.weight_hh_l0": [1, 1, -1]}, with the name of the weights and one sign per source',
        )
    found = {name: _measured(name, one) for name, one in layers.items()}
    names = list(found)
    of_target = np.repeat(np.array(names, dtype=str), [len(one["balance"]) for one in found.values()])
    about = {
        "compliance": "share of weights of the source's sign",
        "dead": "share of weights that are zero",
        "n_weights": "connections",
        "n_wrong": "weights of the wrong sign",
    }
    data = xr.Dataset(
        {
            **{
                key: ("layer", [found[name][key] for name in names], {"long_name": text, "units": ""})
                for key, text in about.items()
            },
            "balance": (
                "target",
                np.concatenate([found[name]["balance"] for name in names]),
                {"long_name": "(E - I) / (E + I)", "units": ""},
            ),
        },
        {"layer": names, "layer_of_target": ("target", of_target)},
    )
    return SignCompliance(
        data,
        "Dale's law",
        provenance=Provenance.record(model=model, arguments={"signs": sorted(signs or {})}),
        citations=("song2016",),
    )


def compliance_of(model: nn.Module) -> float:
    """Return the share of weights that keep their source's sign, over all layers that say it.

    Raises
    ------
    InputError
        A model without such layers.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
    >>> compliance_of(DalesLinear(5, 5))
    1.0
    """
    wrong = total = 0
    for weights, signs, mask in _layers(model).values():
        kept = weights * signs >= 0  # not so where a weight is NaN
        wrong += int((~kept).sum())
        total += weights.numel() if mask is None else int(mask.sum())
    if not total:
        raise InputError("no module of this model keeps Dale's law", got=type(model).__name__)
    return 1 - wrong / total


def _layers(model: nn.Module) -> dict[str, SignedWeights]:
    """Return all weights whose signs modules say themselves, by path."""
    return {
        f"{path}.{name}".strip("."): weights
        for path, module in dale_modules(model).items()
        for name, weights in module.signed_weights().items()
    }


def _stated(model: nn.Module, signs: Mapping[str, Any]) -> dict[str, SignedWeights]:
    if not isinstance(signs, Mapping):
        expected = 'a dict such as {"rnn.weight_hh_l0": [1, 1, -1]}'
        raise InputError("signs are given by the names of weights", expected=expected, got=type(signs).__name__)
    parameters = dict(model.named_parameters())
    found = {}
    for name, given in signs.items():
        if name not in parameters or parameters[name].ndim != 2:
            matrices = [each for each, one in parameters.items() if one.ndim == 2]
            raise InputError(f"there are no weights {name!r}", expected="one of " + ", ".join(matrices))
        sign = checked_signs(given, f"the signs of {name}").double()
        weights = parameters[name].detach().cpu().double()
        if len(sign) != weights.shape[1]:
            raise InputError(
                f"the signs of {name} do not fit",
                expected=f"{weights.shape[1]} numbers, 1 or -1: one for each source",
                got=f"{len(sign)} numbers",
            )
        found[name] = SignedWeights(weights, sign)
    return found


def _measured(name: str, layer: SignedWeights) -> dict[str, Any]:
    weights = layer.weights.cpu().double().numpy()
    if not np.isfinite(weights).all():
        raise InputError(f"{name} is not finite", expected="finite weights")
    there = np.ones(weights.shape, bool) if layer.mask is None else layer.mask.cpu().numpy()
    n_weights = int(there.sum())
    n_wrong = int((weights * layer.signs.cpu().double().numpy() < 0).sum())
    excitation, inhibition = weights.clip(min=0).sum(1), -weights.clip(max=0).sum(1)
    total = excitation + inhibition
    balance = np.full(len(weights), np.nan)
    np.divide(excitation - inhibition, total, out=balance, where=total > 0)
    return {
        "compliance": 1 - n_wrong / n_weights,
        "dead": float((weights[there] == 0).mean()),
        "n_weights": n_weights,
        "n_wrong": n_wrong,
        "balance": balance,
    }
