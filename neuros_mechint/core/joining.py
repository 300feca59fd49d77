"""Joining by label: where each label of one set stands in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import as_array


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


def label_list(values: Any, what: str) -> list[Any]:
    """Return labels as Python objects, each of which can be told from the others.

    Parameters
    ----------
    values : array_like
        Text, numbers, dates, or a mixture of them; dates are brought to one resolution, so that they join.
    what : str
        What is labelled, in errors.

    Raises
    ------
    InputError
        These are no labels along one axis, or one is missing: None, NaN or no time.

    Examples
    --------
    >>> label_list(["face", 1], "stimulus")
    ['face', 1]
    """
    given = values if isinstance(values, list | tuple) else as_array(values, what)
    if not _are_labels(given):
        raise InputError(
            f"{what}: these are no labels",
            expected="one label each, along one axis",
            got=" ".join(f"{values!r:.60}".split()),
            fix="make one text of a label that has several parts",
        )
    array = given if isinstance(given, np.ndarray) else label_array(given)
    dates = array.dtype.kind == "M"
    labels = list(array.astype("datetime64[ns]")) if dates else array.tolist()
    missing = [place for place, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise InputError(
            f"some labels of {what} are missing",
            expected="a label for each",
            got=f"none at {', '.join(map(str, missing[:5]))}" + (f", ... ({len(missing)})" if len(missing) > 5 else ""),
            fix="leave these out with .query or .isel, or label them",
        )
    return labels


def _are_labels(values: Any) -> bool:
    """Return whether each entry can be looked up: rows of a matrix, or lists, cannot."""
    try:
        hash(tuple(values))
    except TypeError:
        return False
    return True


def label_array(labels: Sequence[Any]) -> npt.NDArray[Any]:
    """Return labels as an array that keeps them apart: of mixed types as objects, where NumPy would make all text.

    Examples
    --------
    >>> label_array([1, "1"]).tolist()
    [1, '1']
    """
    kinds = {type(label) for label in labels}
    array = np.asarray(labels) if len(kinds) == 1 and tuple not in kinds else None
    if array is None or array.ndim != 1:
        numbers = all(isinstance(label, int | float | np.number) and not isinstance(label, bool) for label in labels)
        array = np.asarray(labels) if numbers else np.empty(len(labels), dtype=object)
        if not numbers:
            array[:] = labels
    return array


def codes_of(labels: Sequence[Any]) -> tuple[tuple[Any, ...], npt.NDArray[np.intp]]:
    """Return the different labels in order of appearance, and which of them each is.

    Examples
    --------
    >>> names, codes = codes_of(["b", 1, "b"])
    >>> names, codes.tolist()
    (('b', 1), [0, 1, 0])
    """
    place = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    return tuple(place), np.array([place[label] for label in labels], dtype=np.intp)


def by_text(named: Mapping[Any, Any] | Sequence[Any], what: str) -> dict[str, Any]:
    """Return a mapping with its names as text, or a sequence by number.

    Raises
    ------
    InputError
        Names that are the same as text, such as 1 and "1": one would take the other's place.

    Examples
    --------
    >>> by_text({1: "a", 2: "b"}, "regions")
    {'1': 'a', '2': 'b'}
    """
    if not isinstance(named, Mapping):
        return {str(number): value for number, value in enumerate(named)}
    found = {str(name): value for name, value in named.items()}
    if len(found) < len(named):
        raise InputError(
            f"names of {what} are the same as text", expected="different names", got=", ".join(map(repr, named))
        )
    return found
