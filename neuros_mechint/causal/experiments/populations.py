"""Silence or drive a population in a window of time, as light does in optogenetics, and read what others do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.causal.counterfactuals.dose_results import DoseResponse
from neuros_mechint.causal.counterfactuals.doses import checked_doses, labelled_curve
from neuros_mechint.causal.experiments.readouts import (
    Observation,
    Reading,
    Readout,
    named_readouts,
    observe_each,
    one_readout,
    reading,
    sites_of,
    unit_axis,
)
from neuros_mechint.causal.experiments.results import PopulationEffects
from neuros_mechint.causal.experiments.times import Amounts, amounts
from neuros_mechint.causal.experiments.units import Population
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Add, Edit, Zero
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import SiteReference
from neuros_mechint.core.statistics.certainty import control_p, out_of_reach, with_statistics
from neuros_mechint.core.statistics.p_values import adjust_p

CITATIONS = ("boyden2005", "otchy2015")


def silence(
    model: Adapter,
    inputs: Any,
    population: str,
    readouts: Readout | Sequence[Readout] | Mapping[str, Readout],
    *,
    window: Any = None,
    readout_window: Any = None,
    dt: Any = None,
    n_controls: int = 19,
    seed: SeedLike = 0,
) -> PopulationEffects:
    """Silence units for a while, and compare what others do with the same trials left alone.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene: a Brian2 network, an RNN, a spiking network, any torch model.
    inputs : inputs of the model
        Trials. Random numbers of a trial are the same with and without the silencing.
    population : str
        A site of spikes or rates with the units to silence: ``"E.spikes[unit=0:50]"``, ``"hidden[unit=(3, 7)]"``.
    readouts : str, callable, or sequence or mapping of these
        What to read: sites, whose mean over units and time is taken (of spikes, their rate), or ``metric(output)``.
    window : tuple (start, stop), optional
        When to silence, in s from the beginning of the trial (Brian2 quantities are welcome), or in steps where the
        length of a step is not known; by default all the time. Only for sites with an axis of time.
    readout_window : tuple (start, stop), optional
        When to read sites; by default while silencing.
    dt : float, optional
        Length of a time step in s, for models that do not know it: torch.
    n_controls : int
        How many random populations of the same size to silence for comparison, drawn from the units of the site that
        are not read. The smallest p they allow is ``1 / (n_controls + 1)``.
    seed : int or numpy.random.Generator
        Draws controls, bootstrap samples and signs.

    Returns
    -------
    PopulationEffects

    Raises
    ------
    InputError
        A readout that holds silenced units, windows outside of the trial, units named twice, or a site that is no
        activity although there are spikes beside it.
    SiteError, CapabilityError
        Units that do not exist; a window for a model without time, or a model that cannot be edited.

    References
    ----------
    Boyden et al. 2005, Millisecond-timescale, genetically targeted optical control of neural activity,
    doi:10.1038/nn1525
    Otchy et al. 2015, Acute off-target effects of neural circuit manipulations, doi:10.1038/nature16442

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.RNN(2, 6, batch_first=True))
    >>> effects = silence(model, torch.randn(8, 20, 2), "hidden[unit=0:2]", "hidden[unit=5]", window=(5, 15),
    ...                   n_controls=3)
    >>> effects.data.sizes["readout"], effects.data.sizes["control"]
    (1, 3)
    """
    named, n_controls = named_readouts(readouts), whole("n_controls", n_controls, least=0)
    found = Observation.of(model, inputs, [population, *sites_of(list(named.values()))])
    _check_activity(found, found.name_of(population))
    silenced, during, readings = _plan(found, population, named, window, readout_window, dt)
    random = generator(seed)
    read_cells = silenced.read_cells(found, list(named.values()))
    controls, warnings = silenced.random_ones(n_controls, read_cells, random)
    interventions = [[], *([Zero(silenced.site(units, during))] for units in [silenced.entries, *controls])]
    values = observe_each(found, interventions, _all_read(readings), "silence").numpy()
    n_units = f"{silenced.entries.size} of {silenced.n_entries} units"
    title = f"Silencing of {n_units} of {silenced.name}"
    attributes = {
        "population": population,
        "units": silenced.entries,
        "window": plain_window(window),
        "readout_window": plain_window(readout_window),
        "n_silenced": n_units,
    }
    data, more = _effects(values, readings, int(random.integers(2**31)))
    provenance = Provenance.record(
        seed=seed, model=model.fingerprint(), arguments={**attributes, "readouts": list(named)}
    )
    return PopulationEffects(data, title, attributes, provenance, CITATIONS, (*warnings, *more))


def drive(
    model: Adapter,
    inputs: Any,
    population: str,
    strengths: Any,
    readout: Readout,
    *,
    window: Any = None,
    readout_window: Any = None,
    dt: Any = None,
    n_controls: int = 19,
    seed: SeedLike = 0,
) -> DoseResponse:
    """Add a current (or any amount) to units for a while, more and more of it, and read what the model does.

    Parameters
    ----------
    model, inputs
        As for `silence`.
    population : str
        A site with the units to drive: ``"E.I[unit=0:50]"`` of a Brian2 network, ``"layers.0.synapses[unit=(3, 7)]"``
        of a spiking network, ``"hidden[unit=3]"`` of an RNN. Negative strengths inhibit.
    strengths : sequence of float or of Brian2 quantities
        At least two different ones. Plain numbers are in the unit of the site (Brian2: in base units such as ampere).
    readout : str or callable
        As one of those of `silence`; at another site it may be the driven units themselves.
    window, readout_window, dt, n_controls, seed
        As for `silence`.

    Returns
    -------
    DoseResponse
        From `dose_response`, with random populations of the same size as controls.

    Raises
    ------
    InputError, SiteError, CapabilityError
        As for `silence`, or fewer than two strengths.

    References
    ----------
    Boyden et al. 2005, doi:10.1038/nn1525; Otchy et al. 2015, doi:10.1038/nature16442

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.RNN(2, 6, batch_first=True))
    >>> curve = drive(model, torch.randn(8, 20, 2), "hidden[unit=0:2]", [0.0, 1.0], "hidden[unit=5]", window=(5, 15),
    ...               n_controls=3)
    >>> float(curve.change()[0])
    0.0
    """
    name, one = one_readout(readout)
    n_controls, doses = whole("n_controls", n_controls, least=0), amounts(strengths, "strengths")
    found = Observation.of(model, inputs, [population, *sites_of([one])])
    doses = replace(doses, name=doses.name or found.units_of(population))
    driven, during, [read] = _plan(found, population, {name: one}, window, readout_window, dt)
    random = generator(seed)
    controls, warnings = driven.random_ones(n_controls, driven.read_cells(found, [one]), random)

    def driving(units: np.ndarray) -> Callable[[float], list[Edit]]:
        site = driven.site(units, during)
        return lambda dose: [Add(site, dose * doses.unit)] if dose else []

    return curve_of(
        found,
        read,
        doses,
        driving(driven.entries),
        [driving(units) for units in controls],
        dose_name=f"added to {driven.entries.size} of {driven.n_entries} units of {driven.name}",
        title=f"Driving {driven.entries.size} of {driven.n_entries} units of {driven.name}",
        attributes={
            "population": population,
            "units": driven.entries,
            "window": plain_window(window),
            "readout": name,
            "readout_window": plain_window(readout_window),
        },
        citations=CITATIONS,
        warnings=warnings,
        random=random,
        seed=seed,
    )


def curve_of(
    found: Observation,
    read: Reading,
    doses: Amounts,
    edits: Callable[[float], list[Edit]],
    controls: Sequence[Callable[[float], list[Edit]]],
    *,
    dose_name: str,
    title: str,
    attributes: Mapping[str, Any],
    citations: tuple[str, ...],
    warnings: tuple[str, ...],
    random: np.random.Generator,
    seed: SeedLike,
) -> DoseResponse:
    """Return the dose-response of one readout, told in the words of the experiment."""
    ordered = checked_doses(doses.numbers)
    curves = [edits, *controls]
    interventions = [[], *(curve(dose) for curve in curves for dose in ordered.tolist())]
    baseline, *values = observe_each(found, interventions, read.of, "dose-response").numpy()
    values = np.reshape(values, (len(curves), ordered.size, -1))
    labels = {"units": read.unit, "long_name": read.name}
    data, told, more = labelled_curve(ordered, values, baseline, labels, dose_name, random)
    data["dose"].attrs["units"] = doses.name
    arguments = {**attributes, "doses": ordered.tolist(), "n_controls": len(controls)}
    provenance = Provenance.record(seed=seed, model=found.model.fingerprint(), arguments=arguments)
    return DoseResponse(data, title, {**told, **attributes}, provenance, ("turner2023", *citations), (*warnings, *more))


def _plan(
    found: Observation, site: str, readouts: Mapping[str, Readout], window: Any, readout_window: Any, dt: Any
) -> tuple[Population, dict[str, slice], list[Reading]]:
    """Return the units that are touched, the index along time of when, and how each readout is read."""
    population = Population.at(found, site, unit_axis(found.dims[found.name_of(site)], site))
    population.check_apart(found, readouts)
    during = {} if window is None else found.time_axis(population.name, dt).index(site, window, "window")
    when = {name: _read_when(found, one, window, readout_window) for name, one in readouts.items()}
    return population, during, [reading(found, name, one, when[name], dt) for name, one in readouts.items()]


def _read_when(found: Observation, readout: Readout, window: Any, readout_window: Any) -> Any:
    """Return the window of a readout: its own, or that of the intervention where the site has time."""
    if readout_window is not None or not isinstance(readout, str):
        return readout_window
    timed = "time" in found.dims[found.name_of(readout)] and "time" not in SiteReference.parse(readout).index
    return window if timed else None


def _check_activity(found: Observation, name: str) -> None:
    """Raise where what is set to zero is a variable of cells that spike: a potential of 0 is no silence."""
    group = name.rpartition(".")[0]
    spikes = f"{group}.spikes" if group else "spikes"
    if name != spikes and spikes in list(found.model.sites()):
        raise InputError(
            f"{name!r} is not the activity of its cells: at zero it does not silence them",
            expected=f"the site of their spikes, {spikes!r}",
            fix=f"silence {spikes!r}; to inject an inhibitory current use drive with negative strengths",
        )


def _all_read(readings: Sequence[Reading]) -> Any:
    import torch

    def read(output: Any, tensors: Any) -> torch.Tensor:
        values = [one.of(output, tensors) for one in readings]
        if len({len(one) for one in values}) > 1:
            raise InputError(
                "readouts of one experiment do not give as many values",
                expected="one value per sample",
                got=", ".join(f"{reading.name}: {len(one)}" for reading, one in zip(readings, values, strict=True)),
                fix="reduce a metric to one number for each sample",
            )
        return torch.stack(values)

    return read


def _effects(values: np.ndarray, readings: Sequence[Reading], seed: int) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return the labelled effects, ``values`` being (untouched, silenced, controls...) by readout and sample."""
    baseline, change = values[0], values[1:] - values[0]
    columns: dict[str, list[float]] = {name: [] for name in ("effect", "low", "high", "p")}
    warnings: list[str] = []
    for row, before in zip(change[0], baseline, strict=True):
        statistics, told = with_statistics(xr.DataArray(row, dims="sample"), before, "none", seed)
        # of one test alone; that of all of them follows
        warnings += [one for one in told if one not in out_of_reach(1, len(row), "none")]
        for name, column in columns.items():
            column.append(float(statistics[name]))
    if change.shape[2] > 1:
        warnings += out_of_reach(len(readings), change.shape[2])
    labels = {"long_name": "change by the silencing"}
    variables: dict[str, Any] = {name: ("readout", column, labels) for name, column in columns.items()}
    variables["p"] = ("readout", columns["p"], {"long_name": "sign-flip p"})
    variables["p_adjusted"] = ("readout", adjust_p(columns["p"]), {"long_name": "p after Holm's correction"})
    variables["per_sample"] = (("readout", "sample"), change[0], labels)
    variables["baseline"] = (("readout", "sample"), baseline, {"long_name": "left alone"})
    if len(change) > 1:
        control = change[1:].mean(-1)
        # readouts have sizes of their own, so that rounding is that of each
        p = [float(control_p(np.array(own), others)) for own, others in zip(columns["effect"], control.T, strict=True)]
        variables["control"] = (("control", "readout"), control, {"long_name": "change by random controls"})
        variables["p_control"] = ("readout", p, {"long_name": "share of controls that change as much"})
    variables["unit"] = ("readout", [one.unit for one in readings])
    data = xr.Dataset(variables, coords={"readout": [one.name for one in readings]})
    units = {one.unit for one in readings}
    for name in ("effect", "low", "high", "per_sample", "baseline", "control"):
        if name in data and len(units) == 1:
            data[name].attrs["units"] = next(iter(units))
    return data, tuple(dict.fromkeys(warnings))


def plain_window(window: Any) -> list[float] | None:
    """Return a window as plain numbers, to be kept with a result."""
    return None if window is None else [float(time) for time in window]
