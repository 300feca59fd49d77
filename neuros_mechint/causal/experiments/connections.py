"""Weaken or remove connections, and read what the model does, beside as many random connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neuros_mechint.causal.counterfactuals.dose_results import DoseResponse
from neuros_mechint.causal.experiments.populations import curve_of, plain_window
from neuros_mechint.causal.experiments.readouts import Observation, Readout, one_readout, reading, sites_of
from neuros_mechint.causal.experiments.times import amounts
from neuros_mechint.causal.experiments.units import Population
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Edit, Scale
from neuros_mechint.core.errors import CapabilityError, InputError, whole
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.random import SeedLike, generator

_AXIS = "synapse"


def lesion_connections(
    model: Adapter,
    inputs: Any,
    site: str,
    readout: Readout,
    *,
    sources: Sequence[int] | None = None,
    targets: Sequence[int] | None = None,
    factors: Sequence[float] = (0.0, 0.5, 1.0),
    readout_window: Any = None,
    dt: Any = None,
    n_controls: int = 19,
    seed: SeedLike = 0,
) -> DoseResponse:
    r"""Multiply the weights of connections by smaller and smaller factors.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``, with connections as a site: a Brian2 network.
    inputs : inputs of the model
        Trials. Random numbers of a trial are the same with and without the lesion.
    site : str
        Where the weights are: ``"SYNAPSES.w"``, maybe with an index, ``"SYNAPSES.w[synapse=0:100]"``.
    readout : str or callable
        A site, whose mean over units and time is taken (of spikes, their rate), or ``metric(output)``.
    sources, targets : sequence of int, optional
        Numbers of the cells from which, and to which, the connections go; by default any.
    factors : sequence of float
        1 leaves the connections as they are, 0 removes them.
    readout_window : tuple (start, stop), optional
        When to read a site, in s from the beginning of the trial; by default all the time.
    dt : float, optional
        Length of a time step in s, for models that do not know it.
    n_controls : int
        How many times to do the same to as many random connections of the site.
    seed : int or numpy.random.Generator
        Draws controls, bootstrap samples and signs.

    Returns
    -------
    DoseResponse
        ``attributes["n_connections"]`` says how many connections they are, ``attributes["connections"]`` which.

    Raises
    ------
    CapabilityError
        The model does not have connections at that site: those of torch modules are parameters and no sites.
    InputError, SiteError
        No such connections, or a window outside of the trial.

    References
    ----------
    Otchy et al. 2015, Acute off-target effects of neural circuit manipulations, doi:10.1038/nature16442

    Examples
    --------
    >>> import brian2 as b2, neuros_mechint as nm
    >>> cells = b2.NeuronGroup(2, "dv/dt = (I - v) / (10*ms) : 1\nI : 1", threshold="v > 1", reset="v = 0",
    ...                        method="exact", name="cells")
    >>> cells.I = [2, 0]
    >>> synapses = b2.Synapses(cells, cells, "w : 1", on_pre="v_post += w", name="synapses")
    >>> synapses.connect(i=0, j=1)
    >>> synapses.w = 1.5
    >>> model = nm.adapt(b2.Network(cells, synapses), duration=70 * b2.ms)
    >>> curve = lesion_connections(model, 2, "synapses.w", "cells.spikes[unit=1]", factors=[0, 1], n_controls=0)
    >>> (curve.values.values * 0.07).round(6).tolist()  # spikes of the second cell
    [0.0, 9.0]
    """
    name, one = one_readout(readout)
    n_controls, doses = whole("n_controls", n_controls, least=0), amounts(factors, "factors")
    found = Observation.of(model, inputs, [site, *sites_of([one])])
    chosen, without = _connections(found, site, sources, targets)
    read = reading(found, name, one, readout_window, dt)
    random = generator(seed)
    controls, warnings = chosen.random_ones(n_controls, np.zeros(0, dtype=int), random)

    def weakening(connections: np.ndarray) -> Callable[[float], list[Edit]]:
        where = chosen.site(connections, {})
        return lambda factor: [] if factor == 1 else [Scale(where, factor)]

    n_connections = int(chosen.entries.size)
    return curve_of(
        found,
        read,
        doses,
        weakening(chosen.entries),
        [weakening(others) for others in controls],
        dose_name=f"factor on {n_connections} of {chosen.n_entries} connections",
        title=f"Lesion of {n_connections} of {chosen.n_entries} connections at {chosen.name}",
        attributes={
            "site": site,
            "readout": name,
            "readout_window": plain_window(readout_window),
            "n_connections": n_connections,
            "connections": chosen.entries,
        },
        citations=("otchy2015",),
        warnings=(*without, *warnings),
        random=random,
        seed=seed,
    )


def _connections(found: Observation, site: str, sources: Any, targets: Any) -> tuple[Population, tuple[str, ...]]:
    """Return the connections of a site that go from some cells to others, and what to warn of."""
    name = found.name_of(site)
    if _AXIS not in found.dims[name]:
        raise CapabilityError(
            f"{site!r} holds no connections",
            expected=f"a site with an axis {_AXIS!r}, such as 'SYNAPSES.w' of a Brian2 network",
            got=f"axes {', '.join(found.dims[name])}",
            fix="for torch, silence the units that connections come from (nm.silence), or edit a copy of the weights",
        )
    chosen = Population.at(found, site, _AXIS)
    if sources is None and targets is None:
        return chosen, ()
    labels = found.activations.coords.get(_AXIS)
    if labels is None:
        raise CapabilityError(f"{site!r} does not say which cells it connects", fix="name the connections by an index")
    ends = np.array([[int(end) for end in str(label).split("->")] for label in labels])
    wanted, warnings = np.ones(len(ends), dtype=bool), []
    for what, cells, own in (("sources", sources, ends[:, 0]), ("targets", targets, ends[:, 1])):
        if cells is None:
            continue
        named = _cells(cells, what)
        wanted &= np.isin(own, named)
        without = np.setdiff1d(named, own)
        if without.size:
            warnings.append(
                f"{without.size} of {named.size} {what} have no connection at {site!r}: {without.tolist()!s:.60}"
            )
    entries = chosen.entries[wanted[chosen.entries]]
    if not entries.size:
        raise InputError(
            f"there is no such connection at {site!r}",
            expected=f"sources within {ends[:, 0].min()} to {ends[:, 0].max()}, targets within {ends[:, 1].min()} to "
            f"{ends[:, 1].max()}, that are connected",
            got=f"sources {sources!s:.60}, targets {targets!s:.60}",
        )
    return Population(chosen.name, chosen.axis, entries, chosen.n_entries, chosen.index), tuple(warnings)


def _cells(cells: Any, what: str) -> np.ndarray:
    """Return the numbers of cells."""
    chosen = as_array(list(cells) if isinstance(cells, (range, set, frozenset)) else cells, what)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or (chosen < 0).any():
        raise InputError(f"{what} are no numbers of cells", expected="whole numbers in a row", got=f"{cells!r:.80}")
    return chosen
