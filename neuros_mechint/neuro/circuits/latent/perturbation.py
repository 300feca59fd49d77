"""Whether a latent circuit tells what changes of a network's recurrent weights do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.matching import correlation
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.module_runs import check_trials_apart, recurrent_weights, run_copy
from neuros_mechint.neuro.circuits.latent.observations import trials_of
from neuros_mechint.neuro.circuits.latent.result import node_names

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

ChangedRun = Callable[[Floats], Floats]
"""From what is added to a network's recurrent weights, ``(n_units, n_units)``, to its outputs."""

_CONTROLS = {"random": "random directions", "turned": "turned directions of the circuit's space"}
_PAIR = ("target", "source")
_MOST_OF_IT = 0.25


class PerturbationTest(Result):
    """How well a circuit predicts what changes of single connections do to the network it was found in.

    ``data`` holds the ``correlation`` ``(target, source)`` of predicted and true changes of the outputs, over trials,
    times and outputs; how large both are (``predicted_size``, ``network_size``, root mean square); ``overall``, the
    correlation with the changes of all connections pooled, each of which is made alone; and ``sign_agreement``, the
    share of the stronger half of all predicted changes that have the right sign. Controls, ``(control,)``: ``random``,
    the overall correlation where the network is changed along random directions, and ``turned``, along directions that
    span the circuit's own space.
    """

    @property
    def overall(self) -> float:
        """Correlation of all predicted changes with the network's."""
        return float(self.data["overall"])

    @property
    def controls(self) -> dict[str, Floats]:
        """Overall correlation with networks that were changed along other directions."""
        return {name: self.data[name].values for name in _CONTROLS}

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.6

    def _draw(self, ax: Axes) -> None:
        found = self.data["correlation"].values
        ax.hist(
            found[np.isfinite(found)],
            bins=np.linspace(-1, 1, 41).tolist(),
            color=PALETTE[0],
            label="single connections",
        )
        ax.axvline(self.overall, color=PALETTE[1], label="pooled")
        for (name, told), dashes in zip(_CONTROLS.items(), ("--", ":"), strict=True):
            label = f"pooled, {told}"
            for index, value in enumerate(self.controls[name]):
                ax.axvline(value, color=MUTED_INK, ls=dashes, lw=1, label="" if index else label)
        ax.set(xlim=(-1.02, 1.02), xlabel="correlation of predicted and true changes", ylabel="connections")
        ax.grid(axis="y")
        ax.legend(loc="upper left")

    def _summary_lines(self) -> Iterator[str]:
        found = self.data["correlation"].values
        found = found[np.isfinite(found)]
        low, middle, high = np.quantile(found, (0.25, 0.5, 0.75)) if found.size else (np.nan,) * 3
        n_connections = self.data["correlation"].size
        yield f"correlation {self.overall:.2f}, pooled over the changes of {n_connections} connections, each made alone"
        yield self._verdict()
        yield (
            "1: the circuit predicts what each change does to the outputs, but for one factor; 0: nothing of it. It "
            "counts as far as it exceeds the controls: changes along directions other than those of the connections"
        )
        yield f"single connections: correlation {middle:.2f} (quartiles {low:.2f} and {high:.2f})"
        yield f"sign right in {float(self.data['sign_agreement']):.0%} of the stronger half of changes"
        controls = [(told, self.controls[name]) for name, told in _CONTROLS.items()]
        spread = [f"{told} {found.mean():.2f} ({found.min():.2f} to {found.max():.2f})" for told, found in controls]
        yield f"controls, pooled: {'; '.join(spread)}"

    def _verdict(self) -> str:
        """Return what the correlation says beside those of the controls."""
        controls = np.concatenate(list(self.controls.values()))
        as_good = int((controls >= self.overall).sum())
        if as_good:
            return (
                f"{as_good} of {len(controls)} controls are predicted as well: nothing here is special to the "
                "directions of the circuit's connections"
            )
        beyond = f"more than each of {len(controls)} controls, the best of which reaches {controls.max():.2f}"
        if self.overall**2 < _MOST_OF_IT:
            return f"{beyond}, but most of what the changes do is not predicted"
        return f"the circuit predicts what changes of its connections do: {beyond}"


