"""The one place that draws progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress_bar(
    iterable: Iterable[Item], total: int | None = None, description: str = "", enabled: bool = True
) -> Iterable[Item]:
    """Yield the items of ``iterable`` and show a bar, on a terminal or in a notebook, after two seconds.

    Parameters
    ----------
    iterable : iterable
        What to loop over.
    total : int, optional
        Number of items, where ``iterable`` has no length.
    description : str
        Shown before the bar.
    enabled : bool
        False returns ``iterable`` as it came.

    Returns
    -------
    iterable
        The same items in the same order.

    Examples
    --------
    >>> sum(progress_bar(range(4), description="adding"))
    6
    """
    seen = sys.stderr.isatty() or "ipykernel" in sys.modules  # a log file is no place for a bar
    if not (enabled and seen):
        return iterable
    # Plain text also in notebooks: tqdm.auto warns there unless ipywidgets is installed.
    from tqdm import tqdm

    return tqdm(iterable, total=total, desc=description or None, delay=2, leave=False, dynamic_ncols=True)
