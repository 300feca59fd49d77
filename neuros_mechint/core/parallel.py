"""The one parallel map: joblib, so that a cluster is one `joblib.parallel_config(...)` away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import joblib

from neuros_mechint.core.errors import OptionError
from neuros_mechint.core.progress import progress_bar

Item = TypeVar("Item")
Value = TypeVar("Value")


def parallel_map(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    n_jobs: int | None = 1,
    progress: bool = False,
    description: str = "",
) -> list[Value]:
    """Return ``[function(item) for item in items]``, computed by several workers.

    Parameters
    ----------
    function : callable
        Called once per item.
    items : iterable
        What to work on.
    n_jobs : int or None
        Number of workers: 1 works here, -1 uses every core, None takes what ``joblib.parallel_config`` says.
        The backend (processes, threads, Dask) always comes from there; joblib's processes share the cores
        between them, so that their linear algebra does not compete.
    progress : bool
        Show a bar; joblib's old multiprocessing backend cannot report while it works.
    description : str
        Shown before the bar.

    Returns
    -------
    list
        In the order of ``items``.

    Raises
    ------
    Exception
        What ``function`` raised, with a note that says for which item.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2, -3])
    [1, 2, 3]
    >>> with joblib.parallel_config(backend="threading", n_jobs=2):
    ...     parallel_map(str.upper, "abc", n_jobs=None)
    ['A', 'B', 'C']
    """
    if n_jobs == 0:
        raise OptionError("no workers", expected="n_jobs of 1 or more, -1 for every core, or None", got=n_jobs)
    work = list(items)
    calls = (joblib.delayed(_call)(function, item, index, len(work)) for index, item in enumerate(work))
    results: Any = joblib.Parallel(n_jobs=n_jobs, return_as="generator" if progress else "list")(calls)
    if not progress:
        return results
    return list(progress_bar(results, total=len(work), description=description))


def _call(function: Callable[[Item], Value], item: Item, index: int, n_items: int) -> Value:
    try:
        return function(item)
    except Exception as error:
        error.add_note(f"while working on item {index} of {n_items} (counted from 0)")
        raise
