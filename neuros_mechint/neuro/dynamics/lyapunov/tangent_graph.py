"""A function of tensors as one flat list of operations, without those that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

_OPS = torch.ops.aten
_ZEROS = {
    _OPS.zeros.default,
    _OPS.zeros_like.default,
    _OPS.new_zeros.default,
    _OPS._efficientzerotensor.default,
    _OPS._new_zeros_with_same_feature_meta.default,
}
# what gives zero where its argument is zero
_LINEAR = {
    _OPS.view.default,
    _OPS._unsafe_view.default,
    _OPS.expand.default,
    _OPS.permute.default,
    _OPS.transpose.int,
    _OPS.t.default,
    _OPS.select.int,
    _OPS.slice.Tensor,
    _OPS.unsqueeze.default,
    _OPS.squeeze.dim,
    _OPS.alias.default,
    _OPS._to_copy.default,
    _OPS.neg.default,
}
_PRODUCTS = {_OPS.mul.Tensor, _OPS.mm.default, _OPS.bmm.default}
# what gives its argument back where neither shape nor type changes
_PASSING = {
    _OPS.alias.default,
    _OPS.detach.default,
    _OPS._to_copy.default,
    _OPS.expand.default,
    _OPS.view.default,
    _OPS._unsafe_view.default,
}
# Element by element, and so also into the memory of the first argument.
_IN_PLACE = {
    _OPS.mul.Tensor: _OPS.mul_.Tensor,
    _OPS.add.Tensor: _OPS.add_.Tensor,
    _OPS.sub.Tensor: _OPS.sub_.Tensor,
    _OPS.div.Tensor: _OPS.div_.Tensor,
    _OPS.neg.default: _OPS.neg_.default,
    _OPS.tanh.default: _OPS.tanh_.default,
    _OPS.sigmoid.default: _OPS.sigmoid_.default,
}
_TANH_BACKWARD = _OPS.tanh_backward.default
_NEW_MEMORY = {*_IN_PLACE, _TANH_BACKWARD, _OPS.mm.default, _OPS.bmm.default, _OPS.addmm.default}


def flattened(function: Callable[..., Any], *examples: torch.Tensor) -> fx.GraphModule:
    """Return a function as the operations it runs for arguments of these shapes, each written once.

    What transforms of `torch.func` do at every call, they do here once: a step of a system of three variables becomes
    several times as fast. Operations that copy, repeat another one or add zeros are left out. The result holds for
    these shapes only, and calls nothing of what the function called: what is no tensor stays as it was.

    Parameters
    ----------
    function : callable
        Of tensors, without branches on their values.
    *examples : torch.Tensor
        Arguments.

    Returns
    -------
    torch.fx.GraphModule

    Raises
    ------
    Exception
        Whatever the function raises where it cannot be traced: errors of torch, of many classes.

    Examples
    --------
    >>> graph = flattened(lambda x: (x.sin() * 1 + x.sin()).clone().detach(), torch.zeros(3))
    >>> [node.target for node in graph.graph.nodes if node.op == "call_function"].count(torch.ops.aten.sin.default)
    1
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(torch.func.functionalize(function))(*examples)
    if not any(_changes_arguments(node) for node in traced.graph.nodes):
        _simplify(traced)
    return traced


def _changes_arguments(node: fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _simplify(traced: fx.GraphModule) -> None:
    """Leave out what passes its argument on, adds zeros or was computed before."""
    zero: set[fx.Node] = set()
    known: dict[str, fx.Node] = {}
    for node in list(traced.graph.nodes):
        if node.op not in ("call_function", "get_attr"):
            continue
        same = _passed_on(node, zero) or known.get(_written(node))
        if same is not None:
            node.replace_all_uses_with(same)
            traced.graph.erase_node(node)
            continue
        known[_written(node)] = node
        if _is_zero(node, zero):
            zero.add(node)
    traced.graph.eliminate_dead_code()
    _reuse_memory(traced)
    traced.recompile()


def _reuse_memory(traced: fx.GraphModule) -> None:
    """Write results over arguments that nothing else reads: large tangents then stay in the cache."""
    overwritten = []
    for node in traced.graph.nodes:
        if node.target not in _IN_PLACE and node.target is not _TANH_BACKWARD:
            continue
        first = node.args[0]
        if isinstance(first, fx.Node) and _alike(first, node) and _is_new_and_read_once(first):
            overwritten.append(node)
    for node in overwritten:
        if node.target is _TANH_BACKWARD:
            node.kwargs = {"grad_input": node.args[0]}
            node.target = _OPS.tanh_backward.grad_input
        else:
            node.target = _IN_PLACE[node.target]


def _is_new_and_read_once(node: fx.Node) -> bool:
    if len(node.users) != 1 or node.op != "call_function":
        return False
    if node.target is _OPS._unsafe_view.default:
        return _is_new_and_read_once(node.args[0])  # type: ignore[arg-type]
    return node.target in _NEW_MEMORY


def _written(node: fx.Node) -> str:
    """Return operation and arguments as text: nodes are named uniquely in their graph."""
    return repr((node.target, node.args, sorted(node.kwargs.items())))


def _is_zero(node: fx.Node, zero: set[fx.Node]) -> bool:
    if node.target in _ZEROS:
        return True
    arguments = [argument for argument in node.args if isinstance(argument, fx.Node)]
    if node.target in _LINEAR:
        return arguments[0] in zero
    return node.target in _PRODUCTS and not zero.isdisjoint(arguments)


def _passed_on(node: fx.Node, zero: set[fx.Node]) -> fx.Node | None:
    """Return the argument that equals the result, or None."""
    if node.target in _PASSING or (node.target is _OPS.permute.default and _keeps_order(node)):
        candidates = node.args[:1]
    elif node.target is _OPS.add.Tensor and not node.kwargs:
        candidates = [kept for kept, added in zip(node.args, node.args[::-1], strict=True) if added in zero]
    elif node.target is _OPS.sub.Tensor and not node.kwargs and node.args[1] in zero:
        candidates = node.args[:1]
    else:
        return None
    return next((kept for kept in candidates if isinstance(kept, fx.Node) and _alike(kept, node)), None)


def _keeps_order(node: fx.Node) -> bool:
    order = node.args[1]
    return list(order) == list(range(len(order)))  # type: ignore[arg-type]


def _alike(first: fx.Node, second: fx.Node) -> bool:
    """Return whether two nodes have the same shape, type and place."""
    a, b = first.meta.get("val"), second.meta.get("val")
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