def latent_perturbation_test(
    model: LatentCircuitModel,
    run: ChangedRun,
    inputs: Any,
    size: float = 0.02,
    network_alpha: float = 1.0,
    n_controls: int = 5,
    seed: SeedLike = 0,
    progress: bool = True,
) -> PerturbationTest:
    r"""Change each connection of a circuit, and the network's recurrent weights accordingly; compare what outputs do.

    A connection from node j to node i of a circuit with the embedding Q stands for the change
    :math:`q_i q_j^\top` of the recurrent weights. Controls change the network along other directions than those of the
    circuit: random ones, and a random rotation of the circuit's own. They are the harder to beat: they change the
    network within the same space.

    Parameters
    ----------
    model : LatentCircuitModel
        Fitted.
    run : callable
        Takes a change ``(n_units, n_units)`` of the recurrent weights, target first; returns the network's outputs
        ``(n_trials, n_times, n_outputs)``, in the order and at the times of the fit. For torch modules see
        `changed_run`.
    inputs : array_like of shape (n_trials, n_times, n_inputs)
        What the circuit is given; the network is to run the same trials.
    size : float
        Change of a connection, times ``alpha``: of what it adds in one step. Where a circuit holds its state for long,
        larger changes make it explode. Negative ones inhibit.
    network_alpha : float
        Time step divided by the time constant of the network's units; 1 for torch's recurrent layers.
    n_controls : int
        Of either kind.
    seed : int or numpy.random.Generator
        For the controls.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    PerturbationTest

    Raises
    ------
    InputError
        A model that is not fitted, or outputs of another shape than the circuit's or that are not finite.
    OptionError
        A number out of range.

    References
    ----------
    Langdon & Engel 2025, Latent circuit inference from heterogeneous neural responses during cognitive tasks,
    doi:10.1038/s41593-025-01869-7

    Examples
    --------
    A network that is the circuit, embedded in 10 units:

    >>> random = np.random.default_rng(0)
    >>> wiring = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -0.8], [0.9, 0.0, 0.4]])
    >>> inputs = random.uniform(0, 1, (20, 5, 2)).repeat(6, axis=1)
    >>> embedding = np.linalg.qr(random.standard_normal((10, 3)))[0]
    >>> states = simulate(wiring, np.eye(3, 2), inputs, alpha=0.2)
    >>> model = LatentCircuitModel(n_nodes=3).fit(inputs, states @ embedding.T, states[:, :, 2:])
    >>> def run(change):
    ...     return simulate(wiring + embedding.T @ change @ embedding, np.eye(3, 2), inputs, alpha=0.2)[:, :, 2:]
    >>> test = latent_perturbation_test(model, run, inputs, network_alpha=0.2)
    >>> round(test.overall, 3), bool(abs(test.controls["random"]).max() < 0.9)
    (1.0, True)
    """
    if not isinstance(model, LatentCircuitModel) or not callable(run):
        raise InputError(
            "a circuit and a network are needed",
            expected="a fitted LatentCircuitModel, and run(change) -> outputs",
            got=f"{type(model).__name__} and {type(run).__name__}",
            fix="changed_run(module, inputs) makes a run of a torch module",
        )
    driven = trials_of(inputs, "inputs")
    before = model.predict(driven).outputs
    size = float(number("size", size, -1, 1, closed="both"))
    if size == 0:
        raise OptionError("size is 0, which changes nothing", expected="a number up to 1, or down to -1", got=size)
    n_controls, random = whole("n_controls", n_controls), generator(seed)
    strength = size / number("network_alpha", network_alpha, 0, 1)
    n_units = len(model.embedding_)
    network = _Network(run, _checked(run(np.zeros((n_units, n_units))), before.shape))
    predicted = _predicted(model, driven, size / model.alpha_) - before
    true = network.changes(model.embedding_, strength)
    others = _other_directions(model.embedding_, n_controls, random)
    controls = [
        _pooled(predicted, network.changes(directions, strength))
        for directions in progress_bar(others, description="changing along other directions", enabled=progress)
    ]
    arguments = {"size": size, "network_alpha": network_alpha, "n_controls": n_controls, "inputs": driven}
    return _judged(model, predicted, true, controls, Provenance.record(seed, arguments=arguments))


