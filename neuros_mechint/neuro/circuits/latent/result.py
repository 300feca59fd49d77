"""LatentCircuit: a fitted circuit with labels, a summary and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.core.figures.colours import colour_scale
from neuros_mechint.core.figures.plotting import heat_map
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel

_MOST_NUMBERED = 12
_STRONGEST = 8
_LEAST_ALIKE = 0.9


class LatentCircuit(Result):
    """A circuit of few nodes behind the activity of many units.

    ``data`` holds the ``connectivity`` and its ``standard_error`` ``(target, source)``, ``input_weight``
    ``(target, input)``, ``output_weight`` ``(output, source)`` and the ``embedding`` ``(unit, node)``. Nodes are named
    after the input that drives them, or the output that is read from them; others are hidden.
    """

    @property
    def connectivity(self) -> xr.DataArray:
        """Weights ``(target, source)``."""
        return self.data["connectivity"]

    @property
    def standard_errors(self) -> xr.DataArray:
        """Of the connectivity, ``(target, source)``."""
        return self.data["standard_error"]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        n_nodes = len(self.connectivity)
        return max(5.0, 2.2 + 0.66 * n_nodes), max(3.4, 1.2 + 0.52 * n_nodes)

    def _draw(self, ax: Axes) -> None:
        weights, errors = self.connectivity, self.standard_errors.values
        heat_map(weights, ax, center=0.0)
        ax.tick_params(axis="x", rotation=45)
        if len(weights) > _MOST_NUMBERED:
            return
        _, norm = colour_scale(weights.values, 0.0)
        for (row, column), weight in np.ndenumerate(weights.values):
            dark = abs(float(norm(weight)) - 0.5) > 0.3
            told = f"{round(weight, 2) + 0.0:.2f}\n±{errors[row, column]:.2f}"  # no negative zeros
            ax.text(column, row, told, ha="center", va="center", fontsize=6.5, color="white" if dark else "black")

    def _summary_lines(self) -> list[str]:
        """Return what was found in words."""
        about, sizes = self.attributes, self.data.sizes
        fitted = f"means of {about['n_conditions']} conditions" if about["averaged"] else f"{about['n_trials']} trials"
        shown = "none" if about["r2_outputs"] is None else f"{about['r2_outputs']:.4f}"
        return [
            f"{sizes['target']} nodes in {sizes['unit']} units, {sizes['input']} inputs, {sizes['output']} outputs, "
            f"alpha {about['alpha']:.3g}; fitted to {fitted}",
            f"R2: activity {about['r2']:.4f} ({about['r2_conditions']:.4f} of condition means), outputs {shown}",
            *self._held_out(),
            f"standard errors of the connectivity: median {np.median(self.standard_errors):.2g}, "
            f"largest {float(self.standard_errors.max()):.2g}",
            f"strongest connections: {self._strongest()}",
        ]

    def _held_out(self) -> list[str]:
        scores, alike = self.attributes["held_out"], self.attributes["alike"]
        if not scores:
            return []
        return [
            f"held-out conditions: R2 {np.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f} in {len(scores)} "
            f"folds); connectivity without them correlates {min(alike):.3f} or more with that of all"
        ]

    def _strongest(self) -> str:
        weights, errors = self.connectivity.values, self.standard_errors.values
        names = self.connectivity["source"].values
        order = np.argsort(-abs(weights), axis=None)[:_STRONGEST]
        return "; ".join(
            f"{names[source]} to {names[target]} {weights[target, source]:.2f} ± {errors[target, source]:.2f}"
            for target, source in zip(*np.unravel_index(order, weights.shape), strict=True)
        )


def latent_circuit(
    model: LatentCircuitModel, held_out: Sequence[float] = (), alike: Sequence[float] = ()
) -> LatentCircuit:
    """Return a fitted model as a result.

    Parameters
    ----------
    model : LatentCircuitModel
    held_out, alike : sequence of float
        Of each fold: the score of the conditions held out, and the correlation of the connectivity with that of the
        whole.

    Returns
    -------
    LatentCircuit
    """
    inputs, outputs = model.input_names_, model.output_names_
    names = node_names(len(model.connectivity_), inputs, outputs)
    weight = {"long_name": "connection weight", "units": "1"}
    data = xr.Dataset(
        {
            "connectivity": (("target", "source"), model.connectivity_, weight),
            "standard_error": (
                ("target", "source"),
                model.connectivity_se_,
                {"long_name": "standard error of the connection weight", "units": "1"},
            ),
            "input_weight": (("target", "input"), model.input_weights_, {"long_name": "input weight", "units": "1"}),
            "output_weight": (
                ("output", "source"),
                model.output_weights_,
                {"long_name": "output weight", "units": "1"},
            ),
            "embedding": (("unit", "node"), model.embedding_, {"long_name": "embedding", "units": "1"}),
        },
        {"target": names, "source": names, "node": names, "input": list(inputs), "output": list(outputs)},
    )
    data["target"].attrs["long_name"], data["source"].attrs["long_name"] = "receiving node", "sending node"
    attributes = {
        "alpha": model.alpha_,
        "alpha_estimated": model.alpha is None,
        "averaged": model.averaged_,
        "r2": model.r2_,
        "r2_outputs": None if np.isnan(model.r2_outputs_) else model.r2_outputs_,
        "r2_conditions": model.r2_conditions_,
        "costs": list(model.costs_),
        "agreed": model.agreed_,
        "n_trials": model.n_trials_,
        "n_conditions": model.n_conditions_,
        "held_out": list(held_out),
        "alike": list(alike),
    }
    return LatentCircuit(
        data,
        "Latent circuit",
        attributes=attributes,
        provenance=Provenance.record(model.seed, arguments=model.get_params()),
        citations=("langdon2025",),
        warnings=(*model.doubts_, *_strays(alike)),
    )


def _strays(alike: Sequence[float]) -> tuple[str, ...]:
    if not alike or min(alike) >= _LEAST_ALIKE:
        return ()
    return (
        f"without a part of the conditions the connectivity is another: it correlates {min(alike):.2f} with that of "
        "all of them",
    )


def node_names(n_nodes: int, inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Return what nodes are called: after the input that drives them, the output that is read from them, or neither.

    Where an input and an output have one name, each is said to be what it is.

    Examples
    --------
    >>> node_names(4, ["cue", "tone"], ["lick"]), node_names(2, ["cue", "tone"], ["lick"])
    (['cue', 'tone', 'hidden 0', 'lick'], ['cue', 'tone = lick'])
    """
    if set(inputs) & set(outputs):
        inputs, outputs = [f"input {name}" for name in inputs], [f"output {name}" for name in outputs]
    names = []
    for node in range(n_nodes):
        labels = [inputs[node]] if node < len(inputs) else []
        if node >= n_nodes - len(outputs):
            labels.append(outputs[node - n_nodes + len(outputs)])
        names.append(" = ".join(labels) or f"hidden {node - len(inputs)}")
    return names
