"""Soft imports: an optional library is asked for when it is needed, and its absence says what to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from neuros_mechint.core.errors import MissingDependencyError


def soft_import(module: str, purpose: str, extra: str | None = None) -> ModuleType:
    """Import ``module``, or say for what it is needed and how to install it.

    Parameters
    ----------
    module : str
        Name to import, such as ``"plotly.graph_objects"``.
    purpose : str
        What the library is needed for, as the end of "For ...": ``"interactive figures"``.
    extra : str, optional
        The extra of neuros-mechint that installs the library; without it the library's own name is suggested.

    Returns
    -------
    types.ModuleType

    Raises
    ------
    MissingDependencyError
        If the library is not installed. A library that is installed but fails on an import of its own raises
        that error unchanged, because installing it again would not help.

    Examples
    --------
    >>> soft_import("json", "reading settings").dumps([1])
    '[1]'
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        target = f"'neuros-mechint[{extra}]'" if extra else library
        raise MissingDependencyError(
            f"For {purpose} the library {library} is needed: pip install {target}",
            expected=f"module {module}",
            got="it is not installed in this environment",
        ) from error
