"""What activations in memory and on disk have in common: named sites, named axes, matrices, xarray."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, SiteError, near_names
from neuros_mechint.core.sites import SiteReference

if TYPE_CHECKING:
    import numpy.typing as npt

    from neuros_mechint.core.provenance import Provenance

FEATURE_DIMS = ("unit", "feature", "head", "kv_head", "channel", "depth", "height", "width", "key")
"""Axes whose entries are features; all others (sample, trial, position, time, ...) are observations."""

HALF_PRECISION = (torch.bfloat16, torch.float16)
"""Types that become float32 in xarray: NumPy has no bfloat16, and sums in float16 overflow at 65,504."""


_ROW_RANK = {"sample": 0, "position": 2, "query": 3, "time": 4}
"""Samples vary slowest in a matrix whatever the layout of the tensor; trials and stimuli come next."""


def counts_observations(axis: str) -> bool:
    """Return whether the entries along an axis are observations rather than features.

    Examples
    --------
    >>> counts_observations("stimulus"), counts_observations("unit")
    (True, False)
    """
    return axis not in FEATURE_DIMS and not axis.startswith("axis_")


def axes_of_observations(dims: Sequence[str]) -> list[str]:
    """Return which axes count observations: where a dictionary's features are told apart, all others do.

    Examples
    --------
    >>> axes_of_observations(("sample", "channel", "height", "width"))
    ['sample']
    >>> axes_of_observations(("sample", "feature", "height", "width"))
    ['sample', 'height', 'width']
    """
    if "feature" in dims:
        return [axis for axis in dims if axis != "feature"]
    return [axis for axis in dims if counts_observations(axis)]


def as_matrix(tensor: torch.Tensor, dims: Sequence[str]) -> torch.Tensor:
    """Return a labelled tensor as ``(n_observations, n_features)``.

    Parameters
    ----------
    tensor : torch.Tensor
        Any number of axes.
    dims : sequence of str
        Names of its axes. Columns run over those in `FEATURE_DIMS`, or over ``feature`` alone where there is one, rows
        over the others, samples slowest, then trials or stimuli, then positions, then time.

    Returns
    -------
    torch.Tensor
        ``(n_observations, n_features)``; a view where the layout allows it.

    Examples
    --------
    >>> as_matrix(torch.zeros(2, 12, 5, 7), ("sample", "head", "query", "key")).shape
    torch.Size([10, 84])
    """
    observed_axes = axes_of_observations(dims)
    rows = [axis for axis, name in enumerate(dims) if name in observed_axes]
    rows.sort(key=lambda axis: _ROW_RANK.get(dims[axis], 1))
    columns = [axis for axis in range(tensor.ndim) if axis not in rows]
    n_rows = math.prod(tensor.shape[axis] for axis in rows)
    n_columns = math.prod(tensor.shape[axis] for axis in columns)
    return tensor.permute(*rows, *columns).reshape(n_rows, n_columns)


def as_numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return a tensor as a NumPy array on the CPU, half precision as float32.

    Examples
    --------
    >>> as_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype
    dtype('float32')
    """
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype in HALF_PRECISION else tensor).numpy()


