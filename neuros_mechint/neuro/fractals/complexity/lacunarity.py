"""Lacunarity: how unevenly a pattern fills space, at each scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from matplotlib.ticker import ScalarFormatter

from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.figures.plotting import PALETTE
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.fractals.signals import Signals, real_tensor, signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Blocks that are left out, one after the other: along a line, and along each side of an area.
_BLOCKS = {1: 10, 2: 4}
# Boxes may be this part of a block: neighbouring blocks share larger ones, and the error would seem too small.
_BLOCK_PER_BOX = {1: 4, 2: 2}
_MOST_CURVES = 6
_ONE_DECADE = 10
_FEWEST_COLUMNS = 2
_FIGURE_SIZE = (6.6, 3.4)


class LacunarityEstimate(Result):
    """Lacunarity of each pattern.

    ``data`` holds, over the axes of the patterns and ``box_size``: ``lacunarity``, ``standard_error``, ``low`` and
    ``high``, the last three NaN for boxes that are too large for the blocks that were left out to learn the error.
    """

    @property
    def values(self) -> np.ndarray:
        """The lacunarity of each pattern at each box size."""
        return self.main.values

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of a new figure."""
        return _FIGURE_SIZE

    def _draw(self, ax: Axes) -> None:
        sizes = self.data["box_size"].values
        curves, errors = (self.data[n].values.reshape(-1, len(sizes)) for n in ("lacunarity", "standard_error"))
        if len(curves) <= _MOST_CURVES:
            for index, curve in enumerate(curves):
                reach = (self.data["high"] - self.main).values.reshape(-1, len(sizes))[index]
                reach = None if np.isnan(errors[index]).all() else np.nan_to_num(reach)
                color = PALETTE[index % len(PALETTE)]
                ax.errorbar(sizes, curve, reach, marker="o", color=color, capsize=3, label=f"pattern {index}")
        else:
            low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
            ax.fill_between(sizes, low, high, color=PALETTE[0], alpha=0.2, linewidth=0, label="middle half")
            ax.plot(sizes, middle, "o-", color=PALETTE[0], label="median")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(ScalarFormatter())
        if curves.max() > _ONE_DECADE * curves.min():
            ax.set_yscale("log")
        ax.set_xlabel("box size (samples)")
        ax.set_ylabel("lacunarity")
        if len(curves) > 1:
            ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return the lacunarity of the smallest and largest boxes in words."""
        sizes, about = self.data["box_size"].values, self.attributes
        values = self.values.reshape(-1, len(sizes))
        pieces = [f"{np.median(values[:, place]):.4g} in boxes of {sizes[place]}" for place in (0, -1)]
        patterns = "" if len(values) == 1 else f", median of {len(values)} patterns"
        return [
            f"lacunarity: {', '.join(pieces)}{patterns} (1 is uniform)",
            f"patterns of {' x '.join(map(str, about['shape']))}; errors from leaving out each of {about['n_blocks']} "
            f"blocks",
        ]


class Lacunarity(Parameterised):
    r"""Lacunarity, :math:`\Lambda(r) = \langle M^2 \rangle / \langle M \rangle^2`, over boxes that glide.

    :math:`M` is the sum of all values in a box of size :math:`r`, for the box at every place where it fits.
    A uniform pattern has 1 at all scales, one with gaps and clusters more, up to the scale of the gaps. Independent
    points of density :math:`p` in :math:`d` dimensions have :math:`1 + (1 - p) / (p\,r^d)`, a fractal of dimension
    :math:`D` is proportional to :math:`r^{D - d}`.

    Values are masses: it is the scale of a pattern that does not matter, an offset fills the gaps. Differentiable in
    the values of a grey pattern.

    Parameters
    ----------
    n_axes : {1, 2}
        How many of the last axes are space: signals, or images.
    box_sizes : sequence of int, optional
        Sides of the boxes, in samples. Without, the powers of 2 up to a quarter of the shortest side.

    Raises
    ------
    OptionError
        A parameter that is none of these.

    References
    ----------
    Allain and Cloitre 1991, Characterizing the lacunarity of random and deterministic fractal sets,
    doi:10.1103/PhysRevA.44.3552

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.Lacunarity(box_sizes=[1, 3, 9, 27])(nm.cantor_set(6))
    tensor([11.3906,  5.1835,  3.2549,  2.2346], dtype=torch.float64)
    """

    def __init__(self, n_axes: int = 1, box_sizes: Sequence[int] | None = None) -> None:
        check_option("n_axes", n_axes, tuple(_BLOCKS))
        self.n_axes = int(n_axes)
        self.box_sizes = None if box_sizes is None else _checked_sizes(box_sizes)

    def __call__(self, x: Any) -> torch.Tensor:
        """Return the lacunarity of each pattern at each box size.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            Patterns ``(..., n_samples)`` or ``(..., height, width)``, of values that are not negative. Labelled
            signals may have time anywhere.

        Returns
        -------
        torch.Tensor of shape (..., n_sizes)

        Raises
        ------
        InputError
            Values that are negative, not finite or all 0, or patterns smaller than a box.
        """
        found, sizes = self._patterns(x)
        return torch.stack(
            [_ratio(*_moments(masses, self.n_axes)) for masses in self._masses(found.values, sizes)], dim=-1
        ).to(found.values)

    def estimate(self, x: Any, level: float = 0.95) -> LacunarityEstimate:
        """Return the lacunarity of each pattern at each box size with its uncertainty.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            As for a call.
        level : float
            Coverage of the intervals.

        Returns
        -------
        LacunarityEstimate
            The error is that of a pattern which goes on as what is seen of it (jackknife over
            10 blocks of a signal, or 16 of an image); of boxes that are large beside these blocks it is not known.

        Raises
        ------
        InputError
            As for a call.
        """
        level = coverage(level)
        found, sizes = self._patterns(x)
        values = found.values.detach().double()
        n_blocks = _BLOCKS[self.n_axes] ** self.n_axes
        largest = min(values.shape[-self.n_axes :]) // _BLOCKS[self.n_axes] // _BLOCK_PER_BOX[self.n_axes]
        columns = []
        for size, masses in zip(sizes, self._masses(values, sizes), strict=True):
            value = _ratio(*_moments(masses, self.n_axes))
            error = _jackknife(masses, self.n_axes) if size <= largest else torch.full_like(value, torch.nan)
            columns.append((value, error))
        lacunarity, error = (torch.stack(list(column), dim=-1) for column in zip(*columns, strict=True))
        reach = t_reach(error, n_blocks - 1, level)
        texts = {
            "lacunarity": (lacunarity, "lacunarity"),
            "standard_error": (error, "standard error"),
            "low": (lacunarity - reach, "lower limit"),
            "high": (lacunarity + reach, "upper limit"),
        }
        dims = (*found.dims, "box_size")
        variables = {n: (dims, v.cpu().numpy(), {"long_name": text, "units": "1"}) for n, (v, text) in texts.items()}
        box_size = ("box_size", list(sizes), {"long_name": "box size", "units": "samples"})
        return LacunarityEstimate(
            xr.Dataset(variables, {**found.coords, "box_size": box_size}),
            "Lacunarity",
            attributes={"level": level, "n_blocks": n_blocks, "shape": list(values.shape[-self.n_axes :])},
            provenance=Provenance.record(arguments={"metric": repr(self), "x": values.cpu().numpy(), "level": level}),
            citations=("allain1991",),
            warnings=_about_large([size for size in sizes if size > largest]),
        )

    def _patterns(self, x: Any) -> tuple[Signals, tuple[int, ...]]:
        """Return checked patterns, with the names of the axes of a batch, and the sizes of boxes."""
        found = signals(x, constant="keep") if self.n_axes == 1 else _areas(x)
        values = found.values.detach()
        if (values < 0).any():
            raise InputError(
                "a mass is negative",
                expected="values of at least 0, which boxes sum up",
                got=f"{int((values < 0).sum())} of {values.numel()} below 0, the lowest {float(values.min()):.3g}",
                fix="pass what stands for mass: power, rates, or where the signal is above a threshold",
            )
        empty = (values == 0).flatten(-self.n_axes).all(-1) if self.n_axes == 2 else (values == 0).all(-1)
        if empty.any():
            raise InputError("a pattern is empty: all its values are 0", got=f"{int(empty.sum())} of {empty.numel()}")
        side = min(values.shape[-self.n_axes :])
        sizes = self.box_sizes or tuple(2**power for power in range((side // 4).bit_length()))
        if not sizes or max(sizes) > side:
            raise InputError(
                "patterns are too small",
                expected=f"at least {max(sizes, default=4)} samples along each side",
                got=f"{side}",
                fix="give smaller box_sizes",
            )
        return found, sizes

    def _masses(self, values: torch.Tensor, sizes: tuple[int, ...]) -> Iterator[torch.Tensor]:
        """Yield for each size the sums over boxes at every place, with space along the last axes."""
        sums = values.double()
        for axis in range(-self.n_axes, 0):
            sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums.cumsum(axis)], dim=axis)
        for size in sizes:
            masses = sums
            for axis in range(-self.n_axes, 0):
                n = masses.shape[axis] - size
                masses = masses.narrow(axis, size, n) - masses.narrow(axis, 0, n)
            yield masses


def _checked_sizes(box_sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(box_sizes, str) or not np.iterable(box_sizes) or not len(box_sizes):
        raise OptionError("box_sizes is no list of sizes", got=repr(box_sizes))
    sizes = [whole("box size", size) for size in box_sizes]
    if len(set(sizes)) < len(sizes):
        raise OptionError("a box size comes twice", got=repr(box_sizes))
    return tuple(sorted(sizes))


def _areas(x: Any) -> Signals:
    """Return images with the checks of signals: each is one of these, with its rows one after the other."""
    if isinstance(x, Recording):
        raise InputError("a recording is no image", fix="pass an array (..., height, width)")
    dims, coords = None, {}
    if isinstance(x, xr.DataArray):
        dims = tuple(map(str, x.dims[:-2]))
        coords = {name: held for name, held in x.coords.items() if set(held.dims) <= set(dims)}
        x = x.values
    images = real_tensor(x, "x")
    if images.ndim < len(_BLOCKS) or images.shape[-1] < _FEWEST_COLUMNS:
        raise InputError("an image has two axes", expected="(..., height, width)", got=f"shape {tuple(images.shape)}")
    found = signals(images.flatten(-len(_BLOCKS)), constant="keep")
    return Signals(found.values.reshape(images.shape), found.dims if dims is None else dims, coords, None)


def _moments(masses: torch.Tensor, n_axes: int) -> tuple[torch.Tensor, torch.Tensor]:
    axes = tuple(range(-n_axes, 0))
    return masses.mean(axes), (masses**2).mean(axes)


def _ratio(mean: torch.Tensor, mean_square: torch.Tensor) -> torch.Tensor:
    return mean_square / mean**2


def _jackknife(masses: torch.Tensor, n_axes: int) -> torch.Tensor:
    """Return the standard error of the lacunarity from leaving out blocks of places."""
    blocks = [masses]
    for axis in range(-n_axes, 0):
        blocks = [part for block in blocks for part in block.tensor_split(_BLOCKS[n_axes], dim=axis)]
    axes = tuple(range(-n_axes, 0))
    sums, squares = (torch.stack([(block**power).sum(axes) for block in blocks]) for power in (1, 2))
    counts = torch.tensor([block[(0,) * (block.ndim - n_axes)].numel() for block in blocks], dtype=torch.float64)
    left = (counts.sum() - counts).reshape(-1, *(1,) * (sums.ndim - 1))
    without = _ratio((sums.sum(0) - sums) / left, (squares.sum(0) - squares) / left)
    return torch.from_numpy(jackknife_error(without.cpu().numpy())).to(without.device)


def _about_large(sizes: list[int]) -> tuple[str, ...]:
    if not sizes:
        return ()
    return (f"boxes of {', '.join(map(str, sizes))} are too large for patterns of this size to know their error",)
