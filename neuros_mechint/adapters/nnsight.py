"""nnsight models: the module inside runs through the torch-hook engine; nnsight's own tracing serves remote models."""

from __future__ import annotations

import copyreg
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self

import torch
from torch import nn

from neuros_mechint.adapters.base import Dims, Edits, Tensors
from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.hooks import EditFunction
from neuros_mechint.adapters.huggingface import HuggingFaceAdapter
from neuros_mechint.adapters.inference import SiteMap
from neuros_mechint.adapters.registry import adapt
from neuros_mechint.adapters.replay.record import NotReplayableError
from neuros_mechint.adapters.running import evaluating
from neuros_mechint.adapters.taps import HeadView, Tap
from neuros_mechint.adapters.tensors import named_tensors, native_dims, pick, put
from neuros_mechint.core.ablations import Mean, Resample
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.dictionary import Dictionary
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError
from neuros_mechint.core.sites import SiteTable, Window

Location = tuple[str, str, int | str | None]
"""Module path, side ("in" or "out") and key of the tensor there."""
Change = Callable[[torch.Tensor, nn.Module], torch.Tensor]
Visit = tuple[str, Change | None, bool, bool, tuple[tuple[Location, bool], ...]]
"""Site, edits, whether it is captured, whether it is flat, and what it is added to. Plain tuples travel anywhere."""
Places = list[tuple[Location, list[Visit]]]


def adapt_nnsight(obj: Any, tokenizer: Any = None, remote: bool | str = False, example: Any = None) -> Adapter:
    """Return the adapter of an nnsight model.

    Parameters
    ----------
    obj : nnsight.NNsight or nnsight.TransformersModel
        Used as it is, and left as it was: nnsight's tracing goes on working.
    tokenizer : callable, optional
        For inputs given as strings; by default the model's own.
    remote : bool or str
        Where to run. ``False``: here, through torch hooks on the module inside. ``True`` or the address of a server:
        through nnsight's tracing there, so that the weights need not be here. ``"local"``: nnsight's simulation of it.
    example : tensor, tuple or dict, optional
        Inputs on which the sites are proven.

    Returns
    -------
    Adapter

    Raises
    ------
    InputError
        The weights are not loaded, or the model carries edits of nnsight's own, which only its tracing would apply.
    CapabilityError
        ``remote`` with a model that nnsight cannot run elsewhere.
    """
    tokenizer = tokenizer if tokenizer is not None else vars(obj).get("tokenizer")
    if remote:
        return NNsightTraceAdapter(obj, tokenizer=tokenizer, remote=remote, example=example)
    if any(parameter.is_meta for parameter in obj._module.parameters()):
        raise InputError(
            "the weights of this nnsight model are not loaded",
            fix="call model.dispatch() to load them, or give nm.adapt(..., remote=True)",
        )
    if any(envoy._edits for envoy in obj.modules()):
        raise InputError(
            "this nnsight model carries edits made with model.edit(), which torch hooks would not apply",
            fix="call model.clear_edits(), and give the edits to run(..., edits=[...])",
        )
    options = {} if example is None else {"example": example}
    return adapt(obj._module, tokenizer=tokenizer, **options)


