"""Infer the canonical sites of a module from one traced forward pass and a few gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.inference.block import block_sites
from neuros_mechint.adapters.inference.ends import Argument, final_norm, logits, token_embedding
from neuros_mechint.adapters.inference.identities import same_output
from neuros_mechint.adapters.inference.site_map import SiteMap
from neuros_mechint.adapters.inference.stacks import Stack, find_stacks
from neuros_mechint.adapters.inference.trace import Trace, record
from neuros_mechint.adapters.softmax import patternless_attention
from neuros_mechint.adapters.taps import Tap

JITTER = 0.1


def infer_sites(module: nn.Module, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> SiteMap:
    """Find the canonical sites of a module by what goes through it; a name exists only if its identity holds.

    No table of architectures is used. One forward pass is recorded, and each name is proven on it:
    ``resid_mid == resid_pre + attn_out`` in every entry, ``z == pattern @ v``, a gradient of the pattern of
    one head that reaches that head of ``q`` only, and so on. What cannot be proven is withheld with a reason.

    Parameters
    ----------
    module : torch.nn.Module
        The model, in eval mode. It is not changed.
    args, kwargs : tuple, mapping
        What it is called with: at least 2 samples of 4 positions. A few short ones are enough.

    Returns
    -------
    SiteMap
        Taps and withheld names.

    Notes
    -----
    Costs two or three forward passes and their activations' gradients, and holds one copy of the activations.

    Examples
    --------
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.up, self.act, self.down = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)
    ...     def forward(self, stream):
    ...         return stream + self.down(self.act(self.up(stream)))
    >>> sites = infer_sites(nn.Sequential(Block(), Block()), (torch.randn(2, 5, 4),))
    >>> print(sites.taps["blocks.1.post"].native, "|", sites.taps["blocks.1.mlp_out"].check)
    1.down:in | the next residual stream is the one before + mlp_out
    """
    with torch.inference_mode(False), torch.random.fork_rng(_cuda_devices(module)):
        call = _Call(module, tuple(map(_plain, args)), {key: _plain(value) for key, value in (kwargs or {}).items()})
        with torch.no_grad():
            own_output = call()
        trace = record(module, call)
        faithful = same_output(trace.output, own_output)
        if not faithful:
            with torch.no_grad():
                if not same_output(call(), own_output):
                    return SiteMap({}, {"*": "the model gives another output each time it runs on the same inputs"})
        no_pattern = _why_no_pattern(module, trace, faithful)
        jittered = _jittered_parameters(trace)
        if jittered:
            trace = record(module, lambda: call.with_parameters(jittered))
        return _prove(trace, call, no_pattern)


class _Call:
    """One way to call the model, with some arguments or parameters replaced."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.module, self.args, self.kwargs = module, args, kwargs

    def __call__(self) -> Any:
        return self.module(*self.args, **self.kwargs)

    def with_parameters(self, parameters: dict[str, torch.Tensor]) -> Any:
        return torch.func.functional_call(self.module, parameters, self.args, self.kwargs)

    def with_arguments(self, replaced: Mapping[Argument, torch.Tensor]) -> Any:
        args = [replaced.get(index, value) for index, value in enumerate(self.args)]
        with torch.no_grad():
            return self.module(*args, **{key: replaced.get(key, value) for key, value in self.kwargs.items()})

    @property
    def integers(self) -> dict[Argument, torch.Tensor]:
        named: list[tuple[Argument, Any]] = [*enumerate(self.args), *self.kwargs.items()]
        return {
            key: value
            for key, value in named
            if isinstance(value, torch.Tensor) and not value.is_floating_point() and value.dtype != torch.bool
        }


def _prove(trace: Trace, call: _Call, no_pattern: str | None) -> SiteMap:
    stacks = find_stacks(trace)
    if not stacks:
        why = "no container of blocks that map (batch, position, unit) to that shape: use native module paths"
        return SiteMap({}, dict.fromkeys(("blocks.*", "embed", "ln_final", "logits"), why))
    taps: dict[str, Tap] = {}
    withheld: dict[str, str] = {}
    for stack in stacks:
        unfit = stack.unfit
        if unfit is None:
            _prove_stack(trace, stack, call, taps, withheld)
        else:
            withheld |= {f"{stack.prefix}{name}": unfit for name in ("blocks.*", "embed", "ln_final")}
    if no_pattern is not None:
        for name in [name for name in taps if name.rpartition(".")[2] in ("pattern", "cross_pattern")]:
            del taps[name]
            withheld[name] = no_pattern
    output = logits(trace, stacks, taps)
    if output is None:
        withheld["logits"] = "the output has no field of that name and is no projection of the last residual stream"
    else:
        taps["logits"] = output
    return SiteMap(taps, withheld)


def _prove_stack(trace: Trace, stack: Stack, call: _Call, taps: dict[str, Tap], withheld: dict[str, str]) -> None:
    embedding = token_embedding(trace, stack, call.integers, call.with_arguments)
    if embedding is None:
        withheld[f"{stack.prefix}embed"] = "no embedding of an integer argument feeds the first block"
    else:
        taps[f"{stack.prefix}embed"] = embedding
    for block in stack.blocks:
        found, reasons = block_sites(block)
        taps |= found
        withheld |= reasons
    norm = final_norm(trace, stack)
    if norm is None:
        withheld[f"{stack.prefix}ln_final"] = "no norm reads all of the last resid_post (post-norm blocks, or none)"
    else:
        taps[f"{stack.prefix}ln_final"] = norm


def _why_no_pattern(module: nn.Module, trace: Trace, faithful: bool) -> str | None:
    """Return why patterns are not offered, if so: those that can be seen must be those the model uses."""
    kernel = patternless_attention(module)
    if kernel is not None:
        return f"{kernel!r} attention never holds the pattern: call model.set_attn_implementation('sdpa') first"
    if not faithful or not trace.fused_equals_open:
        return "attention computed in the open gives another output than the model's own"
    return None


def _jittered_parameters(trace: Trace) -> dict[str, torch.Tensor]:
    """Return noisy copies of the parameters that make a module's output all zero (as some start at zero).

    What adds nothing cannot be told from nothing. Structure is a property of the code, not of the weights, so
    it is looked for with these parameters in place of the caller's.
    """
    generator = torch.Generator().manual_seed(0)
    silent = {
        event.path
        for event in trace.events
        if event.side == "out" and event.value.ndim > 1 and event.value.numel() and not event.value.any()
    }
    return {
        f"{path}.{name}".lstrip("."): parameter.detach() + JITTER * _noise(parameter, generator)
        for path in sorted(silent)
        for name, parameter in trace.modules[path].named_parameters(recurse=False)
        if parameter.is_floating_point()
    }


def _noise(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def _plain(value: Any) -> Any:
    """Return a tensor autograd can work with: one made under inference mode must be copied first."""
    return value.clone() if isinstance(value, torch.Tensor) and value.is_inference() else value


def _cuda_devices(module: nn.Module) -> list[int]:
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    return sorted(device.index or 0 for device in devices)
