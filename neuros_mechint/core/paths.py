"""Where to write: a path as a user gives it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from neuros_mechint.core.errors import StorageError


def path_to_write(given: str | Path) -> Path:
    """Return a path, with the home folder in the place of ``~``.

    Parameters
    ----------
    given : str or pathlib.Path
        What is there, or is not there yet.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    StorageError
        A name that no file can have here, or a place that cannot be looked at.

    Examples
    --------
    >>> path_to_write("~/results") == Path.home() / "results"
    True
    """
    try:
        path = Path(given).expanduser()
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
    except (OSError, ValueError, RuntimeError) as error:  # of a zero in the name; of a home that nobody has
        text = repr(str(given))
        name = text if len(text) <= 80 else f"{text[:60]}...{text[-15:]}"
        raise StorageError(f"cannot write {name}", got=error, fix="choose another name") from error
    return path
