"""Prove where an MLP's hidden units lie: what enters its activation, and what its last projection reads."""

from __future__ import annotations

import torch

from neuros_mechint.adapters.inference.gradients import gradient, reached
from neuros_mechint.adapters.inference.identities import close
from neuros_mechint.adapters.inference.residual import Branch
from neuros_mechint.adapters.inference.stacks import Block
from neuros_mechint.adapters.inference.trace import Event
from neuros_mechint.adapters.taps import Tap


def mlp_sites(block: Block, branch: Branch) -> tuple[dict[str, Tap], str]:
    """Return the taps of ``pre`` and ``post``, or none and the reason.

    Parameters
    ----------
    block : Block
        The block.
    branch : Branch
        Its MLP.
    """
    inside = [event for event in block.events if branch.started < event.time <= branch.event.time]
    down = _last_projection(block, branch.event, inside)
    if down is None:
        return {}, "no projection that can be hooked makes mlp_out (fused experts?)"
    if not _makes_output(block, down, branch.event, inside):
        return {}, "mlp_out is not one projection of hidden units (several experts?)"
    before = [event for event in inside if event.time < down.time]
    pre, check = _activation_input(block, down, before)
    if pre is None:
        pre, check = _elementwise_source(block, down, before)
    if pre is None:
        return {}, "no activation whose output, times a gate or not, is what the last projection reads"
    return {"pre": pre.tap(check), "post": down.tap(f"{check}; mlp_out is a projection of post")}, ""


def _last_projection(block: Block, output: Event, inside: list[Event]) -> Event | None:
    """Return the input of the last projection on which the MLP's output depends."""
    entering = [
        event
        for event in inside
        if event.side == "in" and event.path in block.trace.projections and event.value.ndim == 3
    ]
    # one at a time from the end: the last one nearly always is it, and gradients further back cost more
    return next((event for event in reversed(entering) if gradient(output, [event])[0] is not None), None)


def _makes_output(block: Block, down: Event, output: Event, inside: list[Event]) -> bool:
    """Return whether the MLP's output is this projection's, as it is or behind a norm."""
    projected = block.other_side(down)
    if projected is None:
        return False
    if close(output.value, projected.value):
        return True
    entering = [e for e in inside if e.side == "in" and e.time > projected.time and close(e.value, projected.value)]
    leaving = [block.other_side(e) for e in entering if block.trace.is_leaf(e.path)]
    return any(e is not None and close(output.value, e.value) for e in leaving)


def _activation_input(block: Block, down: Event, before: list[Event]) -> tuple[Event | None, str]:
    """Return the input of the activation module whose output is ``post``, alone or times a gate."""
    post, trace = down.value, block.trace
    gates = [
        part
        for event in before
        if event.side == "out" and event.path in trace.projections
        for part in _parts(event.value, post.shape)
    ]
    for entering in before:
        module = trace.modules[entering.path]
        if entering.side != "in" or not trace.is_leaf(entering.path) or any(True for _ in module.parameters()):
            continue
        active = block.other_side(entering)
        # dropout outside training gives back what it takes: no activation function
        if active is None or active.shape != post.shape or torch.equal(active.value, entering.value):
            continue
        if close(post, active.value):
            return entering, "post == act(pre)"
        if any(close(active.value * gate, post) for gate in gates):
            return entering, "post == act(pre) * gate"
    return None, ""


def _parts(projected: torch.Tensor, shape: torch.Size) -> list[torch.Tensor]:
    """Return what can be a gate: all of a projection, or a half where two are projected together."""
    if projected.shape == shape:
        return [projected]
    if projected.shape[:-1] == shape[:-1] and projected.shape[-1] == 2 * shape[-1]:
        return list(projected.chunk(2, -1))
    return []


def _elementwise_source(block: Block, down: Event, before: list[Event]) -> tuple[Event | None, str]:
    """Return the one projection whose units each act on their own unit of ``post`` only."""
    position = down.shape[1] - 2
    unit = int(down.value[:, position].abs().sum(0).argmax())
    weights = down.value.new_zeros(down.shape)
    weights[:, position, unit] = 1.0
    candidates = [
        event
        for event in before
        if event.side == "out" and event.path in block.trace.projections and event.shape == down.shape
    ]
    slopes = gradient(down, candidates, weights)
    passed = [
        event
        for event, slope in zip(candidates, slopes, strict=True)
        if slope is not None and reached(slope, 1, 2) == [(position, unit)]
    ]
    return (passed[0], "post[u] depends only on pre[u]") if len(passed) == 1 else (None, "")