class NNsightTraceAdapter(HuggingFaceAdapter):
    """Adapter that runs a model through nnsight's tracing, here or on a remote server.

    Sites are module paths, as nnsight names them: ``transformer.h.0.mlp``, ``transformer.h.0.mlp:in``. Canonical names
    are offered where the weights are here too, so that they can be proven.

    Parameters
    ----------
    obj : nnsight.TransformersModel
        The model; its weights need not be loaded.
    tokenizer : callable, optional
        For inputs given as strings.
    remote : bool or str
        As nnsight's ``trace(remote=)``.
    example : tensor or dict, optional
        Inputs on which the sites are proven.

    Notes
    -----
    Edits and metrics travel to the server by their source code. Dataclasses, which all edits of this package are,
    have methods without source; for them server and client must run the same minor version of Python.
    """

    def __init__(self, obj: Any, tokenizer: Any = None, remote: bool | str = True, example: Any = None) -> None:
        if not hasattr(obj, "to_model_key") or not hasattr(obj._module, "main_input_name"):
            raise CapabilityError(
                f"nnsight cannot run a {type(obj).__name__} remotely", expected="an nnsight.TransformersModel"
            )
        super().__init__(obj._module, tokenizer=tokenizer, example=example)
        self.traced = obj
        self.remote = remote
        self._ranks: dict[tuple[str, str], int] | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """Capture, edits and gradients."""
        return frozenset({"capture", "intervene", "gradient"})

    # -- inputs and sites ----------------------------------------------------------------------------------------

    @property
    def _here(self) -> bool:
        """Whether the weights are in this process."""
        return not any(parameter.is_meta for parameter in self.module.parameters())

    def _prepare(self, inputs: Any) -> Batch:
        if self._here:
            return super()._prepare(inputs)
        # The inputs must not follow the weights to the meta device, where they would lose their values.
        batch = Batch.of(*self._arguments(inputs))
        self._check_inputs(batch)
        return batch

    def _ready(self, edit: Edit) -> Edit:
        return _portable(edit)

    def _prove(self, batch: Batch | None) -> None:
        if not self._here:
            why = "names are proven by values, and the weights are not here: use module paths, or load the model"
            self._named = SiteTable([], {"blocks.*": why}, f"sites of {type(self.module).__name__}")
            return
        super()._prove(batch)
        if self._map is None:
            return
        hidden = {name: why for name, tap in self._map.taps.items() if (why := _why_not_traced(tap))}
        self._map = SiteMap({n: t for n, t in self._map.taps.items() if n not in hidden}, self._map.withheld | hidden)
        served = [site for name, site in self._named.items() if name not in hidden]
        self._named = SiteTable(served, self._named.withheld | hidden, self._named.title)

    def _native_tap(self, name: str) -> Tap | None:
        tap = super()._native_tap(name)
        why = _why_not_traced(tap) if tap is not None else None
        if why is not None:
            raise SiteError(f"site {name!r} is out of reach: {why}", fix="name another module, or its :in or :out")
        return tap

    def _block_paths(self, batch: Batch) -> list[str]:
        raise NotReplayableError("the model runs on a server, which runs it whole")

    def with_sae(self, sae: Dictionary, site: str) -> Self:
        """Refuse: nnsight's tracing serves what modules take and return."""
        raise CapabilityError(
            "a dictionary cannot be spliced into a model that runs through nnsight's tracing",
            fix="load the model here: nm.adapt(model) of a dispatched one runs without tracing",
        )

    # -- running -------------------------------------------------------------------------------------------------

    def _read(self, batch: Batch, capture: Sequence[str]) -> tuple[Tensors, Dims]:
        return self._execute(batch, {}, capture)[1:]

    def _execute(self, batch: Batch, edits: Edits, capture: Sequence[str]) -> tuple[Any, Tensors, Dims]:
        found, taps = self._observed(batch, edits, capture)
        tensors, dims = self._canonical(found["seen"], taps)
        return found["output"], tensors, dims

    def _differentiate(self, batch: Batch, edits: Edits, sites: Sequence[str], metric: Metric) -> tuple[Tensors, Dims]:
        found, taps = self._observed(batch, edits, sites, metric)
        if found["gradients"] is None or not bool(torch.isfinite(found["values"]).all()):
            raise InputError(
                "the metric cannot be differentiated",
                expected="finite values that depend on the model's output through torch operations",
                got=str(found["values"].tolist()),
                fix="use no .item(), .detach(), argmax or numpy inside the metric",
            )
        return self._canonical(found["gradients"], taps)

    def _observed(
        self, batch: Batch, edits: Edits, capture: Sequence[str], metric: Metric | None = None
    ) -> tuple[dict[str, Any], Mapping[str, Tap]]:
        taps = {name: self._tap(name) for name in dict.fromkeys([*edits, *capture])}
        places = self._places(batch, taps, edits, capture)
        no_cache = {"use_cache": False} if "use_cache" in self._parameters else {}
        inputs = {**no_cache, **batch.kwargs}
        with _code_that_travels(), evaluating(self.module), torch.set_grad_enabled(metric is not None):
            return _traced(self.traced, inputs, self.remote, places, batch.n_samples, metric), taps

    def _canonical(self, native: Tensors, taps: Mapping[str, Tap]) -> tuple[Tensors, Dims]:
        """Split heads and name axes: reading is done here, so that less code has to travel."""
        tensors: dict[str, torch.Tensor] = {}
        dims: dict[str, tuple[str, ...]] = {}
        for name, value in native.items():
            view, submodule = taps[name].view, self.module.get_submodule(taps[name].path)
            tensors[name] = view.read(value) if view is not None else value
            dims[name] = taps[name].dims or native_dims(submodule, value.ndim)
        return tensors, dims

    def _places(self, batch: Batch, taps: Mapping[str, Tap], edits: Edits, capture: Sequence[str]) -> Places:
        """Return where to stop and what to do there, in the order in which the model runs: nnsight needs it."""
        visits: dict[Location, list[Visit]] = {}
        # sums come after plain edits of the tensor they are written into
        for name in sorted(taps, key=lambda name: bool(taps[name].base)):
            tap = taps[name]
            change = None
            if edits.get(name):
                change = partial(_changed, tuple(edits[name]), tap.view, tap.dims, batch.window)
            bases = tuple((_location(base), base.flat) for base in tap.base)
            for location, _ in bases:
                visits.setdefault(location, [])
            visits.setdefault(_location(tap), []).append((name, change, name in capture, tap.flat, bases))
        order = self._order(batch)
        for path, side, _ in visits:
            if (path, side) not in order:
                raise SiteError(f"module {path!r} does not run in this model, or more than once", fix="name another")
        return sorted(visits.items(), key=lambda item: order[item[0][0], item[0][1]])

    def _order(self, batch: Batch) -> dict[tuple[str, str], int]:
        """Return the rank in order of execution of each input and output of the modules that run once."""
        if self._ranks is None:
            try:
                events = _executed(self.module, batch.rows(0, 1).kwargs)
            except (RuntimeError, NotImplementedError):
                if self._here:
                    raise
                # what cannot run without its weights is taken to run in the order in which it is written down
                events = list(_written("", self.module))
            counts = Counter(events)
            self._ranks = {event: rank for rank, event in enumerate(events) if counts[event] == 1}
        return self._ranks


