"""What a latent circuit gives up, or gains, against principal components and linear dynamics in their space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.observations import Observations, folds_of_conditions, observations
from neuros_mechint.neuro.circuits.latent.scores import explained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODELS = ("circuit", "linear", "random", "subspace")
_RIDGE = 1e-6  # of the variance of each feature
_LEAST_SPREAD = 1e-9  # of the size of a feature: rounding


class PCAComparison(Result):
    """How well held-out conditions are predicted by a circuit and by linear dynamics of as many principal components.

    ``data`` holds the held-out R2 of the ``activity`` and of the ``outputs``, ``(model, fold)``. The models:
    ``circuit``; ``linear``, in the space of as many principal components; ``random``, the circuit with its nodes
    turned into random directions; and ``subspace``, how much of the held-out activity lies in the space of the
    components at all. The last is no prediction, but what no prediction within this space can exceed by much.
    """

    @property
    def scores(self) -> dict[str, float]:
        """Mean held-out R2 of the activity, by model."""
        return {str(name): float(self.data["activity"].sel(model=name).mean()) for name in MODELS}

    def _draw(self, ax: Axes) -> None:
        places = np.arange(len(MODELS))
        for index, name in enumerate(("activity", "outputs")):
            folds = self.data[name].values
            at = places + 0.36 * index - 0.18
            ax.bar(at, np.clip(folds.mean(1), -0.1, None), width=0.34, color=PALETTE[index], label=name)
            ax.plot(np.repeat(at, folds.shape[1]), np.clip(folds, -0.1, None).ravel(), ".", color=MUTED_INK)
        ax.set_xticks(places, MODELS)
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.set(ylabel="held-out R2", ylim=(-0.12, 1.2), yticks=np.linspace(0, 1, 6))
        ax.grid(axis="y")
        ax.legend(loc="upper center", ncols=2)

    def _summary_lines(self) -> Iterator[str]:
        told = {
            "circuit": f"circuit of {self.attributes['n_nodes']} nodes",
            "linear": "linear dynamics of as many principal components",
            "random": "control, the circuit in random directions",
        }
        for name, words in told.items():
            activity, outputs = (self._over_folds(kind, name) for kind in ("activity", "outputs"))
            yield f"{words}: held-out R2 of the activity {activity}, of the outputs {outputs}"
        yield f"share of the activity in the space of the components: {self._over_folds('activity', 'subspace')}"
        yield f"in brackets: least and most of {self.data.sizes['fold']} folds"

    def _over_folds(self, kind: str, name: str) -> str:
        folds = self.data[kind].sel(model=name).values
        return f"{folds.mean():.3f} ({folds.min():.3f} to {folds.max():.3f})"


def compare_with_pca(
    model: LatentCircuitModel,
    inputs: Any,
    activity: Any,
    outputs: Any,
    conditions: Any = None,
    cv: int = 3,
    seed: SeedLike = 0,
    progress: bool = True,
) -> PCAComparison:
    r"""Compare a latent circuit with linear dynamics of as many principal components, on held-out conditions.

    The linear model is :math:`p_{t+1} = A p_t + B u_t + c`, where p are the principal components of the activity; A, B
    and c are found by regression. It starts at the mean activity of the first time and, as the circuit does, goes on
    from the inputs alone; outputs are read from it by regression too. It has more parameters than the circuit, and no
    labels. Its slight ridge is on features of unit variance: units matter to neither model.

    `LatentCircuitModel.score` tells how much one fit reproduces of trials that the caller kept apart; here the circuit
    is fitted anew in each fold, beside a linear model of the same conditions, so that the two can be compared.

    Parameters
    ----------
    model : LatentCircuitModel
        Its parameters count: it is fitted anew in each fold, and stays as it is.
    inputs, activity, outputs, conditions
        As for its `fit`.
    cv : int
        At least 2. The means of the conditions of a fold are predicted by what was fitted to the others.
    seed : int or numpy.random.Generator
        For the folds and the random directions.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    PCAComparison

    Raises
    ------
    InputError
        As for the fit, or fewer conditions than folds.

    References
    ----------
    Langdon & Engel 2025, Latent circuit inference from heterogeneous neural responses during cognitive tasks,
    doi:10.1038/s41593-025-01869-7

    Examples
    --------
    >>> from neuros_mechint.neuro.circuits.latent.dynamics import simulate
    >>> random = np.random.default_rng(0)
    >>> wiring = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -1.8], [0.9, 0.0, 0.4]])
    >>> inputs = random.uniform(0, 1, (20, 5, 2)).repeat(6, axis=1)
    >>> states = simulate(wiring, np.eye(3, 2), inputs, alpha=0.2)
    >>> activity = states @ np.linalg.qr(random.standard_normal((10, 3)))[0].T
    >>> found = compare_with_pca(LatentCircuitModel(n_nodes=3), inputs, activity, states[:, :, 2:])
    >>> found.scores["circuit"] > found.scores["linear"] > found.scores["random"]
    True
    """
    if not isinstance(model, LatentCircuitModel):
        raise InputError("this is no latent circuit", expected="a LatentCircuitModel", got=type(model).__name__)
    seen, random = observations(inputs, activity, outputs, conditions), generator(seed)
    folds = folds_of_conditions(seen, cv, random)
    scores = np.zeros((2, len(MODELS), len(folds)))
    for index, (fitted, held) in enumerate(progress_bar(folds, description="holding out", enabled=progress)):
        scores[:, :, index] = _held_out(model, seen.chosen(fitted), seen.chosen(held).averaged(), random)
    about = {"long_name": "held-out R2", "units": "1"}
    data = xr.Dataset(
        {
            name: (("model", "fold"), values, about)
            for name, values in zip(("activity", "outputs"), scores, strict=True)
        },
        {"model": list(MODELS)},
    )
    arguments = {**model.get_params(), "cv": cv, "activity": seen.activity}
    return PCAComparison(
        data,
        "A latent circuit beside principal components",
        attributes={"n_nodes": int(model.n_nodes)},
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("langdon2025",),
    )


class LinearDynamics(NamedTuple):
    """Linear dynamics of principal components, with what the outputs read from them.

    Parameters
    ----------
    mean : numpy.ndarray of shape (n_units,)
    components : numpy.ndarray of shape (n_units, n_components)
    steps : numpy.ndarray of shape (n_components + n_inputs + 1, n_components)
        What takes components, inputs and 1 to the next components.
    start : numpy.ndarray of shape (n_components,)
    readout : numpy.ndarray of shape (n_components + 1, n_outputs)
    """

    mean: Floats
    components: Floats
    steps: Floats
    start: Floats
    readout: Floats

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return activity and outputs, from the inputs alone."""
        ones = np.ones((len(inputs), 1))
        state = np.tile(self.start, (len(inputs), 1))
        states = [state]
        for time in range(inputs.shape[1] - 1):
            state = np.concatenate([state, inputs[:, time], ones], axis=1) @ self.steps
            states.append(state)
        path = np.stack(states, axis=1)
        return path @ self.components.T + self.mean, path @ self.readout[:-1] + self.readout[-1]

    def within(self, activity: Floats) -> Floats:
        """Return the part of the activity that lies in the space of the components."""
        return (activity - self.mean) @ self.components @ self.components.T + self.mean


