"""The latent circuit of any recurrent network, and its tests: changes of the network, held-out trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.composite import CompositeResult, pack
from neuros_mechint.core.errors import CapabilityError, InputError, NeurosMechintError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.circuits.latent.channels import split_signed_channels
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.perturbation import changed_run, latent_perturbation_test
from neuros_mechint.neuro.circuits.latent.validation import PCAComparison, compare_with_pca

MOST_NODES = 16
"""Largest circuit that is fitted: the time grows with the cube of its connections."""

_STARTS = 2
_CAPTIONS = {
    "circuit": "Connections between the nodes, named after the input they receive or the output they are read as; "
    "what has both signs is one node for each.",
    "perturbation": "What the circuit says a change of the network's recurrent weights does to its outputs, and "
    "what it does. A circuit that stands lies on the line; beside it, changes along other directions, which it "
    "should not predict.",
    "pca": "The circuit beside linear dynamics of as many principal components, on trials they were not fitted to.",
}


class NetworkCircuit(CompositeResult):
    """The latent circuit of a recurrent network, and its tests.

    ``data`` holds over ``part`` what each found first, and the data of all parts, their names preceded by that of the
    part. `parts` gives these as results of their own: ``circuit``, ``perturbation`` (of networks with one simple
    recurrent layer) and ``pca``.
    """

    drawn = "circuit"
    captions = _CAPTIONS

    def _summary_lines(self) -> Iterator[str]:
        for part, found in zip(self.data["part"].values, self.data["finding"].values, strict=True):
            yield f"{part}: {found}"


class Channels(NamedTuple):
    """Channels that are never negative, which nodes of a circuit can receive and be read as.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_trials, n_times, n_channels)
    names : tuple of str
    kept : numpy.ndarray of bool, of shape (2 * n_signed,)
        Which parts of signed channels are not silent.
    """

    values: Floats
    names: tuple[str, ...]
    kept: np.ndarray

    def read(self, values: Floats) -> Floats:
        """Return other values of the same signed channels in these channels."""
        return split_signed_channels(values)[..., self.kept]


def channels_of(signed: Floats, kind: str) -> Channels:
    """Part signed channels into one for either sign, and leave out those that are silent.

    Parameters
    ----------
    signed : numpy.ndarray of shape (n_trials, n_times, n_signed)
    kind : {"input", "output"}
        For their names.

    Returns
    -------
    Channels

    Examples
    --------
    >>> channels_of(np.array([[[1.0, 2.0], [-1.0, 0.0]]]), "input").names
    ('input 0 +', 'input 0 -', 'input 1 +')
    """
    parts = split_signed_channels(signed)
    kept = parts.any((0, 1))
    names = [f"{kind} {index} {sign}" for index in range(signed.shape[-1]) for sign in "+-"]
    return Channels(parts[..., kept], tuple(np.array(names)[kept].tolist()), kept)


def network_circuit(
    module: Any,
    inputs: Floats,
    states: Floats,
    outputs: Floats,
    alpha: float | None,
    seed: int,
    progress: bool = True,
) -> NetworkCircuit:
    """Fit a latent circuit to a network's run, with one node for each channel of inputs and outputs, and test it.

    Parameters
    ----------
    module : torch.nn.Module or None
        The network, to change its weights; it stays as it is. None: it cannot be changed.
    inputs, states, outputs : numpy.ndarray of shape (n_trials, n_times, n)
        Of its run from rest; states and outputs are those after the input of the same time. The first two thirds of
        trials are fitted, the last third tests changes.
    alpha : float or None
        Time step divided by the time constant of a node; estimated where None.
    seed : int
    progress : bool

    Returns
    -------
    NetworkCircuit
        Its warnings tell what speaks against it.

    Raises
    ------
    InputError
        More channels than `MOST_NODES`, or as for the fit.

    References
    ----------
    Langdon & Engel 2025, Latent circuit inference from heterogeneous neural responses during cognitive tasks,
    doi:10.1038/s41593-025-01869-7
    """
    driven, read = channels_of(inputs, "input"), channels_of(late(outputs), "output")
    n_nodes = len(driven.names) + len(read.names)
    if n_nodes > MOST_NODES:
        raise InputError(
            "the circuit would have too many nodes",
            expected=f"at most {MOST_NODES}: one for each input and output, two where it is signed",
            got=f"{len(driven.names)} inputs and {len(read.names)} outputs",
            fix="fit nm.LatentCircuitModel to the inputs and outputs that matter",
        )
    n_fitted = 2 * len(inputs) // 3
    seen = driven.values[:n_fitted], late(states)[:n_fitted], read.values[:n_fitted]
    model = LatentCircuitModel(n_nodes, alpha=alpha, n_starts=_STARTS, seed=seed)
    model.fit(*seen, progress=progress, input_names=driven.names, output_names=read.names)
    parts: dict[str, Result] = {"circuit": model.result_}
    doubts: list[str] = []
    try:
        if module is None:
            raise CapabilityError("the network is no torch module")
        run = changed_run(module, inputs[n_fitted:].astype(np.float32), read=read.read)
        parts["perturbation"] = latent_perturbation_test(
            model, run, driven.values[n_fitted:], seed=seed, progress=progress
        )
    except NeurosMechintError as error:
        doubts.append(f"the circuit was not tested by changes of the network's weights: {error.problem}")
    scores = compare_with_pca(model, *seen, seed=seed, progress=progress)
    parts["pca"] = scores
    doubts += _linear_is_better(scores)
    data, about = pack(parts)
    findings = [part.findings[0] for part in parts.values()]
    citations = dict.fromkeys(key for part in parts.values() for key in part.citations)
    return NetworkCircuit(
        xr.Dataset({"finding": ("part", findings)}, {"part": list(parts)}).merge(data),
        "Latent circuit and its tests",
        attributes={"parts": about, "n_fitted": n_fitted, "n_tested": len(inputs) - n_fitted},
        provenance=Provenance.record(seed, arguments={"alpha": alpha, "inputs": inputs}),
        citations=tuple(citations),
        warnings=tuple(doubts),
    )


def _linear_is_better(scores: PCAComparison) -> Iterator[str]:
    """Yield that linear dynamics predict held-out trials better than the circuit, where they do so in every fold."""
    for kind in ("activity", "outputs"):
        circuit, linear = (scores.data[kind].sel(model=name).values for name in ("circuit", "linear"))
        if (linear > circuit).all():
            yield (
                f"linear dynamics of as many principal components predict the {kind} of held-out trials better than "
                f"the circuit in each fold (R2 {linear.mean():.2f}, the circuit's {circuit.mean():.2f})"
            )


def late(values: Floats) -> Floats:
    """Return states or outputs before the input of the same time, from rest.

    Examples
    --------
    >>> late(np.array([[[1.0], [2.0], [3.0]]])).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    return np.concatenate([np.zeros_like(values[:, :1]), values[:, :-1]], axis=1)
