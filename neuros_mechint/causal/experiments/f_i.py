"""f-I curves: the rate of cells against the current that is injected into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.causal.experiments.f_i_results import FICurve
from neuros_mechint.causal.experiments.readouts import Observation, observe_each, spike_trains
from neuros_mechint.causal.experiments.times import TimeAxis, rising, seconds
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.edits import Add
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci
from neuros_mechint.neuro.biophysics.spike_trains import firing_rates, inter_spike_intervals, spike_array

CITATIONS = ("gerstner2014",)
_FLAT = ("current", "unit")


def f_i_curve(
    model: Adapter,
    inputs: Any,
    currents: Any,
    site: str,
    spikes: str,
    *,
    settle: Any = 0.0,
    dt: Any = None,
    seed: SeedLike = 0,
) -> FICurve:
    r"""Return the rate of cells against a constant current, and the current from which on they fire.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``: a Brian2 network, a spiking network.
    inputs : inputs of the model
        Trials, to whose current the injected one is added; all currents are tried on the same trials.
    currents : sequence of float or of Brian2 quantities
        Rising. Plain numbers are in the unit of the site (Brian2: in base units such as ampere).
    site : str
        Where current is added: ``"cells.I"``, ``"layers.0.synapses"``, maybe with an index.
    spikes : str
        Where the spikes are, maybe with an index: ``"cells.spikes"``, ``"layers.0.spikes"``.
    settle : float
        How long to wait from the beginning of the trial before rates are taken, in s (steps where ``dt`` is not known).
    dt : float, optional
        Length of a time step in s, for models that do not know it.
    seed : int or numpy.random.Generator
        Draws bootstrap samples.

    Returns
    -------
    FICurve
        Where nothing fires, rates are 0 and the rheobase is NaN, and a warning says so.

    Raises
    ------
    InputError
        Currents that do not rise, a site that holds no spikes, no time after ``settle``.
    SiteError, CapabilityError
        A site that does not exist, a model without time or one that cannot be edited.

    References
    ----------
    Gerstner, Kistler, Naud and Paninski 2014, Neuronal Dynamics, doi:10.1017/CBO9781107447615

    Examples
    --------
    >>> import brian2 as b2, neuros_mechint as nm
    >>> cells = b2.NeuronGroup(1, "dv/dt = (I - v) / (10*ms) : 1\nI : 1", threshold="v > 1", reset="v = 0",
    ...                        method="exact", name="cells")
    >>> model = nm.adapt(b2.Network(cells), duration=200 * b2.ms)
    >>> curve = f_i_curve(model, 1, [0.8, 1.1, 2.0], "cells.I", "cells.spikes")
    >>> curve.rheobase, round(float(curve.data["interval_rate"][-1, 0]))  # 1 / (10 ms ln 2) = 144 Hz
    (0.95, 143)
    """
    given = rising(currents, "currents")
    found = Observation.of(model, inputs, [site, spikes])
    trains, axis = spike_trains(found, spikes, dt)
    begin = axis.after(settle)
    interventions = [[Add(site, current * given.unit)] for current in given.numbers.tolist()]
    fired = spike_array(observe_each(found, interventions, trains, "f-I curve").numpy())
    data, attributes, warnings = _curve(given.numbers, fired, begin, axis, seed)
    unit = given.name or found.units_of(site)
    data["current"].attrs.update(units=unit, long_name="injected current")
    arguments = {"site": site, "spikes": spikes, "settle": seconds(settle, "settle"), "currents": given.numbers}
    provenance = Provenance.record(seed=seed, model=model.fingerprint(), arguments=arguments)
    attributes |= {"site": site, "spikes": spikes, "current_unit": unit}
    return FICurve(data, f"f-I curve of {spikes}", attributes, provenance, CITATIONS, warnings)


def _curve(
    currents: Floats, fired: Any, begin: slice, axis: TimeAxis, seed: SeedLike
) -> tuple[xr.Dataset, dict[str, Any], tuple[str, ...]]:
    """Return the labelled curve; ``fired`` is ``(current, trial, time, unit)``."""
    steady = fired[:, :, begin]
    rates = firing_rates(steady, axis.dt)
    n_currents, n_trials, _n_units = rates.shape
    counted, each = fired.sum(2).mean(1), _interval_rates(steady, axis.dt)
    # a sample is a trial, or a cell where there is one trial
    samples = rates.mean(2) if n_trials > 1 else rates[:, 0]
    known = samples.shape[1] > 1
    low, high = bootstrap_ci(samples, seed=generator(seed)) if known else np.full((2, n_currents), np.nan)
    rate = {"long_name": "rate", "units": axis.rate_unit}
    variables: dict[str, Any] = {
        "rate": ("current", rates.mean((1, 2)), rate),
        "low": ("current", low, rate),
        "high": ("current", high, rate),
        "unit_rate": (_FLAT, rates.mean(1), rate),
        "interval_rate": (_FLAT, each, {"long_name": "1 / mean interval", "units": axis.rate_unit}),
        "n_spikes": (_FLAT, counted, {"long_name": "spikes in the whole trial"}),
    }
    warnings: list[str] = []
    for kind, fires in (("rheobase", counted > 0), ("repetitive", (steady.sum(2) >= 2).any(1))):
        below, above = _onset(currents, fires)
        variables[f"{kind}_low"], variables[f"{kind}_high"] = ("unit", below), ("unit", above)
        if kind == "rheobase":
            warnings += _doubts(currents, fires, below, above)
    return xr.Dataset(variables, coords={"current": currents}), {"dt": axis.dt, "n_trials": n_trials}, tuple(warnings)


def _interval_rates(steady: Any, dt: float) -> Floats:
    """Return 1 / mean interval of each cell over all trials, NaN where no trial has two spikes."""
    n_currents, n_trials, _, n_units = steady.shape
    intervals = iter(inter_spike_intervals(steady, dt))
    pooled = np.full((n_currents, n_units), np.nan)
    collected: dict[tuple[int, int], list[Floats]] = {}
    for current in range(n_currents):
        for _ in range(n_trials):
            for unit in range(n_units):
                collected.setdefault((current, unit), []).append(next(intervals))
    for place, several in collected.items():
        together = np.concatenate(several)
        if together.size:
            pooled[place] = 1 / together.mean()
    return pooled


def _onset(currents: Floats, fires: Any) -> tuple[Floats, Floats]:
    """Return the last current before a cell first fires, and the one at which it does, ``(n_units,)`` each."""
    ever, first = fires.any(0), fires.argmax(0)
    above = np.where(ever, currents[first], np.nan)
    below = np.where(ever & (first > 0), currents[np.maximum(first - 1, 0)], np.nan)
    return below, above


def _doubts(currents: Floats, fires: Any, below: Floats, above: Floats) -> list[str]:
    """Return what to warn of: cells that never fire, always fire, or fall silent again."""
    told = []
    n_units = fires.shape[1]
    silent, always = int(np.isnan(above).sum()), int((np.isnan(below) & ~np.isnan(above)).sum())
    if silent:
        told.append(
            f"{silent} of {n_units} cells never fire: their rheobase is above {currents[-1]:.4g}, if there is one"
        )
    if always:
        told.append(
            f"{always} of {n_units} cells fire at the lowest current: their rheobase is below {currents[0]:.4g}"
        )
    again = int((fires[:-1] & ~fires[1:]).any(0).sum())
    if again:
        told.append(f"{again} of {n_units} cells fall silent at a higher current: block by depolarisation, or chance")
    return told
