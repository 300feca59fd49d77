"""The two sides of a layer x region map: sites of a model, a few at a time, and regions of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import by_text
from neuros_mechint.core.labels import LabelledTensors
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.alignment.samples import SAMPLE_AXES, Labels, Samples, label_order, samples
from neuros_mechint.neuro.alignment.time_courses import TimeCourse, time_courses

_BYTES_AT_ONCE = 2**28
_EVERY_UNIT = "all units"


@dataclass(frozen=True)
class Region:
    """Responses of one region to all stimuli.

    Parameters
    ----------
    name : str
    courses : dict of str to TimeCourse
        By subject, at one time.
    """

    name: str
    courses: dict[str, TimeCourse]

    @property
    def patterns(self) -> list[Floats]:
        """Mean over repetitions ``(n_stimuli, n_units)`` of each subject."""
        return [course.mean[0] for course in self.courses.values()]

    @property
    def labels(self) -> Labels | None:
        """Of the stimuli."""
        return next(iter(self.courses.values())).labels

    @property
    def n_stimuli(self) -> int:
        """How many stimuli were shown."""
        return next(iter(self.courses.values())).values.shape[2]


def regions_of(recording: Any) -> list[Region]:
    """Return the regions of a recording, each with one row per stimulus.

    Parameters
    ----------
    recording : Recording, xarray.DataArray, or mapping of str to these or to arrays
        See `layer_region_map`.

    Raises
    ------
    InputError
        No region, an axis of time, other axes besides, values that are missing, or regions with other stimuli.

    Examples
    --------
    >>> import numpy as np
    >>> counts = Recording(np.zeros((3, 4)), ("stimulus", "unit"), region=["V1", "V1", "V4", "IT"])
    >>> [(region.name, region.patterns[0].shape) for region in regions_of(counts)]
    [('V1', (3, 2)), ('V4', (3, 1)), ('IT', (3, 1))]
    """
    if isinstance(recording, Mapping):
        named = {name: _as_recording(name, one) for name, one in by_text(recording, "regions").items()}
    else:
        whole = _as_recording("the recording", recording)
        names = [name for name in whole.regions if name]
        named = {name: _of_region(whole, name) for name in names} or {_EVERY_UNIT: whole}
    if not named:
        raise InputError("no region to explain", expected="a recording, or {region: responses}", got="none")
    courses = time_courses({name: _at_one_time(name, one) for name, one in named.items()}, None, None)
    return [Region(name, _by_subject(named[name], course)) for name, course in courses.items()]


def _of_region(recording: Recording, name: str) -> Recording:
    regions = recording.data.coords["region"].values
    return recording.select(region=next(label for label in regions.tolist() if str(label) == name))


def _as_recording(name: Any, data: Any) -> Recording:
    if isinstance(data, Recording):
        return data
    if isinstance(data, xr.DataArray):
        return Recording(data)
    return Recording(samples(data, str(name)).values, ("stimulus", "unit"))


def _at_one_time(name: str, recording: Recording) -> Recording:
    array = recording.data
    if "time" in array.dims:
        raise InputError(
            f"{name} has an axis of time",
            expected="one response of each unit to each stimulus",
            got=f"axes {tuple(map(str, array.dims))}",
            fix="recording.select(time=slice(0.05, 0.2)).average('time'), or see time_resolved_alignment",
        )
    return Recording(array.drop_vars("time", errors="ignore").expand_dims("time"), allow_missing=True)


def _by_subject(recording: Recording, course: TimeCourse) -> dict[str, TimeCourse]:
    """Return the units of each subject apart, where the coordinate ``subject`` tells them."""
    subjects = recording.data.coords.get("subject")
    if subjects is None or subjects.dims != ("unit",):
        return {"0": course}
    names = list(dict.fromkeys(subjects.values.tolist()))
    return {
        str(name): TimeCourse(course.values[..., subjects.values == name], course.times, course.labels, False)
        for name in names
    }


def site_names(model: Any, sites: str | Sequence[str] | None) -> list[str]:
    """Return the names of sites that match, in order.

    Parameters
    ----------
    model : Adapter, Activations, ActivationStore, or mapping of str to arrays
    sites : str or sequence of str, optional
        Names or patterns, also with an index, such as ``"blocks.*.resid_post[position=-1]"``. Default: all.

    Raises
    ------
    InputError
        What is no model.
    SiteError
        A pattern matches nothing.

    Examples
    --------
    >>> import numpy as np
    >>> site_names({"conv1": np.zeros((3, 2)), "conv2": np.zeros((3, 2))}, None)
    ['conv1', 'conv2']
    """
    patterns = [sites] if isinstance(sites, str) else sites
    if isinstance(model, LabelledTensors):
        chosen = {name for pattern in patterns or () for name in model.matching(pattern)}
        return [name for name in model if patterns is None or name in chosen]
    if isinstance(model, Mapping):
        missing = [name for name in patterns or () if name not in model]
        if missing or not model:
            raise InputError("no such layers", expected=", ".join(map(str, model)) or "any layer", got=missing)
        return list(map(str, patterns or model))
    if not isinstance(model, Adapter):
        raise InputError(
            "this is no model",
            expected="an adapted model together with inputs, activations, or {site: array}",
            got=type(model).__name__,
            fix="nm.adapt(model)",
        )
    if patterns is None:
        return list(model.sites())
    found = (pattern.partition("[") for pattern in patterns)
    return list(dict.fromkeys(name + mark + index for base, mark, index in found for name in model.sites(base)))


def site_blocks(
    model: Any, names: Sequence[str], inputs: Any, stimuli: Sequence[Any] | None, batch_size: int | None
) -> Iterator[dict[str, Samples]]:
    """Yield sites as matrices with one row per stimulus: the first alone, then as many at a time as fit in 256 MB.

    Examples
    --------
    >>> import numpy as np
    >>> layers = {"conv1": np.zeros((3, 2)), "conv2": np.zeros((3, 4))}
    >>> [list(block) for block in site_blocks(layers, list(layers), None, ["a", "b", "c"], None)]
    [['conv1'], ['conv2']]
    """
    load = _loader(model, inputs, batch_size)
    start, at_once, largest = 0, 1, 1
    while start < len(names):
        wanted = names[start : start + at_once]
        block = {name: _labelled(name, array, stimuli) for name, array in load(wanted).items()}
        yield block
        start += len(wanted)
        largest = max(largest, *(site.values.nbytes for site in block.values()))
        at_once = max(1, _BYTES_AT_ONCE // largest)


def _loader(model: Any, inputs: Any, batch_size: int | None) -> Callable[[Sequence[str]], dict[str, Any]]:
    """Return what gets arrays by name."""
    is_model = not isinstance(model, Mapping)
    if is_model == (inputs is None):
        raise InputError(
            "a model needs inputs" if is_model else "activations take no inputs: they are there already",
            expected="inputs=..., one for each stimulus" if is_model else "inputs=None",
        )

    def load(names: Sequence[str]) -> dict[str, Any]:
        held = model.capture(inputs, list(names), batch_size=batch_size) if is_model else model
        if not isinstance(held, LabelledTensors):
            layers = {str(name): values for name, values in held.items()}
            return {name: layers[name] for name in names}
        return {name: held.xarray(name) for name in names}

    return load


def _labelled(name: str, array: Any, stimuli: Sequence[Any] | None) -> Samples:
    try:
        found = samples(array, f"site {name!r}")
    except InputError as error:
        if isinstance(array, xr.DataArray) and any(axis not in SAMPLE_AXES for axis in array.dims):
            error.add_note(f"one entry of another axis is chosen by an index: '{name}[position=-1]'")
        raise
    if stimuli is None:
        return found
    if len(stimuli) != len(found.values):
        raise InputError(
            "stimuli do not fit the inputs", expected=f"{len(found.values)} labels", got=f"{len(stimuli)} labels"
        )
    return Samples(found.values, tuple(getattr(stimuli, "tolist", lambda: stimuli)()))


def in_order_of(region: Region, name: str, site: Samples) -> Floats:
    """Return a site with its rows in the order of the recording.

    Raises
    ------
    InputError
        Other stimuli, or labels on one side only.

    Examples
    --------
    >>> import numpy as np
    >>> region = regions_of({"V1": np.zeros((3, 2))})[0]
    >>> in_order_of(region, "conv1", Samples(np.ones((3, 4)), None)).shape
    (3, 4)
    """
    sizes = (region.n_stimuli, len(site.values))
    try:
        order = label_order(region.labels, site.labels, sizes, ("the recording", f"site {name!r}"))
    except InputError as error:
        if (region.labels is None) != (site.labels is None):
            error.add_note("stimuli=[...] names the stimulus of each input")
        raise
    return site.values if order is None else site.values[order]
