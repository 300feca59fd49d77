"""Joining by label: where each label of one set stands in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from neuros_mechint.core.errors import InputError


def label_places(first: Sequence[Any], second: Sequence[Any], names: tuple[str, str], axis: str) -> list[int]:
    """Return where each label of ``first`` stands in ``second``.

    Parameters
    ----------
    first, second : sequence
        The same labels, each once, in any order.
    names : (str, str)
        What to call the two in errors.
    axis : str
        What is labelled, in errors.

    Raises
    ------
    InputError
        Labels that are repeated, or only on one side.

    Examples
    --------
    >>> label_places("abc", "bca", ("X", "Y"), "stimulus")
    [2, 0, 1]
    """
    for name, labels in zip(names, (first, second), strict=True):
        repeated = [label for label, count in Counter(labels).items() if count > 1]
        if repeated:
            raise InputError(
                f"labels of {axis} are repeated in {name}, so that they cannot be told apart",
                expected="each label once",
                got=_shown(repeated),
                fix="average over repetitions first",
            )
    known = set(first), set(second)
    missing = [
        [label for label in first if label not in known[1]],
        [label for label in second if label not in known[0]],
    ]
    if any(missing):
        raise InputError(
            f"{names[0]} and {names[1]} do not hold the same labels of {axis}",
            expected="the same labels, in any order",
            got="; ".join(f"only in {name}: {_shown(few)}" for name, few in zip(names, missing, strict=True) if few),
            fix="select the shared labels on both sides",
        )
    place = {label: index for index, label in enumerate(second)}
    return [place[label] for label in first]


def _shown(labels: Sequence[Any]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f", ... ({len(labels)} in all)" if len(labels) > 5 else "")
