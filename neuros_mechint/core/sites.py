"""Names of places in a model: what a user types, what it means, and the table of what a model offers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from neuros_mechint.core.errors import SiteError, SiteWithheldError, near_names
from neuros_mechint.core.site_names import canonical_name

if TYPE_CHECKING:
    import pandas as pd

Values = TypeVar("Values", bound=Any)
Index = int | slice | tuple[int, ...]
Window = Mapping[str, tuple[int, int]]
"""For each axis seen in pieces (samples in batches, time in steps): where this piece starts, and the full size."""

_INDEX_START = re.compile(r"\[(?=\s*\w+\s*=)")


def axis_meant(name: str, dims: Sequence[str]) -> str:
    """Return the axis that a user's name means: ``head`` is also the key-value heads of ``k`` and ``v``.

    Examples
    --------
    >>> axis_meant("head", ("sample", "position", "kv_head", "unit"))
    'kv_head'
    """
    return "kv_head" if name == "head" and "head" not in dims and "kv_head" in dims else name


@dataclass(frozen=True)
class SiteReference:
    """A site name with an optional index: what ``"blocks.1.z[head=2, position=-1]"`` means.

    Parameters
    ----------
    name : str
        Canonical name or native path.
    index : dict of str to int, slice or tuple of int
        Which entries along which named axes; an int drops the axis, as in numpy.

    Examples
    --------
    >>> SiteReference.parse("blocks.1.z[head=2, position=-1]")
    SiteReference(name='blocks.1.z', index={'head': 2, 'position': -1})
    >>> str(SiteReference.parse("h[time=3:7, unit=(0, 4)]"))
    'h[time=3:7, unit=(0, 4)]'
    """

    name: str
    index: Mapping[str, Index] = field(default_factory=dict[str, Index])

    @classmethod
    def parse(cls, text: str | SiteReference) -> SiteReference:
        """Read a reference from text; raise `SiteError` where the index is not ``axis=number, slice or list``."""
        if isinstance(text, SiteReference):
            return text
        if not isinstance(text, str):
            raise SiteError("a site is named by a string", expected="'blocks.0.resid_pre', say", got=repr(text))
        return _parsed(text.strip())

    def __str__(self) -> str:
        index = ", ".join(f"{axis}={_index_text(value)}" for axis, value in self.index.items())
        return f"{self.name}[{index}]" if index else self.name

    def __hash__(self) -> int:
        return hash(str(self))

    def locate(self, dims: Sequence[str], shape: Sequence[int], window: Window | None = None) -> Selection | None:
        """Return which part of a tensor this reference selects, or ``None`` where it selects nothing of this piece.

        Parameters
        ----------
        dims : sequence of str
            Names of the tensor's axes.
        shape : sequence of int
            Its shape: of this piece, where ``window`` says that it is one.
        window : mapping of str to (start, total), optional
            Axes seen in pieces, so that ``position=-1`` and a range mean the same whatever the batch size.

        Raises
        ------
        SiteError
            An axis that the site does not have, or an index out of range.
        """
        window = window or {}
        chosen: dict[str, list[int]] = {}
        dropped: list[str] = []
        for axis, index in self.index.items():
            actual = axis_meant(axis, dims)
            if actual not in dims:
                near = near_names(axis, dims)
                raise SiteError(
                    f"site {self.name!r} has no axis {axis!r}",
                    expected="one of " + ", ".join(dims),
                    fix=f"did you mean {near[0]!r}?" if near else None,
                )
            total = window[actual][1] if actual in window else shape[list(dims).index(actual)]
            chosen[actual] = _entries(index, total, actual, self)
            if isinstance(index, int):
                dropped.append(actual)
        return Selection.of(dims, shape, window, chosen, tuple(dropped))


def _parsed(text: str) -> SiteReference:
    start = _INDEX_START.search(text)  # `module:out[1]` names an item of a tuple output, not an index
    if start is None and "=" not in text:
        return SiteReference(canonical_name(text))
    if start is None:
        raise _unreadable(text, text)
    name, inside = text[: start.start()], text[start.end() :]
    if not inside.endswith("]"):
        raise SiteError(f"the index of {text!r} is not closed", fix=f"write {text + ']'!r}")
    parts = re.split(r",\s*(?=\w+\s*=)", inside[:-1])
    index = dict(_parse_index_part(part, text) for part in parts)
    if len(index) < len(parts):
        raise SiteError(f"the index of {text!r} names an axis twice", fix="give one range or list per axis")
    return SiteReference(canonical_name(name), index)


@dataclass(frozen=True)
class Selection:
    """Entries of a tensor picked by a `SiteReference`, and where they lie in the whole selected block.

    Parameters
    ----------
    here : tuple of slice or list of int
        One per axis of the tensor at hand.
    inside : dict of str to slice or list of int
        For each axis that survives: which entries of the whole selected block this piece holds.
    sizes : dict of str to int
        Sizes of the whole selected block, by axis.
    dropped : tuple of int
        Positions of the axes an int index removed.
    totals : dict of str to int
        Sizes of the whole activation, by axis.
    """

    here: tuple[slice | list[int], ...]
    inside: Mapping[str, slice | list[int]]
    sizes: Mapping[str, int]
    dropped: tuple[int, ...]
    totals: Mapping[str, int]

    @classmethod
    def of(
        cls,
        dims: Sequence[str],
        shape: Sequence[int],
        window: Window,
        chosen: Mapping[str, list[int]],
        dropped: tuple[str, ...],
    ) -> Selection | None:
        """Build the selection; ``None`` when it has no entry in this piece."""
        here: list[slice | list[int]] = []
        inside: dict[str, slice | list[int]] = {}
        sizes: dict[str, int] = {}
        totals = {axis: window.get(axis, (0, size))[1] for axis, size in zip(dims, shape, strict=True)}
        for axis, size in zip(dims, shape, strict=True):
            start = window.get(axis, (0, size))[0]
            if axis in chosen:
                entries = [(rank, entry - start) for rank, entry in enumerate(chosen[axis])]
                entries = [(rank, entry) for rank, entry in entries if 0 <= entry < size]
                if not entries:
                    return None
                here.append(_as_slice([entry for _, entry in entries]))
                block, block_size = _as_slice([rank for rank, _ in entries]), len(chosen[axis])
            else:
                here.append(slice(None))
                block, block_size = slice(start, start + size), totals[axis]
            if axis not in dropped:
                inside[axis], sizes[axis] = block, block_size
        if sum(isinstance(entry, list) for entry in here) > 1:
            raise SiteError(
                "more than one irregular list in an index",
                expected="a list along one axis; ints and slices along the others",
                fix="use one edit per combination",
            )
        return cls(tuple(here), inside, sizes, tuple(dims.index(axis) for axis in dropped), totals)

    def pick(self, values: Values) -> Values:
        """Return the selected block of a tensor, without the axes an int index removed.

        Examples
        --------
        >>> import numpy as np
        >>> selection = SiteReference.parse("h[unit=1]").locate(("sample", "unit"), (2, 3))
        >>> selection.pick(np.arange(6).reshape(2, 3))
        array([1, 4])
        """
        block = values if self.whole else values[self.here]
        return block.squeeze(self.dropped) if self.dropped else block

    @property
    def whole(self) -> bool:
        """Whether the selection is the whole tensor."""
        return all(entry == slice(None) for entry in self.here)


@dataclass(frozen=True)
class Site:
    """One named place in a model.

    Parameters
    ----------
    name : str
        Name under which it is captured and edited.
    native : str
        The place in the model's own words, e.g. ``transformer.h.0.attn.c_proj:in``.
    dims : tuple of str
        Names of the axes of its tensor.
    shape : tuple of int or None
        Sizes of these axes; ``None`` where they depend on the input.
    heads : int or None
        Number of heads along its head axis.
    layer : int or None
        Which block it belongs to.
    order : int
        Rank in order of execution.
    check : str
        The identity that proved the name; empty for a plain module path.
    units : str
        Of its values, where the model has units: ``"mV"``.
    """

    name: str
    native: str
    dims: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()
    heads: int | None = None
    layer: int | None = None
    order: int = 0
    check: str = ""
    units: str = ""


class SiteTable(Mapping[str, Site]):
    """The sites of a model, in order of execution, and those withheld with the reason.

    Parameters
    ----------
    sites : iterable of Site
        What the model offers.
    withheld : mapping of str to str
        Names a reader might expect, and why they are not offered.
    title : str
        What the table is about, for its heading.
    note : str
        A line below the table.

    Examples
    --------
    >>> table = SiteTable([Site("embed", "wte:out"), Site("blocks.0.z", "h.0.c_proj:in")])
    >>> list(table.select("blocks.*"))
    ['blocks.0.z']
    """

    def __init__(
        self,
        sites: Iterable[Site],
        withheld: Mapping[str, str] | None = None,
        title: str = "sites",
        note: str = "",
    ) -> None:
        self._sites = {site.name: site for site in sites}
        self.withheld: dict[str, str] = dict(withheld or {})
        self.title = title
        self.note = note

    def __getitem__(self, name: str) -> Site:
        site = self._sites.get(canonical_name(name))
        if site is None:
            raise self.unknown(name)
        return site

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def select(self, pattern: str) -> SiteTable:
        """Return the sites whose names match ``pattern`` (``*`` matches anything); raise when none does."""
        pattern = canonical_name(pattern)
        chosen = [site for site in self._sites.values() if fnmatchcase(site.name, pattern)]
        withheld = {name: why for name, why in self.withheld.items() if fnmatchcase(name, pattern)}
        if not chosen and not withheld:
            raise self.unknown(pattern)
        return SiteTable(chosen, withheld, self.title, self.note)

    def unknown(self, name: str) -> SiteError:
        """Return the error for a name not in the table: withheld with its reason, or unknown with near names."""
        for withheld, reason in self.withheld.items():
            if fnmatchcase(withheld, name) or fnmatchcase(name, withheld):
                return SiteWithheldError(
                    f"site {name!r} is withheld on this model: {reason}",
                    fix="pick another site; `model.sites()` lists those that are proven, `.withheld` the reasons",
                )
        near = near_names(name, self._sites)
        return SiteError(
            f"no site {name!r} in this model",
            expected="a name from `model.sites()` or a module path such as 'layer.0:in' or 'layer.0:out'",
            fix="did you mean " + " or ".join(repr(one) for one in near) + "?" if near else None,
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame, one row per site."""
        import pandas as pd

        columns = ["name", "native", "dims", "shape", "heads", "layer", "order", "check", "units"]
        return pd.DataFrame(
            [[getattr(site, column) for column in columns] for site in self._sites.values()], columns=columns
        )

    def __repr__(self) -> str:
        rows = [self._columns, *self._rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self._columns))]
        lines = [f"{self.title}: {len(self)}"]
        lines += [
            "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines += [f"  withheld {name}: {reason}" for name, reason in self.withheld.items()]
        return "\n".join([*lines, f"  {self.note}"] if self.note else lines)

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._rows
        )
        withheld = "".join(
            f"<li><code>{html.escape(name)}</code>: {html.escape(why)}</li>" for name, why in self.withheld.items()
        )
        head = "<tr>" + "".join(f"<th>{name}</th>" for name in self._columns) + "</tr>"
        missing = f"<p>withheld</p><ul>{withheld}</ul>" if withheld else ""
        table = f"<table>{head}{cells}</table>{missing}<p>{html.escape(self.note)}</p>"
        return f"<p><b>{html.escape(self.title)}: {len(self)}</b></p>{table}"

    @property
    def _columns(self) -> tuple[str, ...]:
        units = ("units",) if any(site.units for site in self._sites.values()) else ()
        return ("name", "axes", *units, "native path", "proof")

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        units = "units" in self._columns
        return [
            (site.name, _axes_text(site), *((site.units,) if units else ()), site.native, site.check)
            for site in self._sites.values()
        ]


