"""What information flow is asked about: sites at each of their times, inputs and labels, in one order of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import counts_observations
from neuros_mechint.core.numbers import as_array, plain_numbers
from neuros_mechint.neuro.alignment.layer_region_data import site_names
from neuros_mechint.neuro.information.flow.estimates import Side, reduced
from neuros_mechint.neuro.information.variables import Whole, categories, is_text

_FEWEST_SAMPLES = 200
_TIME_AXES = ("time", "position")


class Sites(NamedTuple):
    """What a model holds at each of its sites.

    Parameters
    ----------
    by_name : dict of str to list of numpy.ndarray of shape (n_samples, n_features)
        One matrix for each time; sites without time have one.
    axis : str
        What times are called: time or position.
    """

    by_name: dict[str, list[Floats]]
    axis: str

    @property
    def n_samples(self) -> int:
        """Of every site."""
        return len(next(iter(self.by_name.values()))[0])

    @property
    def n_times(self) -> int:
        """Of the site that has most."""
        return max(map(len, self.by_name.values()))


def sites_of(
    source: Any,
    inputs: Any,
    sites: str | Sequence[str] | None,
    batch_size: int | None,
    named: list[tuple[str, Any]],
) -> Sites:
    """Return what each site holds.

    Parameters
    ----------
    source, inputs, sites, batch_size
        See `InformationFlowAnalyzer.analyze`.
    named : list of (str, data)
        Inputs and labels, whose samples must be in the same order.

    Examples
    --------
    >>> found = sites_of({"hidden": np.zeros((4, 2, 3))}, None, None, None, [])
    >>> found.n_samples, found.n_times, found.by_name["hidden"][0].shape
    (4, 1, (4, 6))
    """
    names = site_names(source, sites)
    held = source.capture(inputs, names, batch_size=batch_size) if hasattr(source, "capture") else source
    if hasattr(held, "xarray"):
        arrays = {name: held.xarray(name) for name in names}
    else:
        by_name = {str(name): array for name, array in held.items()}
        arrays = {name: by_name[name] for name in names}
    _refuse_another_order(arrays, named)
    found = {name: _by_time(array, name) for name, array in arrays.items()}
    sizes = {name: len(times[0]) for name, times in found.items()}
    if len(set(sizes.values())) > 1:
        raise InputError("sites have different numbers of samples", got=sizes)
    axes = {_time_axis(array) for array in arrays.values()} - {None}
    return Sites(found, "position" if axes == {"position"} else "time")


def _time_axis(array: Any) -> str | None:
    return next((axis for axis in _TIME_AXES if axis in getattr(array, "dims", ())), None)


def _by_time(array: Any, name: str) -> list[Floats]:
    if not isinstance(array, xr.DataArray):
        values = plain_numbers(array, name).astype(float)
        return [_finite(values.reshape(len(values), -1), name)]
    time = _time_axis(array)
    samples = [str(axis) for axis in array.dims if counts_observations(str(axis)) and axis != time]
    if len(samples) != 1:
        raise InputError(
            f"{name} has no single axis of samples",
            expected="one such as 'sample', and maybe 'time' or 'position'",
            got=f"axes {tuple(map(str, array.dims))}",
        )
    first = (samples[0],) if time is None else (time, samples[0])
    values = array.transpose(*first, ...).values.astype(float)
    values = values if time is not None else values[None]
    return [_finite(one.reshape(len(one), -1), name) for one in values]


def _finite(values: Floats, name: str) -> Floats:
    if not np.isfinite(values).all():
        raise InputError(f"{name} is not finite everywhere", expected="finite numbers", got="NaN or infinite values")
    return values


def halves(n_samples: int, random: np.random.Generator) -> tuple[Whole, Whole]:
    """Return the samples that components are fitted on, and those that estimates come from.

    Examples
    --------
    >>> first, second = halves(300, np.random.default_rng(0))
    >>> len(first), sorted([*first, *second]) == list(range(300))
    (150, True)
    """
    if n_samples < _FEWEST_SAMPLES:
        raise InputError(
            "too few samples: components come from one half, information from the other",
            expected=f"at least {_FEWEST_SAMPLES}",
            got=n_samples,
        )
    order = random.permutation(n_samples)
    return np.sort(order[: n_samples // 2]), np.sort(order[n_samples // 2 :])


def asked_about(
    named: list[tuple[str, Any]], n_samples: int, fitted_on: Whole, kept: Whole, n_components: int
) -> dict[str, Side]:
    """Return the inputs and the labels that sites are asked about.

    Examples
    --------
    >>> every = np.arange(4)
    >>> asked_about([("label", ["cat", "owl", "cat", "owl"])], 4, every, every, 1)["label"].codes.tolist()
    [0, 1, 0, 1]
    """
    about = {}
    for name, data in named:
        array = _one_for_each(data, name, n_samples)
        whole_numbers = array.dtype.kind in "biu" or (array.dtype.kind == "f" and (array == np.round(array)).all())
        if name == "label" and (is_text(array, name) or whole_numbers):
            about[name] = Side(codes=categories(array, name).codes[kept])
            continue
        if not is_text(array, name) and array.dtype.kind not in "iuf":
            raise InputError(f"the {name} is no data", expected="numbers or text", got=f"dtype {array.dtype}")
        if (array == array[:1]).all():
            raise InputError(f"the {name} is constant, and tells nothing", expected="values that vary")
        if array.dtype.kind != "f":
            about[name] = Side(decides=True)
            continue
        side = reduced(_finite(array.reshape(n_samples, -1).astype(float), name), fitted_on, kept, n_components)
        if side is None:
            raise InputError(f"the {name} is constant, and tells nothing", expected="values that vary")
        about[name] = side._replace(decides=name == "input")
    return about


def _one_for_each(data: Any, name: str, n_samples: int) -> np.ndarray:
    """Return data as an array with one row per sample; of a batch of tokens and masks, the first entry."""
    array = as_array(next(iter(data.values()), ()) if isinstance(data, Mapping) and name == "input" else data, name)
    if not array.ndim or len(array) != n_samples:
        turned = "time comes first (batch_first=False): pass activations, and inputs.swapaxes(0, 1)"
        raise InputError(
            f"one {name} for each sample",
            expected=f"{n_samples}",
            got=f"{len(array)}" if array.ndim else type(data).__name__,
            fix=turned if array.ndim > 2 and array.shape[1] == n_samples else None,
        )
    return array


def _refuse_another_order(sites: dict[str, Any], named: list[tuple[str, Any]]) -> None:
    """Raise `InputError` where labelled sites, inputs and labels name their samples differently."""
    labelled = [*sites.items(), *named]
    for (first, one), (name, other) in product(labelled, labelled):
        if not (isinstance(one, xr.DataArray) and isinstance(other, xr.DataArray)):
            continue
        for axis in set(one.coords) & set(other.coords) & set(one.dims) & set(other.dims):
            if counts_observations(str(axis)) and not np.array_equal(one[axis].values, other[axis].values):
                raise InputError(
                    f"{first} and {name} label their {axis} differently",
                    fix=f"bring them in one order: {name}.sel({axis}={first}['{axis}'])",
                )