def changed_run(
    module: torch.nn.Module,
    inputs: Any,
    read: Callable[[Floats], Floats] | None = None,
    weight: str | None = None,
) -> ChangedRun:
    """Return a function that runs a torch module with changed recurrent weights.

    Each run is one of a copy in evaluation mode: neither the module nor global random numbers change.

    Parameters
    ----------
    module : torch.nn.Module
        With a simple recurrent layer, ``nn.RNN`` or ``nn.RNNCell``, or recurrent weights of another name. It returns
        its outputs, or a tuple whose first entry they are, ``(n_trials, n_times, n_outputs)``.
    inputs : array_like of shape (n_trials, n_times, n_inputs)
        Of the module, which may be others than those of the circuit.
    read : callable, optional
        What takes the module's outputs to those of the circuit.
    weight : str, optional
        Name of the recurrent weights among ``named_parameters()``, target first. By default the only square
        ``weight_hh`` there is.

    Returns
    -------
    callable
        As `latent_perturbation_test` takes it. Outputs are those before the input of the same time, as a circuit has
        them: 0 at first, then what the module returned one step earlier.

    Raises
    ------
    CapabilityError
        A module without recurrent weights that are one square matrix, such as a GRU.
    InputError
        Inputs that the module does not take, outputs or a change of another shape, or trials that act on each other, as
        in a layer that takes times first.

    Examples
    --------
    >>> import torch
    >>> run = changed_run(torch.nn.RNN(2, 5, batch_first=True), np.ones((3, 4, 2)))
    >>> run(np.zeros((5, 5))).shape
    (3, 4, 5)
    """
    import torch

    if read is not None and not callable(read):
        raise InputError("read is no function", expected="read(outputs) -> outputs of the circuit", got=repr(read))
    name, weights = recurrent_weights(module, weight)
    given = torch.as_tensor(trials_of(inputs, "inputs"), dtype=weights.dtype, device=weights.device)
    check_trials_apart(module, name, weights, given)

    def run(change: Floats) -> Floats:
        added = real_array(change, "the change", finite=False)
        if added.shape != weights.shape:
            raise InputError("the change does not fit the weights", expected=tuple(weights.shape), got=added.shape)
        found = run_copy(module, name, torch.as_tensor(added, dtype=weights.dtype, device=weights.device), given)
        late = np.zeros_like(found)
        late[:, 1:] = found[:, :-1]
        if read is None:
            return late
        taken = real_array(read(late), "what read returns", finite=False)
        if taken.ndim != 3 or taken.shape[:2] != late.shape[:2]:
            raise InputError(
                "read does not return outputs of each trial and time",
                expected=f"({late.shape[0]}, {late.shape[1]}, n_outputs)",
                got=f"shape {taken.shape}",
            )
        taken[:, 0] = 0
        return taken

    return run


class _Network(NamedTuple):
    """A network that may be changed, and its outputs as it is."""

    run: ChangedRun
    before: Floats

    def changes(self, directions: Floats, strength: float) -> Floats:
        """Return by how much the change of each connection changes the outputs, ``(connection, trial, time, output)``.

        Connections lie between directions, the columns of an orthonormal matrix, and are ordered by their target.
        """
        return np.stack(
            [self._after(strength * np.outer(*pair)) - self.before for pair in product(directions.T, repeat=2)]
        )

    def _after(self, change: Floats) -> Floats:
        return _checked(self.run(change), self.before.shape)


