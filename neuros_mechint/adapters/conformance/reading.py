"""Conformance of reading: protocol, site table, captures, indices, batches, stores."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from neuros_mechint.adapters.conformance.probe import (
    NotApplicableError,
    Probe,
    along,
    demand,
    demand_equal,
    demand_error,
    demand_same_output,
)
from neuros_mechint.core.adapter import CAPABILITIES, Adapter
from neuros_mechint.core.errors import SiteError, SiteWithheldError
from neuros_mechint.core.sites import SiteTable

_MOST_STORED = 6


def satisfies_protocol(probe: Probe) -> str:
    """Check that the adapter has every method of the protocol, and only known capabilities."""
    demand(isinstance(probe.adapter, Adapter), "not an Adapter: methods are missing (see neuros_mechint.core.adapter)")
    unknown = set(probe.adapter.capabilities) - set(CAPABILITIES)
    demand(not unknown, f"unknown capabilities {sorted(unknown)}; known are {sorted(CAPABILITIES)}")
    demand("capture" in probe.adapter.capabilities, "a model without 'capture' cannot be looked into")
    return ", ".join(sorted(probe.adapter.capabilities))


def captures_every_site(probe: Probe) -> str:
    """Check that ``capture(inputs, "*")`` returns every site of the table, once, with its stated axes and sizes."""
    table = probe.table
    demand(isinstance(table, SiteTable) and len(table) > 0, "sites() must return a SiteTable with at least one site")
    missing = set(table) - set(probe.activations)
    demand(not missing, f"listed but not captured: {sorted(missing)[:5]}")
    for site in table.values():
        dims = probe.activations.dims(site.name)
        shape = tuple(probe.activations[site.name].shape)
        demand(len(dims) == len(set(dims)), f"{site.name} has an axis twice: {dims}")
        demand(site.dims in ((), dims), f"{site.name} states axes {site.dims} and has {dims}")
        fits = all(stated in (None, size) for stated, size in zip(site.shape, shape, strict=False))
        demand(fits and len(site.shape) in (0, len(shape)), f"{site.name} states shape {site.shape} and has {shape}")
    return f"{len(table)} sites"


def table_is_ordered(probe: Probe) -> str:
    """Check that sites are listed in their stated order, and every one says where it lies."""
    orders = [site.order for site in probe.table.values()]
    demand(orders == sorted(orders), "the sites are not sorted by their order")
    nameless = [site.name for site in probe.table.values() if not site.native]
    demand(not nameless, f"no native place stated for {nameless[:5]}")
    return ""


def capture_is_repeatable(probe: Probe) -> str:
    """Check that capturing one site alone gives what capturing all of them gave."""
    for site in probe.sites:
        alone = probe.adapter.capture(probe.inputs, site.name)
        demand_equal(alone[site.name], probe.activations[site.name], f"{site.name} captured alone")
    return f"{len(probe.sites)} sites"


def batch_size_changes_nothing(probe: Probe) -> str:
    """Check that captures and output are the same in batches of one and two samples as all at once."""
    if probe.n_samples < 2:
        raise NotApplicableError("give at least two samples")
    for batch_size in (1, 2):
        run = probe.run(capture="*", batch_size=batch_size)
        for name in probe.activations:
            demand_equal(run.activations[name], probe.activations[name], f"{name} with batch_size={batch_size}")
        demand_same_output(run.output, probe.base.output, f"batch_size={batch_size}")
    return f"{probe.n_samples} samples"


def indices_are_slices(probe: Probe) -> str:
    """Check that ``site[axis=...]`` slices the whole capture, for numbers, ranges and lists along every axis."""
    compared = 0
    for site in probe.sites:
        whole, dims = probe.activations[site.name], probe.activations.dims(site.name)
        expected = {
            f"{site.name}[{axis}={text}]": along(whole, dims, axis, entries)
            for axis, size in zip(dims, whole.shape, strict=True)
            for text, entries in _index_samples(size).items()
        }
        captured = probe.adapter.capture(probe.inputs, list(expected))
        for reference, got in zip(expected, captured.values(), strict=True):
            demand_equal(got, expected[reference], reference)
        compared += len(expected)
    return f"{compared} indices"


def _index_samples(size: int) -> dict[str, Any]:
    """Return indices as a user types them, and as numpy takes them."""
    samples: dict[str, Any] = {"0": 0, "-1": -1, f"0:{size}": slice(0, size), "-1:": slice(-1, None)}
    return samples | ({f"[{size - 1}, 0]": [size - 1, 0]} if size > 1 else {})


def unknown_names_teach(probe: Probe) -> str:
    """Check that unknown sites, axes and indices raise SiteError, and that a near name is suggested."""
    name = probe.sites[-1].name
    wrong = f"{name}_x"
    error = demand_error(SiteError, lambda: probe.adapter.capture(probe.inputs, wrong), f"the unknown site {wrong!r}")
    helps = name in str(error) or isinstance(error, SiteWithheldError)
    demand(helps, f"the error on {wrong!r} does not suggest {name!r}: {error}")
    axis = probe.activations.dims(name)[-1]
    for index in ("no_such_axis=0", f"{axis}=1000000", f"{axis}=first"):
        demand_error(
            SiteError, lambda index=index: probe.adapter.capture(probe.inputs, f"{name}[{index}]"), f"[{index}]"
        )
    return ""


def streams_to_disk(probe: Probe) -> str:
    """Check that ``capture(..., to=folder)`` holds what capture in memory returns."""
    names = [site.name for site in probe.sites[:_MOST_STORED]]
    with tempfile.TemporaryDirectory() as folder:
        store = probe.adapter.capture(probe.inputs, names, batch_size=2, to=Path(folder) / "store.zarr")
        for name in names:
            demand_equal(store[name], probe.activations[name], f"{name} from the store")
            demand(store.dims(name) == probe.activations.dims(name), f"{name} has other axes in the store")
    return f"{len(names)} sites"


def fingerprint_is_stable(probe: Probe) -> str:
    """Check that the fingerprint is a string that runs do not change."""
    before = probe.adapter.fingerprint()
    demand(isinstance(before, str) and bool(before), f"fingerprint() returned {before!r}")
    probe.run()
    demand(probe.adapter.fingerprint() == before, "fingerprint() changed between two calls")
    return before[:12]
