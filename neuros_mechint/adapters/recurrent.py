"""Recurrent torch modules: capture and edit at each time step, and run single steps."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.batches import Batch, join_outputs
from neuros_mechint.adapters.inference import SiteMap
from neuros_mechint.adapters.taps import Tap
from neuros_mechint.adapters.tensors import native_dims
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.adapters.unroll import State, cell_step, initial_state, reason_not_unrollable
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.sites import Site, SiteTable

_DIMS = ("sample", "time", "unit")
Recurrent = nn.RNNBase | nn.RNNCellBase
_CHECK = "the state after each step"


class RecurrentAdapter(TorchAdapter):
    """Adapter for ``nn.RNN``, ``nn.GRU``, ``nn.LSTM``, their cells, and modules built on them.

    The states are sites: ``hidden`` (and ``cell`` of an LSTM), ``layers.0.hidden`` ... with several layers, and with
    the module's path in front where a model has several recurrent parts. A bare cell takes ``(batch, time, input)``
    and is run over time.

    Parameters
    ----------
    module : torch.nn.Module
        Holds at least one recurrent module or cell.
    example : tensor or tuple, optional
        Unused by recurrent sites; accepted as for every torch module.
    sample_axis : int, optional
        Which axis of the inputs counts the samples; a bare module says it by its ``batch_first``.

    Examples
    --------
    >>> adapter = RecurrentAdapter(nn.GRU(2, 3, batch_first=True))
    >>> adapter.capture(torch.zeros(4, 5, 2), "hidden").xarray("hidden").dims
    ('sample', 'time', 'unit')
    """

    def __init__(self, module: nn.Module, example: Any = None, sample_axis: int | None = None) -> None:
        super().__init__(module, example=example, sample_axis=sample_axis)
        self._parts = {
            path: part for path, part in module.named_modules() if isinstance(part, (nn.RNNBase, nn.RNNCellBase))
        }
        self._copies: dict[torch.dtype, tuple[Any, Recurrent]] = {}

    @property
    def capabilities(self) -> frozenset[str]:
        """As for torch modules, with time, and single steps where there is one recurrent part."""
        steps = {"step"} if len(self._parts) == 1 and not self._withheld() else set[str]()
        return super().capabilities | {"time"} | steps

    # -- sites ---------------------------------------------------------------------------------------------------

    def _prove(self, batch: Batch | None) -> None:
        if self._map is None:
            taps = {name: tap for path, part in self._parts.items() for name, tap in self._state_taps(path, part)}
            self._map = SiteMap(taps, self._withheld())
            sites = [self._site(name, tap, order) for order, (name, tap) in enumerate(taps.items())]
            self._named = SiteTable(sites, self._map.withheld, f"sites of {type(self.module).__name__}")

    def _state_taps(self, path: str, part: nn.Module) -> list[tuple[str, Tap]]:
        prefix = f"{path}." if len(self._parts) > 1 else ""
        kinds = ("hidden", "cell") if isinstance(part, (nn.LSTM, nn.LSTMCell)) else ("hidden",)
        if isinstance(part, nn.RNNCellBase):
            keys = (0, 1) if isinstance(part, nn.LSTMCell) else (None,)
            return [
                (prefix + kind, Tap(path, "out", key, None, check=_CHECK, dims=_DIMS))
                for kind, key in zip(kinds, keys, strict=True)
            ]
        assert isinstance(part, nn.RNNBase)
        if reason_not_unrollable(part):
            return []
        return [
            (
                f"{prefix}layers.{layer}.{kind}" if part.num_layers > 1 else prefix + kind,
                Tap(path, "cell" if kind == "cell" else "hidden", layer, 0, check=_CHECK, dims=_DIMS),
            )
            for layer in range(part.num_layers)
            for kind in kinds
        ]

    def _withheld(self) -> dict[str, str]:
        prefix = {path: f"{path}." if len(self._parts) > 1 else "" for path in self._parts}
        return {
            f"{prefix[path]}hidden": reason_not_unrollable(part)
            for path, part in self._parts.items()
            if isinstance(part, nn.RNNBase) and reason_not_unrollable(part)
        }

    def _site(self, name: str, tap: Tap, order: int) -> Site:
        n_units = int(self._parts[tap.path].hidden_size)  # type: ignore[arg-type]
        layer = int(tap.key) if isinstance(tap.key, int) and tap.side != "out" else None
        return Site(name, tap.native, _DIMS, (None, None, n_units), None, layer, order, tap.check)

    # -- running -------------------------------------------------------------------------------------------------

    def _sample_axis(self) -> int:
        if self._stated_axis is not None:
            return self._stated_axis
        return int(isinstance(self.module, nn.RNNBase) and not self.module.batch_first)

    def _check_splittable(self) -> None:
        if not isinstance(self.module, nn.RNNBase):  # a bare module says itself which axis it is
            super()._check_splittable()

    def _native_dims(self, submodule: nn.Module, ndim: int, timed: bool) -> tuple[str, ...]:
        dims = native_dims(submodule, ndim, timed)
        if dims == ("sample", "position", "unit"):
            return ("time", "sample", "unit") if self._sample_axis() else _DIMS
        return dims

    def _call(self, batch: Batch) -> Any:
        if not isinstance(self.module, nn.RNNCellBase):
            return super()._call(batch)
        inputs = batch.args[0]
        if inputs.ndim != 3:
            raise InputError(
                "a cell is run over time", expected="inputs (batch, time, n_inputs)", got=tuple(inputs.shape)
            )
        state: Any = None
        hidden: list[torch.Tensor] = []
        for step_inputs in inputs.unbind(1):
            state = self.module(step_inputs, state)
            hidden.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(hidden, dim=1)

    def _join_outputs(self, outputs: Sequence[Any], sizes: Sequence[int], sample_axis: int) -> Any:
        if len(outputs) == 1 or not isinstance(self.module, nn.RNNBase):
            return join_outputs(outputs, sizes, sample_axis)
        sequences, states = zip(*outputs, strict=True)
        # final states are (layer, batch, unit) whatever batch_first says
        return join_outputs(sequences, sizes, sample_axis), join_outputs(states, sizes, sample_axis=1)

    def step(self, state: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Advance the recurrent part by one time step, in the precision of the state.

        Parameters
        ----------
        state : torch.Tensor of shape (batch, n_states) or (n_states,)
            Hidden units of every layer, then the cell states of an LSTM.
        inputs : torch.Tensor of shape (batch, n_inputs) or (n_inputs,), optional
            Input to the recurrent part itself (capture ``rnn:in`` to see what a model feeds it); zero when omitted.

        Returns
        -------
        torch.Tensor
            The next state, shaped like ``state`` and differentiable; with respect to the weights too, if the state has
            their precision.

        Raises
        ------
        CapabilityError
            Several recurrent parts, or one that cannot be unrolled.
        InputError
            A state or input of another width.
        """
        self._require("step")
        (part,) = self._parts.values()
        assert isinstance(part, (nn.RNNBase, nn.RNNCellBase))
        n_layers = part.num_layers if isinstance(part, nn.RNNBase) else 1
        kinds = 2 if isinstance(part, (nn.LSTM, nn.LSTMCell)) else 1
        batch = torch.atleast_2d(state)
        _check_width("state", batch, kinds * n_layers * int(part.hidden_size))
        part = self._in_precision(part, batch.dtype)
        given = batch.new_zeros(batch.shape[0], int(part.input_size)) if inputs is None else torch.atleast_2d(inputs)
        _check_width("inputs of the recurrent part", given, int(part.input_size))
        parts = batch.reshape(batch.shape[0], kinds, n_layers, -1).permute(1, 2, 0, 3)
        new = _advance(part, given.expand(batch.shape[0], -1), tuple(parts))
        flat = torch.stack(new).permute(2, 0, 1, 3).reshape(batch.shape)
        return flat.reshape(state.shape)

    def _in_precision(self, part: Recurrent, dtype: torch.dtype) -> Recurrent:
        """Return the part with its weights in another precision: a copy, as long as the weights stay as they are."""
        weights = list(part.parameters())
        if weights[0].dtype == dtype:
            return part
        state = tuple((id(weight), weight._version) for weight in weights)
        if self._copies.get(dtype, (None,))[0] != state:
            self._copies[dtype] = (state, deepcopy(part).to(dtype).requires_grad_(False))
        return self._copies[dtype][1]

    def initial_state(self, batch: int = 1) -> torch.Tensor:
        """Return the zero state ``(batch, n_states)`` that torch starts from."""
        self._require("step")
        (part,) = self._parts.values()
        weight = next(part.parameters())
        if isinstance(part, nn.RNNBase):
            zeros = torch.stack(initial_state(part, batch, weight))
            return zeros.permute(2, 0, 1, 3).reshape(batch, -1)
        kinds = 2 if isinstance(part, nn.LSTMCell) else 1
        return weight.new_zeros(batch, kinds * int(part.hidden_size))  # type: ignore[arg-type]


def _advance(part: nn.Module, inputs: torch.Tensor, state: State) -> State:
    """One step of all layers; ``state`` is ``(hidden[, cell])``, each ``(layer, batch, unit)``."""
    if isinstance(part, nn.RNNCellBase):
        own = (state[0][0], state[1][0]) if isinstance(part, nn.LSTMCell) else state[0][0]
        new = part(inputs, own)
        return tuple(one.unsqueeze(0) for one in (new if isinstance(new, tuple) else (new,)))
    if not isinstance(part, nn.RNNBase):
        raise CapabilityError(f"{type(part).__name__} has no single step")
    layers: list[State] = []
    for layer in range(part.num_layers):
        now = cell_step(part, layer, inputs, tuple(kind[layer] for kind in state))
        inputs = now[0]
        layers.append(now)
    return tuple(torch.stack([layer[kind] for layer in layers]) for kind in range(len(state)))


def _check_width(name: str, values: torch.Tensor, width: int) -> None:
    if values.ndim != 2 or values.shape[1] != width:
        raise InputError(
            f"{name} of the wrong shape", expected=f"(batch, {width}) or ({width},)", got=tuple(values.shape)
        )
