"""Delay embedding: the state of a system from what one or few of its variables did before."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.provenance import Provenance
from neuros_mechint.neuro.dynamics.embedding.choices import EmbeddingChoice, choose_embedding
from neuros_mechint.neuro.dynamics.embedding.delays import States, embed
from neuros_mechint.neuro.dynamics.embedding.results import DelayEmbedding
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, trajectories


def delay_embedding(
    x: Any, delay: int | None = None, dimension: int | None = None, progress: bool = True
) -> DelayEmbedding:
    """Return states made of samples that lie a delay apart, from which the dynamics can be rebuilt.

    By Takens' theorem ``dimension`` such samples of one variable of a deterministic system follow trajectories that
    are those of the system, stretched and bent, if they are more than twice as many as its attractor has dimensions;
    often fewer do.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(time,)``, ``(time, unit)``, ``(trial, time, unit)``, or a list of trials ``(time, unit)`` of any lengths. No
        state holds samples of two trials. Distances are Euclidean: units should have one scale.
    delay : int, optional
        Samples. By default the first minimum of the average mutual information between a sample and a later one,
        averaged over units; 1 where a sample hardly tells of the next, as in a map; the first zero of the
        autocorrelation where there is no such minimum.
    dimension : int, optional
        Samples per state, of each unit. By default the fewest with less than 1% false nearest neighbours, at most 10.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    DelayEmbedding
        ``.trials``, ``.delay``, ``.dimension``. Warns where neighbours remain false in 10 dimensions, as in noise.

    Raises
    ------
    InputError
        Values that are missing, data that are constant, or too few samples for the embedding.
    OptionError
        A delay or dimension below 1.

    References
    ----------
    Takens 1981, Detecting strange attractors in turbulence, doi:10.1007/BFb0091924; Fraser and Swinney 1986,
    doi:10.1103/PhysRevA.33.1134; Kennel, Brown and Abarbanel 1992, doi:10.1103/PhysRevA.45.3403

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> x = nm.simulate(nm.henon_map, torch.tensor([0.1, 0.1], dtype=torch.float64), n_steps=1500)[..., :1]
    >>> found = nm.delay_embedding(x)
    >>> found.delay, found.dimension, found.trials[0].shape
    (1, 2, (1499, 2))
    """
    given = trajectories(x, name="x", why="to embed")
    choice = choose_embedding(given, delay, dimension, progress=progress, several_units=True)
    states = embed(given.trials, choice.delay, choice.dimension)
    for text in choice.warnings:
        warnings.warn(text, UserWarning, stacklevel=2)
    return DelayEmbedding(
        _dataset(given, choice, states),
        "Delay embedding",
        attributes={
            "delay": choice.delay,
            "delay_rule": choice.delay_rule,
            "dimension": choice.dimension,
            "dimension_rule": choice.dimension_rule,
            "theiler": choice.theiler,
            "dt": given.dt,
            "n_trials": len(given.trials),
            "n_units": given.n_units,
        },
        provenance=Provenance.record(
            arguments={"x": given.joined(), "lengths": list(given.lengths), "delay": delay, "dimension": dimension}
        ),
        citations=("takens1981", "fraser1986", "kennel1992"),
        warnings=choice.warnings,
    )


def _dataset(given: Trajectories, choice: EmbeddingChoice, states: States) -> xr.Dataset:
    unit = "s" if given.sampling_rate else "samples"
    names = [str(name) for name in given.units] if given.units else [f"unit {i}" for i in range(given.n_units)]
    delays = np.repeat(np.arange(choice.dimension) * choice.delay, given.n_units) * given.dt
    data: dict[str, Any] = {"states": (("sample", "coordinate"), states.points, {"long_name": "state"})}
    coordinates: dict[str, Any] = {
        "trial": ("sample", states.trial),
        "time": ("sample", states.position * given.dt, {"units": unit, "long_name": "time of the earliest sample"}),
        "unit": ("coordinate", names * choice.dimension),
        "delay": ("coordinate", delays, {"units": unit, "long_name": "delay"}),
    }
    if choice.information is not None:
        about = {"units": "nats", "long_name": "average mutual information"}
        data["mutual_information"] = ("lag", choice.information, about)
        coordinates["lag"] = ("lag", np.arange(len(choice.information)) * given.dt, {"units": unit})
    if choice.false_neighbours is not None:
        about = {"units": "1", "long_name": "share of false nearest neighbours"}
        data["false_neighbours"] = ("tried_dimension", choice.false_neighbours, about)
        coordinates["tried_dimension"] = ("tried_dimension", np.arange(len(choice.false_neighbours)) + 1)
    return xr.Dataset(data, coordinates)