def _checked(outputs: Any, shape: tuple[int, ...]) -> Floats:
    found = real_array(outputs, "outputs of the network", finite=False)
    if found.shape != shape or not np.isfinite(found).all():
        raise InputError(
            "the network has other outputs than the circuit",
            expected=f"finite numbers of shape {shape}: trials, times, outputs",
            got=f"shape {found.shape}, {np.isfinite(found).mean():.0%} finite",
            fix="run the trials of `inputs`, and return what the circuit was fitted to; or take a smaller size",
        )
    return found


def _other_directions(embedding: Floats, n_controls: int, random: np.random.Generator) -> list[Floats]:
    n_nodes = embedding.shape[1]
    anywhere = [np.linalg.qr(random.standard_normal(embedding.shape))[0] for _ in range(n_controls)]
    turned = [np.linalg.qr(random.standard_normal((n_nodes, n_nodes)))[0] for _ in range(n_controls)]
    return [*anywhere, *(embedding @ turn for turn in turned)]


def _predicted(model: LatentCircuitModel, inputs: Floats, change: float) -> Floats:
    """Return the circuit's outputs after each change, ``(connection, trial, time, output)``."""
    found = []
    for target, source in np.ndindex(model.connectivity_.shape):
        connectivity = model.connectivity_.copy()
        connectivity[target, source] += change
        states = simulate(connectivity, model.input_weights_, inputs, model.alpha_)
        found.append(states @ model.output_weights_.T)
    return np.stack(found)


def _pooled(predicted: Floats, true: Floats) -> float:
    """Return the correlation of all changes; 0 where nothing changes, for then nothing is predicted."""
    return float(np.nan_to_num(correlation(predicted, true)))


def _judged(
    model: LatentCircuitModel, predicted: Floats, true: Floats, controls: list[float], provenance: Provenance
) -> PerturbationTest:
    n_nodes = len(model.connectivity_)
    names = node_names(n_nodes, model.input_names_, model.output_names_)
    square = (n_nodes, n_nodes)

    def sized(values: Floats) -> Floats:
        return np.sqrt(np.square(values).mean((1, 2, 3))).reshape(square)

    single = np.array([correlation(*pair) for pair in zip(predicted, true, strict=True)]).reshape(square)
    strong = np.abs(predicted) > np.median(np.abs(predicted[predicted != 0]))
    agreement = float((np.sign(predicted) == np.sign(true))[strong].mean()) if strong.any() else float("nan")

    alike = {"long_name": "correlation of predicted and true changes", "units": "1"}
    large = {"long_name": "root mean square change of the outputs", "units": "units of the outputs"}
    data = xr.Dataset(
        {
            "correlation": (_PAIR, single, alike),
            "predicted_size": (_PAIR, sized(predicted), large),
            "network_size": (_PAIR, sized(true), large),
            "overall": ((), _pooled(predicted, true), alike),
            "sign_agreement": ((), agreement, {"long_name": "share of changes of the right sign", "units": "1"}),
            "random": ("control", controls[: len(controls) // 2], alike),
            "turned": ("control", controls[len(controls) // 2 :], alike),
        },
        {"target": names, "source": names},
    )
    return PerturbationTest(
        data,
        "Changes of single connections, predicted by the circuit",
        attributes={"alpha": model.alpha_, "r2": model.r2_},
        provenance=provenance,
        citations=("langdon2025",),
        warnings=_doubts(data),
    )


def _doubts(data: xr.Dataset) -> tuple[str, ...]:
    overall, best = float(data["overall"]), float(np.abs(data["random"]).max())
    if not overall > best:
        return (f"the circuit (correlation {overall:.2f}) predicts no better than random directions ({best:.2f})",)
    return ()
