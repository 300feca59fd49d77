"""The one engine that reads and edits activations of torch modules. Every torch-based adapter runs through it.

Hooks are put on the tapped submodules only, for one call, and removed whatever happens. Nothing of the caller's
model is kept changed: not its hooks, its train/eval flags, its ``forward`` methods or its attention settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.running import count_calls, evaluating, open_kernels, standing_in
from neuros_mechint.adapters.softmax import visible_softmax
from neuros_mechint.adapters.splice import spliced
from neuros_mechint.adapters.taps import Tap
from neuros_mechint.adapters.tensors import native_dims, pick, put
from neuros_mechint.adapters.unroll import unrolled_forward
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.site_names import part_of_dictionary
from neuros_mechint.core.sites import Window

EditFunction = Callable[[torch.Tensor, tuple[str, ...], Window], torch.Tensor]
"""``edit(values, dims, window) -> values``; what `neuros_mechint.core.edits.Edit.apply` is."""
DimsOf = Callable[[nn.Module, int, bool], tuple[str, ...]]


@dataclass
class _Visitor:
    """One tap during one run: its edits, what it saw, and the zero tensors through which gradients are taken."""

    name: str
    tap: Tap
    edits: Sequence[EditFunction] = ()
    captured: bool = False
    pieces: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    deltas: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    dims: tuple[str, ...] = ()
    visits: int = 0
    first_seen: int = 0
    offset: int = 0
    parts: dict[str, _Visitor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Order among taps on one tensor: plain edits first, then sums built on them."""
        return 1 if self.tap.base else 0


