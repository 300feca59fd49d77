"""The one place that draws progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress_bar(
    iterable: Iterable[Item], total: int | None = None, description: str = "", enabled: bool = True
) -> Iterable[Item]:
    """Yield the items of ``iterable`` and show a bar on stderr once the loop has lasted two seconds.

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
    if not enabled:
        return iterable
    # Plain text also in notebooks: tqdm.auto warns there unless ipywidgets is installed.
    from tqdm import tqdm

    return tqdm(iterable, total=total, desc=description or None, delay=2, leave=False, dynamic_ncols=True)
