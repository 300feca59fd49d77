"""Conditions on labels written as text: comparisons joined by and, or, not; parsed, never run as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.errors import InputError, near_names

Labels = Mapping[str, npt.NDArray[Any]]

_EXAMPLE = "such as \"region == 'V1' and depth > 0.5\""
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: np.isin(one, np.atleast_1d(other)),
    ast.NotIn: lambda one, other: ~np.isin(one, np.atleast_1d(other)),
}


def fulfils(condition: str, labels: Labels) -> npt.NDArray[np.bool_]:
    """Return where a condition holds.

    Parameters
    ----------
    condition : str
        Comparisons (``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``) of labels with each other or with
        numbers, text and lists of these, joined by ``and``, ``or``, ``not`` and brackets; labels that are true or
        false stand for themselves.
    labels : mapping of str to numpy.ndarray
        ``{name: (n,)}``, all of one length.

    Returns
    -------
    numpy.ndarray of shape (n,)

    Raises
    ------
    InputError
        A condition that cannot be read, unknown names, or text compared with numbers.

    Examples
    --------
    >>> labels = {"depth": np.array([0.1, 0.5, 0.9]), "noisy": np.array([False, False, True])}
    >>> fulfils("0.2 < depth <= 0.9 and not noisy", labels)
    array([False,  True, False])
    """
    found = _evaluate(parse(condition), condition, labels)
    if not isinstance(found, np.ndarray) or found.dtype != bool:
        raise _unreadable(condition, "is not a condition")
    return found


def parse(condition: str) -> ast.expr:
    """Return a condition as a syntax tree.

    Raises
    ------
    InputError
        Text that is no expression.

    Examples
    --------
    >>> type(parse("depth > 1 and depth < 2")).__name__
    'BoolOp'
    """
    try:
        return ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, AttributeError) as error:
        raise _unreadable(str(condition), f"cannot be read: {error}") from error


def _evaluate(node: ast.expr, condition: str, labels: Labels) -> Any:
    """Return the value of one part: labels, a constant, a list of constants, or where something holds."""
    match node:
        case ast.Name(id=name):
            return _labels_called(name, condition, labels)
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return _constants([_evaluate(part, condition, labels) for part in parts], condition)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return ~_holds(part, condition, labels)
        case ast.BoolOp(op=joined, values=parts):
            join = np.logical_and if isinstance(joined, ast.And) else np.logical_or
            return join.reduce([_holds(part, condition, labels) for part in parts])
        case ast.Compare():
            return _compare(node, condition, labels)
        case _:
            raise _unreadable(condition, f"holds {ast.unparse(node)!r}, which is none of these")


def _compare(node: ast.Compare, condition: str, labels: Labels) -> npt.NDArray[np.bool_]:
    values = [_evaluate(part, condition, labels) for part in (node.left, *node.comparators)]
    if not any(isinstance(value, np.ndarray) for value in values):
        raise _unreadable(condition, f"holds {ast.unparse(node)!r}, which compares no labels")
    held: Any = np.True_
    for one, comparison, other in zip(values, node.ops, values[1:], strict=False):
        if type(comparison) not in _COMPARISONS or isinstance(one, list):
            raise _unreadable(condition, f"holds {ast.unparse(node)!r}, which is none of these")
        if isinstance(other, list) != isinstance(comparison, ast.In | ast.NotIn):
            raise _unreadable(condition, f"holds {ast.unparse(node)!r}: lists go with 'in', and 'in' with lists")
        if _is_text(one) != _is_text(other):
            raise _unreadable(condition, f"compares text with numbers in {ast.unparse(node)!r}")
        held = held & _COMPARISONS[type(comparison)](one, other)
    return np.asarray(held)


def _holds(node: ast.expr, condition: str, labels: Labels) -> npt.NDArray[np.bool_]:
    value = _evaluate(node, condition, labels)
    if not isinstance(value, np.ndarray) or value.dtype != bool:
        raise _unreadable(condition, f"holds {ast.unparse(node)!r}, which is not a condition")
    return value


def _labels_called(name: str, condition: str, labels: Labels) -> npt.NDArray[Any]:
    if name in labels:
        return labels[name]
    near = near_names(name, labels)
    raise InputError(
        f"no labels are called {name!r}",
        expected="one of " + ", ".join(labels),
        got=condition,
        fix=f"did you mean {near[0]!r}?" if near else "put text in quotes: region == 'V1'",
    )


def _constants(values: list[Any], condition: str) -> list[Any]:
    if any(isinstance(value, np.ndarray | list) for value in values) or len({_is_text(value) for value in values}) > 1:
        raise _unreadable(condition, "holds a list of other things than numbers, or than text")
    return values


def _is_text(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(entry, str) for entry in value)
    return value.dtype.kind in "UTO" if isinstance(value, np.ndarray) else isinstance(value, str)


def _unreadable(condition: str, problem: str) -> InputError:
    return InputError(
        f"the query {problem}",
        expected=f"comparisons of labels joined by and, or, not, {_EXAMPLE}",
        got=repr(condition),
    )