@dataclass(frozen=True)
class HookedRun:
    """What one hooked call gave.

    Parameters
    ----------
    output : object
        The model's own output.
    tensors : dict of str to torch.Tensor
        Captured activations, in the canonical axes.
    dims : dict of str to tuple of str
        Names of these axes.
    deltas : dict of str to list of torch.Tensor
        With ``gradient=True``: zero tensors added at each site; the gradient with respect to them is the gradient
        with respect to the activation. One per time step for recurrent sites.
    calls : dict of str to int
        How often each tapped submodule ran.
    """

    output: Any
    tensors: Mapping[str, torch.Tensor]
    dims: Mapping[str, tuple[str, ...]]
    deltas: Mapping[str, list[torch.Tensor]]
    calls: Mapping[str, int]

    def gradients(self, total: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the derivative of the scalar ``total`` with respect to each captured activation."""
        flat = [delta for deltas in self.deltas.values() for delta in deltas]
        found = iter(torch.autograd.grad(total, flat, allow_unused=True, materialize_grads=True))
        return {
            name: _join(name, [next(found) for _ in deltas], self.dims[name]) for name, deltas in self.deltas.items()
        }


def run_hooked(
    module: nn.Module,
    call: Callable[[], Any],
    taps: Mapping[str, Tap],
    edits: Mapping[str, Sequence[EditFunction]] | None = None,
    capture: Collection[str] = (),
    *,
    n_samples: int,
    window: Window | None = None,
    gradient: bool = False,
    horizon: int | None = None,
    calls_per_pass: Mapping[str, int] | None = None,
    dims_of: DimsOf = native_dims,
    stop_early: bool = False,
) -> HookedRun:
    """Run ``call`` with hooks that apply ``edits`` and read ``capture``.

    Parameters
    ----------
    module : torch.nn.Module
        The model whose submodules are tapped.
    call : callable
        Runs the model, e.g. ``lambda: module(x)``.
    taps : mapping of str to Tap
        Where each name lies; names in ``edits`` and ``capture`` must be among them.
    edits : mapping of str to sequence of callables, optional
        Edits per site, applied in order.
    capture : collection of str
        Sites to read, after their edits.
    n_samples : int
        Samples in this call.
    window : mapping, optional
        Where these samples lie in the whole input (see `neuros_mechint.core.sites.Window`).
    gradient : bool
        Keep the graph and add zero tensors at the captured sites.
    horizon : int, optional
        For cached generation: the length the sequence will have; later passes then continue the position axis.
    calls_per_pass : mapping of str to int, optional
        For generation: how often one pass runs each submodule, where it is more than once.
    dims_of : callable
        Names the axes of a tensor at a plain module path: ``dims_of(submodule, ndim, timed)``.
    stop_early : bool
        Leave the pass once every site has been read, where each is read once: the output is then ``None``.

    Raises
    ------
    SiteError
        A site that the pass never reached: nothing is left out in silence.
    """
    edits = edits or {}
    session = _Session(module, taps, edits, capture, n_samples, dict(window or {}), gradient, dims_of)
    session.horizon, session.calls_per_pass = horizon, calls_per_pass or {}
    session.stops = stop_early and all(_is_read_once(visitor.tap) for visitor in session.visitors)
    with evaluating(module), torch.set_grad_enabled(gradient), open_kernels():
        if any(visitor.edits and visitor.tap.call is None for visitor in session.visitors):
            session.count_steps(call)
        output = None
        with session.hooked(), _running(session), suppress(_AllReadError):
            output = call()
    session.check_reached()
    return session.result(output)


class _AllReadError(BaseException):
    """Every site has been read: what is left of the pass is not needed. No model's own ``except`` is to catch it."""


_SESSION: ContextVar[_Session | None] = ContextVar("session", default=None)


@contextmanager
def _running(session: _Session) -> Generator[None]:
    """Mark whose hooks may act: a run inside an edit of another run must not be edited or captured by that one."""
    token = _SESSION.set(session)
    try:
        yield
    finally:
        _SESSION.reset(token)


class _Session:
    """Hooks and bookkeeping of one call."""

    def __init__(
        self,
        module: nn.Module,
        taps: Mapping[str, Tap],
        edits: Mapping[str, Sequence[EditFunction]],
        capture: Collection[str],
        n_samples: int,
        window: dict[str, tuple[int, int]],
        gradient: bool,
        dims_of: DimsOf,
    ) -> None:
        self.module, self.n_samples, self.window = module, n_samples, window
        self.gradient, self.dims_of = gradient, dims_of
        self.horizon: int | None = None
        self.calls_per_pass: Mapping[str, int] = {}
        names = dict.fromkeys([*edits, *capture])
        self.visitors = [_Visitor(name, taps[name], edits.get(name, ()), name in capture) for name in names]
        hosts = _with_parts(self.visitors)
        bases = {base for visitor in self.visitors for base in visitor.tap.base}
        self.base_values: dict[Tap, torch.Tensor] = {}
        # readers of a base value come last on their tensor: they must see it after its edits
        ordered = sorted(hosts, key=lambda visitor: visitor.rank)
        self.places: dict[str, list[_Visitor | Tap]] = {}
        for place in [*ordered, *bases]:
            self.places.setdefault(_tap(place).path, []).append(place)
        self.calls: Counter[str] = Counter()  # by path: a tied module has hooks of its own under each
        self.running: list[tuple[str, int]] = []
        self.steps: dict[str, int] = {}
        self.seen = 0
        self.stops = False

    # -- hooks ---------------------------------------------------------------------------------------------------

    @contextmanager
    def hooked(self) -> Generator[None]:
        """Put the hooks on, and take them off whatever happens."""
        handles: list[torch.utils.hooks.RemovableHandle] = []
        with ExitStack() as stack:
            stack.callback(lambda: [handle.remove() for handle in handles])
            for path, places in self.places.items():
                submodule = self.module.get_submodule(path)
                before = partial(self._before, path)
                handles.append(submodule.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(submodule.register_forward_hook(partial(self._after, path)))
                if any(_tap(place).side in ("hidden", "cell") for place in places):
                    stack.enter_context(_unrolled(submodule, partial(self._state, path)))
            if any(_tap(place).side == "softmax" for places in self.places.values() for place in places):
                stack.enter_context(visible_softmax(self.module, self._softmax))
            yield

    def count_steps(self, call: Callable[[], Any]) -> None:
        """Run once to learn how often each cell runs: ``time=-1`` needs to know where time ends."""
        paths = {visitor.tap.path for visitor in self.visitors if visitor.tap.call is None}
        with torch.no_grad(), torch.random.fork_rng():
            self.steps = dict(count_calls(self.module, call, paths))

    @property
    def _acts(self) -> bool:
        return _SESSION.get() is self

    def _before(self, path: str, submodule: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._acts:
            return args, kwargs
        call = self.calls[path]
        self.calls[path] += 1
        if self.horizon is not None:  # generation: one pass after another
            call %= self.calls_per_pass.get(path, 1)
        self.running.append((path, call))
        for place in self._here(path, "in", call):
            where, value = pick((args, kwargs), _tap(place).key, path)
            args, kwargs = put((args, kwargs), where, self._visit(place, value, submodule, call))
        return args, kwargs

    def _after(self, path: str, submodule: nn.Module, _args: Any, output: Any) -> Any:
        if not self._acts:
            return output
        _, call = self.running.pop()
        for place in self._here(path, "out", call):
            where, value = pick(output, _tap(place).key, path)
            output = put(output, where, self._visit(place, value, submodule, call))
        return output

    def _softmax(self, pattern: torch.Tensor) -> torch.Tensor:
        if self.running and self._acts:
            path, call = self.running[-1]
            for place in self._here(path, "softmax", call):
                pattern = self._visit(place, pattern, self.module.get_submodule(path), call)
        return pattern

    def _state(self, path: str, steps: int, side: str, layer: int, time: int, state: torch.Tensor) -> torch.Tensor:
        if not self._acts:
            return state
        if self.calls[path] > 1:
            raise InputError(
                f"the recurrent module {path!r} runs several times in one pass",
                expected="one sequence per pass: the hidden states have no single time axis",
                fix=f"use its output, '{path}:out#0', '{path}:out#1', ...",
            )
        self.steps[path] = steps
        for place in self.places[path]:
            if _tap(place).side == side and (_tap(place).key or 0) == layer:
                state = self._visit(place, state, self.module.get_submodule(path), time)
        return state

    def _here(self, path: str, side: str, call: int) -> list[_Visitor | Tap]:
        return [p for p in self.places[path] if _tap(p).side == side and _tap(p).call in (None, call)]

    # -- one tensor ----------------------------------------------------------------------------------------------

    def _visit(self, place: _Visitor | Tap, native: torch.Tensor, submodule: nn.Module, call: int) -> torch.Tensor:
        """Read the canonical value out of ``native``, edit and capture it, and write it back."""
        tap = _tap(place)
        if tap.flat:
            unflat = native.unflatten(0, (self.n_samples, -1))
            return self._visit_unflat(place, unflat, submodule, call).flatten(0, 1)
        return self._visit_unflat(place, native, submodule, call)

    def _visit_unflat(
        self, place: _Visitor | Tap, native: torch.Tensor, submodule: nn.Module, call: int
    ) -> torch.Tensor:
        if isinstance(place, Tap):
            # cloned: a later in-place operation of the model must not change what the sum is made of
            self.base_values[place] = native.clone()
            return native
        tap = place.tap
        base = sum(self.base_values[part] for part in tap.base) if tap.base else None
        value = tap.view.read(native) if tap.view is not None else native
        value = value if base is None else value + base
        timed = tap.call is None or tap.side in ("hidden", "cell")
        edited = value.unsqueeze(1) if timed else value
        place.dims = self._checked_dims(tap.dims or self.dims_of(submodule, edited.ndim, timed), edited.shape)
        seen = edited
        edited = self._edit(place, seen, call)
        if self.stops and all(visitor.visits for visitor in self.visitors):
            raise _AllReadError
        if edited is seen:
            return native
        edited = edited.squeeze(1) if timed else edited
        if base is not None:
            return edited - base
        return tap.view.write(native, edited) if tap.view is not None else edited

    def _checked_dims(self, dims: tuple[str, ...], shape: torch.Size) -> tuple[str, ...]:
        """Call an axis ``row`` where it does not count the samples: an index of samples would mean something else."""
        counted = "sample" in dims and shape[dims.index("sample")] == self.n_samples
        if counted or self.horizon is not None:
            return dims
        return tuple("row" if axis == "sample" else axis for axis in dims)

    def _edit(self, visitor: _Visitor, value: torch.Tensor, call: int) -> torch.Tensor:
        if not visitor.visits:
            visitor.first_seen = self.seen = self.seen + 1
        visitor.visits += 1
        window = self._window(visitor, value, call)
        edited = value
        for edit in visitor.edits:
            try:
                edited = edit(edited, visitor.dims, window)
            except Exception as error:
                error.add_note(f"raised in an edit of site {visitor.name!r}")
                error.from_edit = True  # type: ignore[attr-defined]  # tells the user's error from the model's
                raise
        if visitor.parts:
            dictionary = next(iter(visitor.parts.values())).tap.splice.dictionary  # type: ignore[union-attr]
            visit = partial(self._visit_part, visitor, call)
            edited = spliced(edited, visitor.dims, dictionary, visitor.parts, visit)
        if visitor.captured and self.gradient:
            delta = torch.zeros_like(edited).requires_grad_()
            visitor.deltas.append(delta)
            edited = edited + delta
        if visitor.captured:
            visitor.pieces.append(edited.clone() if self.gradient else edited.detach().clone())
        return edited.reshape(value.shape) if edited is not value else value

    def _visit_part(
        self, host: _Visitor, call: int, part: str, value: torch.Tensor, dims: tuple[str, ...]
    ) -> torch.Tensor:
        host.parts[part].dims = dims
        return self._edit(host.parts[part], value, call)

    def _window(self, visitor: _Visitor, value: torch.Tensor, call: int) -> Window:
        window = dict(self.window)
        if "time" in visitor.dims and (visitor.tap.call is None or visitor.tap.side in ("hidden", "cell")):
            window["time"] = (call, self.steps.get(visitor.tap.path, call + 1))
        if self.horizon is not None and grows(visitor.name):
            for axis in ("position", "query"):
                if axis in visitor.dims:
                    window[axis] = (visitor.offset, self.horizon)
                    visitor.offset += value.shape[visitor.dims.index(axis)]
            if "key" in visitor.dims and "cross_" not in visitor.name:
                window["key"] = (0, self.horizon)
        return window

    # -- afterwards ----------------------------------------------------------------------------------------------

    def check_reached(self) -> None:
        """Raise when a tap saw nothing: an edit that did nothing must never pass for an edit."""
        for visitor in self.visitors:
            if not visitor.visits:
                raise SiteError(
                    f"site {visitor.name!r} was never reached in this pass",
                    expected=f"the model to run {visitor.tap.native}",
                    fix="check that these inputs use that part of the model",
                )

    def result(self, output: Any) -> HookedRun:
        """Gather what the visitors saw."""
        captured = sorted((visitor for visitor in self.visitors if visitor.captured), key=lambda v: v.first_seen)
        return HookedRun(
            output=output,
            tensors={v.name: _join(v.name, v.pieces, v.dims) for v in captured},
            dims={visitor.name: visitor.dims for visitor in captured},
            deltas={visitor.name: visitor.deltas for visitor in captured},
            calls={path: self.calls[path] for path in self.places},
        )


def grows(site: str) -> bool:
    """Return whether a site gets new positions as a model generates: what belongs to the source text does not.

    Examples
    --------
    >>> grows("decoder.blocks.0.z"), grows("encoder.blocks.0.z"), grows("decoder.blocks.0.cross_v")
    (True, False, False)
    """
    return "encoder" not in site.split(".") and not site.endswith((".cross_k", ".cross_v"))


def _with_parts(visitors: Sequence[_Visitor]) -> list[_Visitor]:
    """Return one visitor per place in the model; parts of a dictionary hang on that of the site it is spliced into."""
    hosts: dict[str, _Visitor] = {visitor.name: visitor for visitor in visitors if visitor.tap.splice is None}
    for visitor in visitors:
        inside = part_of_dictionary(visitor.name)
        if visitor.tap.splice is not None and inside is not None:
            host = hosts.setdefault(inside[0], _Visitor(inside[0], replace(visitor.tap, splice=None)))
            host.parts[inside[1]] = visitor
    return list(hosts.values())


def _is_read_once(tap: Tap) -> bool:
    """Return whether a tap sees one tensor per pass: a plain module path may turn out to run more than once."""
    return bool(tap.check) and tap.call is not None and tap.side not in ("hidden", "cell")


def _tap(place: _Visitor | Tap) -> Tap:
    return place if isinstance(place, Tap) else place.tap


def _join(name: str, pieces: Sequence[torch.Tensor], dims: tuple[str, ...]) -> torch.Tensor:
    """Put the time steps of a recurrent site together."""
    if len(pieces) == 1:
        return pieces[0]
    if "time" not in dims:
        raise InputError(f"site {name!r} ran {len(pieces)} times in one pass", fix="name the call, as in 'path#1'")
    return torch.cat(list(pieces), dim=dims.index("time"))


@contextmanager
def _unrolled(module: nn.Module, visit_state: Callable[..., torch.Tensor]) -> Generator[None]:
    """Let ``module`` run step by step."""

    def forward(inputs: torch.Tensor, state: Any = None) -> Any:
        assert isinstance(module, nn.RNNBase)
        steps = inputs.shape[1 if module.batch_first else 0] if isinstance(inputs, torch.Tensor) else 0
        return unrolled_forward(module, inputs, state, partial(visit_state, steps))

    with standing_in(module, forward):
        yield