def _traced(
    model: Any, inputs: Mapping[str, Any], remote: bool | str, places: Places, n_samples: int, metric: Metric | None
) -> dict[str, Any]:
    import nnsight

    with model.trace(**inputs, remote=remote) as tracer:
        found = nnsight.save(_observe(model, tracer, places, n_samples, metric))
    return found  # noqa: RET504  the block above is not run where it stands: nnsight puts `found` here


# -- what runs inside the trace, maybe on a server ---------------------------------------------------------------


def _observe(model: Any, tracer: Any, places: Places, n_samples: int, metric: Metric | None) -> dict[str, Any]:
    envoys = {envoy.path: envoy for envoy in model.modules()}
    values: dict[Location, torch.Tensor] = {}
    seen: dict[str, torch.Tensor] = {}
    deltas: dict[str, torch.Tensor] = {}
    for location, visits in places:
        path, side, key = location
        envoy = envoys[f"{model.path}.{path}" if path else model.path]
        whole = envoy.inputs if side == "in" else envoy.output
        where, native = pick(whole, key, path)
        edited = native
        for visit in visits:
            edited = _visited(visit, edited, envoy._module, n_samples, values, seen, deltas if metric else None)
        # cloned: a later in-place operation of the model must not change what is added up
        values[location] = edited.clone()
        if edited is not native and side == "in":
            envoy.inputs = put(whole, where, edited)
        elif edited is not native:
            envoy.output = put(whole, where, edited)
    result = tracer.result
    if metric is None:
        for where, tensor in list(named_tensors(result)):
            result = put(result, where, tensor.detach())
        return {"seen": seen, "output": result}
    return _differentiated(metric(result), deltas)


def _visited(
    visit: Visit,
    native: torch.Tensor,
    module: nn.Module,
    n_samples: int,
    values: dict[Location, torch.Tensor],
    seen: dict[str, torch.Tensor],
    deltas: dict[str, torch.Tensor] | None,
) -> torch.Tensor:
    """Edit and read one site in the tensor that holds it; return the tensor to go on with."""
    name, change, captured, flat, bases = visit
    value = native.unflatten(0, (n_samples, -1)) if flat else native
    base = sum(values[b].unflatten(0, (n_samples, -1)) if b_flat else values[b] for b, b_flat in bases)
    value = value + base if bases else value
    if change is None and (deltas is None or not captured):
        seen[name] = value.detach().clone()
        return native
    if change is not None:
        value = change(value, module)
    if deltas is not None and captured:
        deltas[name] = torch.zeros_like(value).requires_grad_()
        value = value + deltas[name]
    if captured:
        seen[name] = value.detach().clone()
    value = value - base if bases else value
    return value.flatten(0, 1) if flat else value


