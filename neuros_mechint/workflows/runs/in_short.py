"""The last step of a workflow, and the first of its report: what all others found, in words and on one scale."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import xarray as xr

from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result

IN_SHORT = "in_short"
"""Name of the step, which reports show first."""


def short_reason(reason: str) -> str:
    """Return why a step was left out without what was expected and how to mend it, which the report says below.

    Examples
    --------
    >>> short_reason("x is too short; expected: at least 64 times; to fix: transpose arrays (unit, time)")
    'x is too short'
    """
    return re.split(r"; (?:expected|got|to fix):", reason)[0]


class InShort(Result):
    """What was found, in words and on one scale: one variable over ``(measure,)``."""

    def _summary_lines(self) -> Iterator[str]:
        yield from self.attributes["sentences"]


def told_in_short(
    name: str,
    values: Mapping[str, float],
    about: Mapping[str, str],
    sentences: Sequence[str],
    fingerprint: str,
    citations: tuple[str, ...],
) -> InShort:
    """Return the values of some measures together with sentences.

    Parameters
    ----------
    name : str
        Of what is measured, such as ``score``.
    values : mapping of str to float
        By measure.
    about : mapping of str to str
        Attributes of the values, such as ``long_name``.
    sentences : sequence of str
    fingerprint : str
        Of the model.
    citations : tuple of str

    Examples
    --------
    >>> told_in_short("score", {"best": 0.5}, {"long_name": "score"}, ["It is half."], "none", ()).findings
    ('It is half.',)
    """
    return InShort(
        xr.Dataset({name: ("measure", list(values.values()), dict(about))}, {"measure": list(values)}),
        "In short",
        attributes={"sentences": list(sentences)},
        provenance=Provenance.record(model=fingerprint),
        citations=citations,
    )