def _parse_index_part(part: str, text: str) -> tuple[str, Index]:
    axis, _, value = (piece.strip() for piece in part.partition("="))
    try:
        if ":" in value:
            bounds = [int(bound) if bound.strip() else None for bound in value.split(":")]
            if len(bounds) <= 3 and bounds[2:] != [0]:
                return axis, slice(*bounds)
        elif value[:1] + value[-1:] in ("[]", "()"):
            return axis, tuple(int(entry) for entry in value[1:-1].removesuffix(",").split(","))
        else:
            return axis, int(value)
    except ValueError:
        pass
    raise _unreadable(text, part)


def _unreadable(text: str, part: str) -> SiteError:
    return SiteError(
        f"cannot read the index of {text!r}",
        expected="axis=3, axis=-1, axis=2:5 or axis=[0, 2], separated by commas",
        got=part,
    )


def _entries(index: Index, total: int, axis: str, reference: SiteReference) -> list[int]:
    """Return an index as a list of non-negative entries along an axis of ``total``."""
    if isinstance(index, slice):
        entries = list(range(*index.indices(total)))
        if not entries:
            raise SiteError(f"{reference} selects nothing", expected=f"a range within {axis} 0 ... {total - 1}")
        return entries
    entries = [index] if isinstance(index, int) else list(index)
    for entry in entries:
        if not -total <= entry < total:
            raise SiteError(
                f"{reference} is out of range",
                expected=f"{axis} between {-total} and {total - 1}",
                got=f"{axis}={entry}",
            )
    return [entry % total for entry in entries]


def _as_slice(entries: list[int]) -> slice | list[int]:
    """Return regular ascending entries as a slice, so that indexing them makes a view."""
    step = entries[1] - entries[0] if len(entries) > 1 else 1
    regular = step > 0 and entries == list(range(entries[0], entries[-1] + 1, step))
    return slice(entries[0], entries[-1] + 1, step) if regular else entries


def _index_text(value: Index) -> str:
    if isinstance(value, slice):
        bounds = ["" if bound is None else str(bound) for bound in (value.start, value.stop)]
        return ":".join(bounds + ([str(value.step)] if value.step not in (None, 1) else []))
    return str(value)


def _axes_text(site: Site) -> str:
    shape: Sequence[int | None] = site.shape or (None,) * len(site.dims)
    return " x ".join(axis if size is None else f"{axis}={size}" for axis, size in zip(site.dims, shape, strict=True))
