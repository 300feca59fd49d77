"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def parse_json(text: str | bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Return what a JSON text holds.

    Parameters
    ----------
    text : str or bytes
    parse_constant : callable, optional
        Called with ``NaN``, ``Infinity`` and ``-Infinity``, as of `json.loads`.

    Raises
    ------
    ValueError
        No JSON, or nested so deeply that Python's parser gives up.

    Examples
    --------
    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ...
    ValueError: nested too deeply
    """
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
