"""What runs of workflows say of themselves: what each was made of, and how it calls what it shows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from neuros_mechint.report.results import argument_text
from neuros_mechint.report.saved import manifest_in

_SHORT_HASH = 12


class AboutRun(NamedTuple):
    """What a run of a workflow says of itself; nothing, where results come from elsewhere.

    Parameters
    ----------
    made_of : mapping of str to tuple of str
        By name of the input or argument: its name for a reader, and what tells it from others.
    captions : mapping of str to str
        By result: what to see in its figure.
    """

    made_of: Mapping[str, tuple[str, str]]
    captions: Mapping[str, str]


def about_run(run: Any) -> AboutRun:
    """Return what a run says of itself, from its manifest; nothing where it has none that can be read.

    Parameters
    ----------
    run : WorkflowOutcome, str, pathlib.Path or anything else

    Examples
    --------
    >>> about_run([])
    AboutRun(made_of={}, captions={})
    """
    if isinstance(run, (str, Path)):
        manifest = manifest_in(Path(run))
    else:
        manifest = _as_written(run.manifest) if hasattr(run, "manifest") else {}
    try:
        inputs = {name: (own_name(one["name"]), str(one["fingerprint"])) for name, one in manifest["inputs"].items()}
        others = {"workflow": manifest["workflow"], "seed": manifest["seed"]}
        others |= {f"argument {name}": value for name, value in manifest["arguments"].items()}
        told = {name: (argument_text(value), repr(value)) for name, value in others.items()}
        captions = {str(step): str(text) for step, text in manifest.get("page", {}).get("captions", {}).items()}
    except (KeyError, TypeError, AttributeError):
        return AboutRun({}, {})
    return AboutRun(inputs | told, captions)


def differing(runs: Mapping[str, AboutRun]) -> pd.DataFrame | None:
    """Return what the runs of workflows were made of where that differs, or None where it does not or is not known.

    Files are named without their folders; where two of one name hold different things, a hash tells them apart.

    Examples
    --------
    >>> runs = {run: AboutRun({"recording": (f"{run}.npy", run)}, {}) for run in ("v1", "v4")}
    >>> differing(runs).values.tolist()
    [['recording', 'v1.npy', 'v4.npy']]
    """
    known = {run: about.made_of for run, about in runs.items() if about.made_of}
    rows = [
        {
            "what differs": name,
            **{run: "not known" for run in runs},
            **_told_apart([of.get(name) for of in known.values()], known),
        }
        for name in dict.fromkeys(name for of in known.values() for name in of)
        if len({of[name][1] if name in of else None for of in known.values()}) > 1
    ]
    return pd.DataFrame(rows) if rows else None


def own_name(name: str) -> str:
    r"""Return a path without its folders.

    Examples
    --------
    >>> own_name("/home/me/mine.py:build"), own_name(r"C:\me\rec.npy"), own_name("induction")
    ('mine.py:build', 'rec.npy', 'induction')
    """
    return re.split(r"[/\\]", name)[-1] or name


def in_common(titles: Iterable[str]) -> str:
    """Return the words that titles share, with … for others; all titles where they share nothing.

    Examples
    --------
    >>> in_common(["Similarity by distance", "Similarity by distance of centred units"])
    'Similarity by distance …'
    >>> in_common(["Similarity of 5 layers", "Similarity of 7 layers"]), in_common(["One", "Two"])
    ('Similarity of … layers', 'One / Two')
    """
    titles = list(dict.fromkeys(titles))
    shared = titles[0].split()
    for title in titles[1:]:
        shared = _shared_words(shared, title.split())
    return " ".join(shared) if set(shared) - {"…"} else " / ".join(titles)


def _as_written(manifest: Any) -> dict[str, Any]:
    """Return what is asked of a manifest in the form that its file has."""
    inputs = {name: {"name": one.name, "fingerprint": one.fingerprint} for name, one in manifest.inputs.items()}
    about = {"workflow": manifest.workflow, "seed": manifest.seed, "arguments": manifest.arguments}
    return about | {"inputs": inputs, "page": {"captions": manifest.page.captions}}


def _shared_words(one: list[str], other: list[str]) -> list[str]:
    found: list[str] = []
    ends = (0, 0)
    for start, at, size in difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        if (start, at) != ends and found[-1:] != ["…"]:
            found.append("…")
        found += one[start : start + size]
        ends = (start + size, at + size)
    return found


def _told_apart(values: list[tuple[str, str] | None], runs: Iterable[str]) -> dict[str, str]:
    """Return what stands in the row of a table for each run; hashes where names do not tell them apart."""
    names = [name for name, _ in filter(None, values)]
    alike = len(set(names)) < len({identity for _, identity in filter(None, values)})
    told = ("–" if one is None else f"{one[0]}, hash {one[1][:_SHORT_HASH]}" if alike else one[0] for one in values)
    return dict(zip(runs, told, strict=True))