def linear_dynamics(seen: Observations, n_components: int) -> LinearDynamics:
    """Return linear dynamics of principal components, found by regression.

    Parameters
    ----------
    seen : Observations
    n_components : int

    Returns
    -------
    LinearDynamics

    Examples
    --------
    A decaying unit that an input drives:

    >>> inputs = np.ones((3, 4, 1)) * np.arange(3)[:, None, None]
    >>> activity = np.zeros((3, 4, 1))
    >>> for time in range(3):
    ...     activity[:, time + 1] = 0.5 * activity[:, time] + inputs[:, time]
    >>> found = linear_dynamics(observations(inputs, activity, activity), 1)
    >>> bool(np.allclose(found.predict(inputs)[0], activity, atol=1e-3))
    True
    """
    flat = seen.activity.reshape(-1, seen.activity.shape[-1])
    mean = flat.mean(0)
    components = np.linalg.eigh(np.cov(flat.T).reshape(len(mean), -1))[1][:, ::-1][:, :n_components]
    states = (seen.activity - mean) @ components
    now = np.concatenate([states, seen.inputs], axis=-1)
    steps = _regression(now[:, :-1].reshape(-1, now.shape[-1]), states[:, 1:].reshape(-1, n_components))
    readout = _regression(states.reshape(-1, n_components), seen.outputs.reshape(-1, seen.outputs.shape[-1]))
    return LinearDynamics(mean, components, steps, states[:, 0].mean(0), readout)


def _regression(features: Floats, values: Floats) -> Floats:
    """Return coefficients of the features and, last, a constant: a ridge on features of unit variance, none on it.

    Features in other units lead to the same predictions. What does not vary has no coefficient.
    """
    centre, middle = features.mean(0), values.mean(0)
    spread, size = features.std(0), np.sqrt(np.square(features).mean(0))
    varies = spread > _LEAST_SPREAD * size
    scale = np.where(varies, spread, 1.0)
    standard = np.where(varies, (features - centre) / scale, 0.0)
    gram = standard.T @ standard + _RIDGE * len(standard) * np.eye(len(scale))
    coefficients = np.linalg.solve(gram, standard.T @ (values - middle)) / scale[:, None]
    return np.concatenate([coefficients, (middle - centre @ coefficients)[None]])


def _held_out(
    model: LatentCircuitModel, fitted: Observations, held: Observations, random: np.random.Generator
) -> Floats:
    """Return the R2 of held-out activity and outputs, one column for each model."""
    circuit = type(model)(**model.get_params()).fit_observations(fitted, warn=False)
    linear = linear_dynamics(fitted.averaged(), circuit.embedding_.shape[1])
    by_circuit, by_linear = circuit.predict(held.inputs), linear.predict(held.inputs)
    elsewhere = np.linalg.qr(random.standard_normal(circuit.embedding_.shape))[0]
    turned = np.linalg.qr(random.standard_normal((len(circuit.connectivity_),) * 2))[0]
    inside = linear.within(held.activity)
    readable = (inside - linear.mean) @ linear.components @ linear.readout[:-1] + linear.readout[-1]
    predictions = (
        (by_circuit.activity, by_circuit.outputs),
        by_linear,
        (by_circuit.latents @ elsewhere.T, by_circuit.latents @ turned @ circuit.output_weights_.T),
        (inside, readable),
    )
    rows = [[explained(held.activity, one), explained(held.outputs, other)] for one, other in predictions]
    return np.array(rows).T
