"""The same models read and edited by hand, without a line of the engine: what the adapters are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

Change = Callable[[torch.Tensor], torch.Tensor]
Place = tuple[str, str]
"""A module path, and "out", "in" or "heads in" (the input taken apart into 4 heads)."""

HEADS = 4


def call(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs.clone())


def edited(model: nn.Module, inputs: Any, place: Place, change: Change | None) -> tuple[torch.Tensor, Any]:
    """Return the activation at a place, in a copy of the model, and the output with ``change`` applied there."""
    path, side = place
    own = copy.deepcopy(model).eval()
    kept: list[torch.Tensor] = []

    def visit(value: torch.Tensor) -> torch.Tensor:
        value = value.unflatten(-1, (HEADS, -1)) if side == "heads in" else value
        new = value.clone() if change is None else change(value.clone())
        if new.requires_grad:
            new.retain_grad()
        kept.append(value.detach().clone() if change is None and not new.requires_grad else new)
        new = new.flatten(-2) if side == "heads in" else new
        return new.clone()  # the model may go on to write in place

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        return (visit(output[0]), *output[1:]) if isinstance(output, tuple) else visit(output)

    def before(_module: nn.Module, args: tuple[Any, ...]) -> Any:
        return (visit(args[0]), *args[1:])

    submodule = own.get_submodule(path)
    if side == "out":
        submodule.register_forward_hook(after)
    else:
        submodule.register_forward_pre_hook(before)
    output = call(own, inputs)
    return kept[0], output


def module_oracle(model: nn.Module, inputs: Any, places: Mapping[str, Place]) -> Callable[..., Any]:
    def oracle(site: str, change: Change | None) -> tuple[torch.Tensor, Any]:
        with torch.no_grad():
            return edited(model, inputs, places[site], change)

    return oracle


def own_paths(model: nn.Module) -> dict[str, Place]:
    return {path: (path, "out") for path, _ in model.named_modules() if path}


def gpt2_places(n_layers: int = 2) -> dict[str, Place]:
    places = {
        "embed": ("transformer.wte", "out"),
        "ln_final": ("transformer.ln_f", "out"),
        "logits": ("lm_head", "out"),
    }
    for layer in range(n_layers):
        block = f"transformer.h.{layer}"
        places |= {
            f"blocks.{layer}.resid_pre": (block, "in"),
            f"blocks.{layer}.z": (f"{block}.attn.c_proj", "heads in"),
            f"blocks.{layer}.attn_out": (f"{block}.attn", "out"),
            f"blocks.{layer}.pre": (f"{block}.mlp.c_fc", "out"),
            f"blocks.{layer}.post": (f"{block}.mlp.act", "out"),
            f"blocks.{layer}.mlp_out": (f"{block}.mlp", "out"),
            f"blocks.{layer}.resid_post": (block, "out"),
        }
    return places


def llama_places(n_layers: int = 2) -> dict[str, Place]:
    places = {"embed": ("model.embed_tokens", "out"), "ln_final": ("model.norm", "out"), "logits": ("lm_head", "out")}
    for layer in range(n_layers):
        block = f"model.layers.{layer}"
        places |= {
            f"blocks.{layer}.z": (f"{block}.self_attn.o_proj", "heads in"),
            f"blocks.{layer}.attn_out": (f"{block}.self_attn", "out"),
            f"blocks.{layer}.pre": (f"{block}.mlp.gate_proj", "out"),
            f"blocks.{layer}.post": (f"{block}.mlp.down_proj", "in"),
            f"blocks.{layer}.mlp_out": (f"{block}.mlp", "out"),
            f"blocks.{layer}.resid_post": (block, "out"),
        }
    return places


def advance(
    part: nn.Module, layer: str, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The textbook equations of one time step; ``layer`` is the suffix of the weights' names."""
    w = {name: getattr(part, f"{name}{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    from_input, from_state = x @ w["weight_ih"].T + w["bias_ih"], h @ w["weight_hh"].T + w["bias_hh"]
    if isinstance(part, (nn.RNN, nn.RNNCell)):
        return torch.tanh(from_input + from_state), c
    if isinstance(part, (nn.GRU, nn.GRUCell)):
        (r, z, n), (r_h, z_h, n_h) = from_input.chunk(3, -1), from_state.chunk(3, -1)
        r, z = torch.sigmoid(r + r_h), torch.sigmoid(z + z_h)
        return (1 - z) * torch.tanh(n + r * n_h) + z * h, c
    i, f, g, o = (from_input + from_state).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def recurrent_states(
    part: Any, inputs: torch.Tensor, site: str = "", change: Change | None = None
) -> dict[str, torch.Tensor]:
    """Return hidden and cell states ``(batch, time, unit)`` of every layer, with ``change`` applied at one of them.

    Every edited step shows ``change`` a whole sequence, so that it may differ from step to step.
    """
    n_layers = getattr(part, "num_layers", 1)
    xs = list(inputs.unbind(1))
    states: dict[str, torch.Tensor] = {}
    for layer in range(n_layers):
        h = c = inputs.new_zeros(inputs.shape[0], part.hidden_size)
        names = [f"layers.{layer}.{kind}" if n_layers > 1 else kind for kind in ("hidden", "cell")]
        sequence: list[list[torch.Tensor]] = [[], []]
        for time, x in enumerate(xs):
            h, c = advance(part, f"_l{layer}" if isinstance(part, nn.RNNBase) else "", x, h, c)
            if change is not None and site in names:
                whole = torch.stack([h if site == names[0] else c] * len(xs), dim=1)
                new = change(whole)[:, time]
                h, c = (new, c) if site == names[0] else (h, new)
            for kept, now in zip(sequence, (h, c), strict=True):
                kept.append(now)
        xs = sequence[0]
        states |= {name: torch.stack(kept, dim=1) for name, kept in zip(names, sequence, strict=True)}
    return states


def recurrent_oracle(
    part: Any, inputs: torch.Tensor, output: Callable[[dict[str, torch.Tensor]], Any]
) -> Callable[..., Any]:
    def oracle(site: str, change: Change | None) -> tuple[torch.Tensor, Any]:
        with torch.no_grad():
            states = recurrent_states(part, inputs, site, change)
        return states[site], output(states)

    return oracle


def brian2_oracle(network: Any, inputs: torch.Tensor) -> Callable[..., Any]:
    """Return the rate units of `cases.brian2_rates` run by hand."""
    cells, wiring = network["cells"], network["wiring"]
    ends = (torch.tensor(wiring.i[:]).long(), torch.tensor(wiring.j[:]).long())
    n_samples, n_times, n_units = inputs.shape
    at_start = {
        "cells.gain": torch.tensor(cells.gain_[:]).expand(n_samples, n_units),
        "wiring.w": torch.tensor(wiring.w_[:]).expand(n_samples, len(wiring)),
    }

    def oracle(site: str, change: Change | None) -> tuple[torch.Tensor, Any]:
        def edited(name: str, value: torch.Tensor, time: int | None = None) -> torch.Tensor:
            if change is None or site != name:
                return value
            return change(value) if time is None else change(value[:, None].expand(-1, n_times, -1))[:, time]

        fixed = {name: edited(name, value) for name, value in at_start.items()}
        seen: dict[str, list[torch.Tensor]] = {name: [] for name in ("cells.r", "cells.drive", "cells.recurrent")}
        rates = torch.zeros(n_samples, n_units, dtype=torch.float64)
        for time in range(n_times):
            rates = edited("cells.r", rates, time)
            drive = edited("cells.drive", inputs[:, time], time)
            sent = fixed["wiring.w"] * (fixed["cells.gain"] * rates)[:, ends[0]]
            recurrent = edited("cells.recurrent", torch.zeros_like(rates).index_add(1, ends[1], sent), time)
            for name, value in zip(seen, (rates, drive, recurrent), strict=True):
                seen[name].append(value)
            rates = rates + 0.1 / 0.2 * (torch.tanh(drive + recurrent) - rates)
        values = fixed | {name: torch.stack(steps, dim=1) for name, steps in seen.items()}
        return values[site], {"cells.r": values["cells.r"]}

    return oracle
