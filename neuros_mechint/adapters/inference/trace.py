"""Record what every submodule takes and gives during one forward pass, with its place in the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from neuros_mechint.adapters.inference.identities import agree
from neuros_mechint.adapters.softmax import VisibleSoftmax, open_attention
from neuros_mechint.adapters.taps import HeadView, Tap

STREAM_DIMS = ("sample", "position", "unit")


@dataclass(frozen=True, eq=False)
class Event:
    """One tensor that entered or left a submodule, or one softmax it computed.

    Parameters
    ----------
    path, side, key, call
        Where it was met, as in `Tap`. For a softmax, ``key`` counts those of one call of the submodule.
    value : torch.Tensor
        A copy, so that later in-place operations of the model cannot change what was seen.
    edge : torch.autograd.graph.GradientEdge or None
        Its place in the graph as it was then: a tensor's own place moves on with every in-place operation.
    time : int
        Place in the order of events.
    flat : bool
        The native tensor is ``(batch * position, features)``; ``value`` no longer is.
    """

    path: str
    side: Literal["in", "out", "softmax"]
    key: int | str
    call: int
    value: torch.Tensor
    edge: GradientEdge | None
    time: int
    flat: bool = False

    @property
    def shape(self) -> torch.Size:
        """Shape of the value."""
        return self.value.shape

    def tap(self, check: str = "", view: HeadView | None = None, dims: tuple[str, ...] = STREAM_DIMS) -> Tap:
        """Return the place of this event, proven by ``check``."""
        key = 0 if self.side == "softmax" else self.key
        return Tap(self.path, self.side, key, self.call, view, self.flat, (), check, dims)

    def unflattened(self, samples: int, positions: int) -> Event:
        """Return this event with ``(batch * position, features)`` taken apart, if it is such a tensor."""
        if self.value.ndim != 2 or self.shape[0] != samples * positions:
            return self
        return replace(self, value=self.value.unflatten(0, (samples, positions)), flat=True)


@dataclass(frozen=True, eq=False)
class Trace:
    """Everything one forward pass showed.

    Parameters
    ----------
    module : torch.nn.Module
        The model that ran.
    output : object
        What it returned.
    events : list of Event
        In order.
    spans : dict
        For each call of a submodule ``(path, call)``, the range of its events.
    fused_equals_open : bool
        Every fused attention call agreed with the same maths in the open.
    """

    module: nn.Module
    output: Any
    events: list[Event]
    spans: dict[tuple[str, int], range]
    fused_equals_open: bool

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Submodules by path, each once."""
        return dict(self.module.named_modules())

    @cached_property
    def projections(self) -> frozenset[str]:
        """Paths of linear maps: modules with a matrix, embeddings aside (GPT-2's are no ``nn.Linear``)."""
        return frozenset(
            path
            for path, module in self.modules.items()
            if getattr(getattr(module, "weight", None), "ndim", 0) == 2 and not isinstance(module, nn.Embedding)
        )

    def is_leaf(self, path: str) -> bool:
        """Whether the submodule has no parts of its own."""
        return not any(True for _ in self.modules[path].children())

    def during(self, path: str, call: int) -> list[Event]:
        """Return the events of one call of a submodule."""
        span = self.spans[path, call]
        return self.events[span.start : span.stop]


def record(module: nn.Module, call: Callable[[], Any]) -> Trace:
    """Run ``call`` once and record it; whatever happens, the model is left as it was.

    Parameters
    ----------
    module : torch.nn.Module
        The model, in eval mode.
    call : callable
        Runs it.
    """
    recorder = _Recorder()
    with ExitStack() as stack:
        for path, submodule in module.named_modules():
            before, after = partial(recorder.before, path), partial(recorder.after, path)
            stack.callback(submodule.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(submodule.register_forward_hook(after).remove)
        stack.enter_context(open_attention(module))
        softmax = stack.enter_context(_ComparedSoftmax(recorder.softmax))
        stack.enter_context(torch.enable_grad())
        output = call()
    return Trace(module, output, recorder.events, recorder.spans, softmax.agreed)


class _ComparedSoftmax(VisibleSoftmax):
    """Opens fused attention, and notes whether the open maths gives what the fused call gives."""

    def __init__(self, visit: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(visit)
        self.agreed = True

    def attend(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.no_grad():
            fused = F.scaled_dot_product_attention(*args, **kwargs)
        opened = super().attend(*args, **kwargs)
        self.agreed &= agree(opened.detach(), fused)
        return opened


@dataclass
class _Recorder:
    """The hooks that write the record."""

    events: list[Event] = field(default_factory=list[Event])
    spans: dict[tuple[str, int], range] = field(default_factory=dict[tuple[str, int], range])
    calls: Counter[str] = field(default_factory=Counter[str])
    running: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    copies: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict[tuple[int, int], torch.Tensor])
    seen: list[torch.Tensor] = field(default_factory=list[torch.Tensor])

    def before(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not path:
            args, kwargs = (
                tuple(map(_in_graph, args)),
                {key: _in_graph(value) for key, value in kwargs.items()},
            )
        call = self.calls[path]
        self.calls[path] += 1
        self.running.append((path, call, len(self.events)))
        for key, value in [*enumerate(args), *kwargs.items()]:
            # the integers that enter an embedding tell which argument it embeds
            if isinstance(value, torch.Tensor) and (value.is_floating_point() or isinstance(module, nn.Embedding)):
                self._add(path, "in", key, call, value)
        return args, kwargs

    def after(self, path: str, module: nn.Module, args: Any, output: Any) -> Any:
        output = _in_graph(output)
        _, call, start = self.running.pop()
        for key, value in _items(output):
            if value.is_floating_point():
                self._add(path, "out", key, call, value)
        self.spans[path, call] = range(start, len(self.events))
        return output

    def softmax(self, pattern: torch.Tensor) -> torch.Tensor:
        if self.running:
            path, call, start = self.running[-1]
            earlier = sum((event.path, event.side) == (path, "softmax") for event in self.events[start:])
            self._add(path, "softmax", earlier, call, pattern)
        return pattern

    def _add(
        self,
        path: str,
        side: Literal["in", "out", "softmax"],
        key: int | str,
        call: int,
        tensor: torch.Tensor,
    ) -> None:
        # one tensor passes many modules: it is copied once, and again only after it was changed in place
        version = (id(tensor), tensor._version)
        if version not in self.copies:
            self.copies[version] = tensor.detach().clone()
            self.seen.append(tensor)  # kept alive, so that no other tensor gets its id
        edge = get_gradient_edge(tensor) if tensor.requires_grad else None
        self.events.append(Event(path, side, key, call, self.copies[version], edge, len(self.events)))


def _in_graph(value: Any) -> Any:
    """Return a floating-point tensor as one that gradients can be taken through, frozen model or not."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.requires_grad:
        return value
    # a clone is no leaf of the graph, so the model may work on it in place
    return value.detach().requires_grad_().clone()


def _items(output: Any) -> Iterator[tuple[int | str, torch.Tensor]]:
    """Yield the tensors a module returned, with the key each has in its output; a bare tensor has key 0."""
    if isinstance(output, torch.Tensor):
        yield 0, output
    elif isinstance(output, (tuple, list)):
        yield from ((key, item) for key, item in enumerate(output) if isinstance(item, torch.Tensor))
    elif hasattr(output, "items"):
        yield from ((key, item) for key, item in output.items() if isinstance(item, torch.Tensor))