def _changed(
    edits: tuple[EditFunction, ...],
    view: HeadView | None,
    dims: tuple[str, ...],
    window: Window,
    value: torch.Tensor,
    module: nn.Module,
) -> torch.Tensor:
    """Return the native tensor under edits of the canonical one."""
    canonical = view.read(value) if view is not None else value
    axes = dims or native_dims(module, canonical.ndim)
    for edit in edits:
        canonical = edit(canonical, axes, window)
    return view.write(value, canonical) if view is not None else canonical


def _differentiated(values: torch.Tensor, deltas: dict[str, torch.Tensor]) -> dict[str, Any]:
    if not values.requires_grad:
        return {"values": values, "gradients": None}
    sites = list(deltas)
    leaves = [deltas[site] for site in sites]
    found = torch.autograd.grad(values.sum(), leaves, allow_unused=True, materialize_grads=True)
    return {"values": values.detach(), "gradients": dict(zip(sites, found, strict=True))}


# -- helpers on this side ----------------------------------------------------------------------------------------


def _location(tap: Tap) -> Location:
    return tap.path, tap.side, tap.key


def _why_not_traced(tap: Tap) -> str | None:
    if tap.side not in ("in", "out"):
        return "nnsight's tracing serves what modules take and return, not what they compute inside"
    return "its module runs more than once in a pass" if tap.call != 0 else None


def _portable(edit: Edit) -> Edit:
    """Return the edit without labelled arrays, whose libraries a server need not have."""
    if isinstance(edit, (Mean, Resample)) and not isinstance(edit.values_from, torch.Tensor):
        values: Any = edit.values_from
        labelled = hasattr(values, "dims") and hasattr(values, "xarray")
        return replace(edit, values_from=torch.as_tensor(values[edit.reference.name] if labelled else values))
    return edit


def _executed(module: nn.Module, inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Run the module, on the meta device if its weights are there, and list what ran in order."""
    events: list[tuple[str, str]] = []
    device = next(module.parameters()).device
    handles: list[torch.utils.hooks.RemovableHandle] = []
    with evaluating(module), torch.no_grad():
        try:
            for path, submodule in module.named_modules():
                before = partial(lambda path, *_: events.append((path, "in")), path)
                after = partial(lambda path, *_: events.append((path, "out")), path)
                handles += [submodule.register_forward_pre_hook(before), submodule.register_forward_hook(after)]
            # on the meta device the values of a mask cannot be asked for, and the order does not depend on it
            module(**{name: value.to(device) for name, value in inputs.items() if "mask" not in name})
        finally:
            for handle in handles:
                handle.remove()
    return events


def _written(path: str, module: nn.Module) -> Iterator[tuple[str, str]]:
    yield path, "in"
    for name, child in module.named_children():
        yield from _written(f"{path}.{name}".lstrip("."), child)
    yield path, "out"


@contextmanager
def _code_that_travels() -> Iterator[None]:
    """Let this package's code go to the server with the request: it is not installed there."""
    from cloudpickle import list_registry_pickle_by_value, register_pickle_by_value, unregister_pickle_by_value

    package = sys.modules[__name__.partition(".")[0]]
    registered = package.__name__ in list_registry_pickle_by_value()
    if not registered:
        register_pickle_by_value(package)
    # Python 3.11's cached_property holds a lock, which cannot travel.
    copyreg.pickle(cached_property, _cached_property_parts)  # type: ignore[arg-type]
    try:
        yield
    finally:
        copyreg.dispatch_table.pop(cached_property, None)
        if not registered:
            unregister_pickle_by_value(package)


def _cached_property_parts(prop: cached_property[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return _cached_property_of, (prop.func, prop.attrname)


def _cached_property_of(function: Callable[..., Any], name: str) -> cached_property[Any]:
    prop = cached_property(function)
    prop.__set_name__(object, name)
    return prop