def describe_activation(name: str, dtype: torch.dtype, provenance: Provenance | None) -> dict[str, str]:
    """Return the attributes of the labelled array of a site: what it is, whether it was widened, its provenance.

    There are no units: a site may hold volts, probabilities or nothing that has a unit.

    Examples
    --------
    >>> describe_activation("embed", torch.bfloat16, None)
    {'long_name': 'activation at embed', 'note': 'converted from bfloat16 to float32'}
    """
    attributes = {"long_name": f"activation at {name}"}
    if dtype in HALF_PRECISION:
        attributes["note"] = f"converted from {dtype_name(dtype)} to float32"
    if provenance is not None:
        attributes["provenance"] = provenance.to_json()
    return attributes


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module.

    Examples
    --------
    >>> dtype_name(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")


class LabelledTensors(Mapping[str, torch.Tensor], ABC):
    """Base of `Activations` and `ActivationStore`: tensors by site name, in order, with named axes.

    TransformerLens's names and differently spaced indices find the same sites.

    Parameters
    ----------
    dims : mapping of str to tuple of str
        Names of the axes at each site.
    provenance : Provenance, optional
        Where the activations come from.
    """

    def __init__(self, dims: Mapping[str, tuple[str, ...]], provenance: Provenance | None = None) -> None:
        self._dims = {name: tuple(axes) for name, axes in dims.items()}
        self.provenance = provenance

    @abstractmethod
    def xarray(self, name: str) -> xr.DataArray:
        """Return one site as a labelled array."""

    @abstractmethod
    def _load(self, name: str) -> torch.Tensor:
        """Return the tensor of a site that exists."""

    @abstractmethod
    def _layout(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        """Return shape and dtype of a site that exists, without loading it."""

    def _title(self) -> str:
        return type(self).__name__

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._load(self.resolve(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._dims)

    def __len__(self) -> int:
        return len(self._dims)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the tensor of a site, or ``default`` where there is no such site."""
        # Mapping.get waits for a KeyError, which a SiteError is not.
        found = self._find(name)
        return default if found is None else self._load(found)

    def resolve(self, name: str) -> str:
        """Return the name under which a site is held here.

        Parameters
        ----------
        name : str
            Its name, its name in TransformerLens, or either with an index.

        Raises
        ------
        SiteError
            If there is no such site; near names are suggested.
        """
        found = self._find(name)
        if found is not None:
            return found
        near = near_names(name, self._dims)
        raise SiteError(
            f"no site {name!r} in these activations",
            expected="one of " + ", ".join(self._dims) if 0 < len(self) <= 8 else f"one of {len(self)} sites",
            fix=f"did you mean {' or '.join(map(repr, near))}?" if near else "capture it too, or see list(activations)",
        )

    def _find(self, name: str) -> str | None:
        if name in self._dims:
            return name
        try:
            reference = str(SiteReference.parse(name))
        except SiteError:
            return None
        return reference if reference in self._dims else None

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the names of the axes of a site, e.g. ``("sample", "position", "unit")``."""
        return self._dims[self.resolve(name)]

    def matrix(self, name: str) -> torch.Tensor:
        """Return a site as ``(n_observations, n_features)``; see `as_matrix` for which axes are which.

        Padded positions are no observations: where the inputs had an attention mask, their rows are left out.
        """
        name = self.resolve(name)
        return observed(name, self._load(name), self._dims[name], self.attention_mask)

    @property
    def attention_mask(self) -> torch.Tensor | None:
        """``(n_samples, n_positions)``, false where the sequences are padded; ``None`` where they are not."""
        return self._mask(slice(None))

    def _mask(self, samples: slice) -> torch.Tensor | None:
        """Return the attention mask of some samples."""
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        layouts = (self._layout(name) for name in self)
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in layouts)

    def matching(self, pattern: str) -> list[str]:
        """Return the names of the sites that match a pattern; raise `SiteError` where none does."""
        # In a site name square brackets hold an index; to fnmatch they are a set of characters.
        found = [name for name in self if fnmatchcase(name, pattern.replace("[", "[[]"))]
        return found or [self.resolve(pattern)]

    def _rows(self) -> list[tuple[str, str, str, str]]:
        rows: list[tuple[str, str, str, str]] = []
        for name in self:
            shape, dtype = self._layout(name)
            rows.append((name, ", ".join(self._dims[name]), str(shape), dtype_name(dtype)))
        return rows

    def __repr__(self) -> str:
        table = [("site", "axes", "shape", "dtype"), *self._rows()]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = [f"{self._title()}: {self._size_text()}"]
        for row in table:
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append("  " + "  ".join(cells).rstrip())
        if self.attention_mask is not None:
            padded = int((~self.attention_mask).sum())
            lines.append(f"  {padded} of {self.attention_mask.numel()} positions are padding, which matrices leave out")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._rows())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        head = "<tr><th>site</th><th>axes</th><th>shape</th><th>dtype</th></tr>"
        title = html.escape(f"{self._title()}: {self._size_text()}")
        return f"<p><b>{title}</b></p><table>{head}{body}</table>"

    def _size_text(self) -> str:
        return f"{len(self)} {'site' if len(self) == 1 else 'sites'}, {format_bytes(self.nbytes)}"


def observed(name: str, tensor: torch.Tensor, dims: Sequence[str], attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Return the matrix of a site without its padded rows; see `as_matrix` and `rows_kept`."""
    matrix, kept = as_matrix(tensor, dims), rows_kept(name, dims, tensor.shape, attention_mask)
    return matrix if kept is None else matrix[kept.to(matrix.device)]


def rows_kept(
    name: str, dims: Sequence[str], shape: Sequence[int], attention_mask: torch.Tensor | None
) -> torch.Tensor | None:
    """Return which rows of a site's matrix are no padding, or ``None`` where all are to be kept.

    Parameters
    ----------
    name : str
        The site, maybe with an index. A mask of the source text says nothing of a decoder.
    dims : sequence of str
        Names of its axes.
    shape : sequence of int
        Its shape.
    attention_mask : torch.Tensor of shape (n_samples, n_positions) or None

    Examples
    --------
    >>> mask = torch.tensor([[True, True, False]])
    >>> rows_kept("embed", ("sample", "position", "unit"), (1, 3, 8), mask)
    tensor([ True,  True, False])
    """
    along = padded_axis(name, dims)
    if attention_mask is None or along is None:
        return None
    index = {axis: entry for axis, entry in SiteReference.parse(name).index.items() if axis in ("sample", along)}
    chosen = SiteReference(name, index).locate(("sample", along), attention_mask.shape)
    assert chosen is not None  # a whole mask is never outside its own window
    mask = chosen.pick(attention_mask)
    if tuple(mask.shape) != (shape[dims.index("sample")], shape[dims.index(along)]):
        return None  # positions of another sequence than the one that was padded
    rows = axes_of_observations(dims)
    sizes = [shape[dims.index(axis)] for axis in rows]
    return as_matrix(mask_along(mask, rows, along).expand(sizes), rows)[:, 0]


def padded_axis(name: str, dims: Sequence[str]) -> str | None:
    """Return the axis of a site along which its inputs are padded; None where an attention mask says nothing of it.

    Examples
    --------
    >>> padded_axis("blocks.0.pattern", ("sample", "head", "query", "key"))
    'query'
    """
    if "sample" not in dims or name.startswith("decoder."):
        return None
    return next((axis for axis in ("position", "query") if axis in dims), None)


def mask_along(mask: torch.Tensor, dims: Sequence[str], along: str) -> torch.Tensor:
    """Return a mask ``(n_samples, n_positions)`` with as many axes as ``dims``, of length 1 where it says nothing.

    Examples
    --------
    >>> mask_along(torch.ones(2, 5), ("position", "sample", "unit"), "position").shape
    torch.Size([5, 2, 1])
    """
    mask = mask if dims.index("sample") < dims.index(along) else mask.T
    sizes = iter(mask.shape)
    return mask.reshape([next(sizes) if axis in ("sample", along) else 1 for axis in dims])


def format_bytes(n_bytes: int) -> str:
    """Return a number of bytes for people to read.

    Examples
    --------
    >>> format_bytes(999), format_bytes(2_400_000)
    ('999 bytes', '2.4 MB')
    """
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    power = min(int(math.log10(n_bytes) / 3), 4)
    return f"{n_bytes / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def check_dims(name: str, dims: Sequence[str] | None, n_axes: int) -> tuple[str, ...]:
    """Return the axis names of one tensor; raise `InputError` unless there is one distinct name per axis.

    Examples
    --------
    >>> check_dims("embed", ["sample", "unit"], 2)
    ('sample', 'unit')
    """
    if dims is None or isinstance(dims, str) or len(dims) != n_axes or len(set(dims)) != n_axes:
        raise InputError(
            f"the axes of {name!r} are not all named",
            expected=f"{n_axes} different names, one per axis",
            got=dims,
            fix="pass dims such as {'blocks.0.resid_pre': ('sample', 'position', 'unit')}",
        )
    return tuple(dims)
