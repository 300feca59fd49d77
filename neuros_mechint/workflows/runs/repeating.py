"""The command that repeats a run, with what the manifest alone cannot give again."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from neuros_mechint.workflows.runs.manifest import Manifest
from neuros_mechint.workflows.runs.sources import CODE, OBJECT

PLACEHOLDER = "FILE.py:FUNCTION"
"""What stands in a command for a function that returns again what was passed as an object."""


class Repetition(NamedTuple):
    """How a run is repeated.

    Parameters
    ----------
    command : str
        For the terminal, in the folder that was the working one when this was asked.
    to_fill_in : str
        What stands for the placeholders in the command; empty where there are none.
    """

    command: str
    to_fill_in: str


def how_to_repeat(manifest: Manifest, place: str | Path) -> Repetition:
    """Return the command that repeats a run and compares.

    A manifest runs no code: what was built by ``file.py:function`` is named in the command, and what was passed as an
    object has a placeholder.

    Parameters
    ----------
    manifest : Manifest
    place : str or pathlib.Path
        The folder of the run, or its manifest.

    Examples
    --------
    >>> from neuros_mechint.workflows.runs.sources import Source
    >>> inputs = {"model": Source(CODE, "/models/mine.py:build", ""), "inputs": Source(OBJECT, "list", "")}
    >>> told = how_to_repeat(Manifest.begin("dynamics", {}, inputs, 0), "analyzed")
    >>> told.command
    'neuros-mechint reproduce analyzed --input model=/models/mine.py:build --input inputs=FILE.py:FUNCTION'
    >>> told.to_fill_in.partition(". ")[0]
    '`FILE.py:FUNCTION` is a function of yours that returns the same inputs again'
    """
    words = ["neuros-mechint", "reproduce", str(place)]
    for name, source in manifest.inputs.items():
        if source.kind in (CODE, OBJECT):
            words += ["--input", f"{name}={_from_here(source.name) if source.kind == CODE else PLACEHOLDER}"]
    command = shlex.join(words) if os.name == "posix" else subprocess.list2cmdline(words)
    objects = [name for name, source in manifest.inputs.items() if source.kind == OBJECT]
    return Repetition(command, _to_fill_in(objects, place) if objects else "")


def _to_fill_in(objects: list[str], place: str | Path) -> str:
    returned = [name for name in objects if name != "draw"]
    told = [f"returns the same {' or '.join(returned)} again"] if returned else []
    told += [f"is the task itself{' for draw' if returned else ''}"] if "draw" in objects else []
    each = ", one for each --input" if len(objects) > 1 else ""
    in_python = f"nm.reproduce({str(place)!r}, {', '.join(f'{name}=...' for name in objects)})"
    return (
        f"`{PLACEHOLDER}` is a function of yours that {', or '.join(told)}{each}. "
        f"Where you have the objects at hand, in Python: `{in_python}`."
    )


def _from_here(name: str) -> str:
    """Return a path as it is from the working folder, where it lies in it."""
    try:
        return str(Path(name).relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere; or the working folder is gone
        return name
